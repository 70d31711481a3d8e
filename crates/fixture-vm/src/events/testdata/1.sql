-- A database as version 1 left it: one run that passed, one that was killed.
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA application_id = 1182287222;
CREATE TABLE runs (
    run INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, command TEXT NOT NULL, scenario TEXT, seed TEXT, clock TEXT,
    test TEXT, parent INTEGER REFERENCES runs (run) ON DELETE SET NULL, process TEXT NOT NULL,
    started_ns INTEGER NOT NULL, ended_ns INTEGER,
    outcome TEXT CHECK (outcome IN ('passed', 'failed', 'broken-off')), detail TEXT, events INTEGER
) STRICT;
CREATE INDEX runs_by_parent ON runs (parent) WHERE parent IS NOT NULL;
CREATE TABLE events (
    event INTEGER PRIMARY KEY, run INTEGER NOT NULL REFERENCES runs (run) ON DELETE CASCADE,
    mono_ns INTEGER NOT NULL, wall_ns INTEGER NOT NULL,
    source TEXT NOT NULL CHECK (source IN ('host', 'vm', 'guest', 'network', 'test')), type TEXT NOT NULL,
    test TEXT, data TEXT NOT NULL CHECK (json_valid(data))
) STRICT;
CREATE INDEX events_by_run ON events (run, event);
CREATE INDEX events_by_wall ON events (wall_ns);
CREATE INDEX events_by_type ON events (type, event);
CREATE INDEX events_by_test ON events (test, event) WHERE test IS NOT NULL;
INSERT INTO runs VALUES (1, '0a1b2c3d', 'run', 'small', '18446744073709551615', 'virtual', NULL, NULL, '1 1',
    1767225600000000000, 1767225603000000000, 'passed', '/out/small', 2);
INSERT INTO runs VALUES (2, '4e5f6071', 'run', 'small', '1', 'real', NULL, NULL, '1 1',
    1767225610000000000, NULL, NULL, NULL, NULL);
INSERT INTO events VALUES (1, 1, 10, 1767225600000000010, 'host', 'host.stage-started', NULL,
    '{"host":{"event":"stage-started","stage":"plan"}}');
INSERT INTO events VALUES (2, 1, 20, 1767225600000000020, 'vm', 'vm.started', NULL,
    '{"qemu":{"continued":false,"event":"started","pid":7}}');
INSERT INTO events VALUES (3, 2, 10, 1767225610000000010, 'guest', 'guest.ready', NULL,
    '{"guest":{"event":"ready","mono_ns":5,"seq":0,"wall_ns":6}}');
PRAGMA user_version = 1;
