-- What was done: one row for each run, replay, and command that ran tests.
CREATE TABLE runs (
    run        INTEGER PRIMARY KEY,
    -- What users name it by: eight hexadecimal digits.
    id         TEXT NOT NULL UNIQUE,
    command    TEXT NOT NULL,
    scenario   TEXT,
    -- 64 bits without a sign, which no INTEGER holds.
    seed       TEXT,
    clock      TEXT,
    -- The test that it was run for, and the run whose test that is.
    test       TEXT,
    parent     INTEGER REFERENCES runs (run) ON DELETE SET NULL,
    -- Process id and start time, to tell a run that goes on from one that was killed.
    process    TEXT NOT NULL,
    started_ns INTEGER NOT NULL,
    -- Absent as long as the run goes on, and for ever if it was killed.
    ended_ns   INTEGER,
    outcome    TEXT CHECK (outcome IN ('passed', 'failed', 'broken-off')),
    -- Where the set is, or why there is none.
    detail     TEXT,
    -- How many events were written, to know when some are missing.
    events     INTEGER
) STRICT;
CREATE INDEX runs_by_parent ON runs (parent) WHERE parent IS NOT NULL;

CREATE TABLE events (
    event   INTEGER PRIMARY KEY,
    run     INTEGER NOT NULL REFERENCES runs (run) ON DELETE CASCADE,
    -- Since the run began, by the host's monotonic clock.
    mono_ns INTEGER NOT NULL,
    -- Since 1970, by the host's clock.
    wall_ns INTEGER NOT NULL,
    source  TEXT NOT NULL CHECK (source IN ('host', 'vm', 'guest', 'network', 'test')),
    -- The source and the event's own name: network.step-done.
    type    TEXT NOT NULL,
    test    TEXT,
    -- The event as events.jsonl has it.
    data    TEXT NOT NULL CHECK (json_valid(data))
) STRICT;
CREATE INDEX events_by_run ON events (run, event);
CREATE INDEX events_by_wall ON events (wall_ns);
CREATE INDEX events_by_type ON events (type, event);
CREATE INDEX events_by_test ON events (test, event) WHERE test IS NOT NULL;
