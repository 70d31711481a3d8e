//! Where the database is, how it is opened, and how an older one becomes one of today.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, Error, ErrorCode, OpenFlags, TransactionBehavior};

use crate::exit::Usage;
use crate::xdg;

/// Names another database than the user's.
pub const DATABASE_ENV: &str = "FIXTURE_VM_EVENTS";
/// Says how large the database may become.
pub const BOUND_ENV: &str = "FIXTURE_VM_EVENTS_MAX";

/// How large the database may become, in bytes, if nobody says.
const BOUND: u64 = 256 << 20;

/// How long a writer waits for the others: each of them needs the file for well under a millisecond.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Marks the file as an event database (PRAGMA application_id): `FxEv`.
const APPLICATION: i32 = 0x4678_4576;

/// What each version adds to the one before; version 0 is an empty file.
const MIGRATIONS: [&str; 1] = [include_str!("schema/1.sql")];

/// The version that this program writes.
pub const VERSION: i64 = MIGRATIONS.len() as i64;

/// Where the database is and how large it may become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// Bytes of everything in it, above which the oldest runs go.
    pub bound: u64,
}

impl Place {
    /// The file that was named, or the one of the environment, or the user's.
    pub fn find(named: Option<&Path>) -> Result<Self> {
        let path = match named.map(Path::to_owned).or_else(|| xdg::named(DATABASE_ENV)) {
            Some(path) => path,
            None => xdg::data()?.join("events.db"),
        };
        let path = std::path::absolute(&path).with_context(|| format!("resolving {}", path.display()))?;
        let bound = match std::env::var(BOUND_ENV) {
            Ok(text) => super::retention::bytes(&text).map_err(|why| Usage(format!("{BOUND_ENV}: {why}")))?,
            Err(_) => BOUND,
        };
        Ok(Self { path, bound })
    }

    /// Opens it to write; it is made if it is not there, and brought to today's version.
    pub fn open(&self) -> Result<Connection> {
        self.open_within(PATIENCE)
    }

    /// The same, waiting at most so long for others.
    pub(super) fn open_within(&self, patience: Duration) -> Result<Connection> {
        self.opened(patience).with_context(|| format!("the event database {}", self.path.display()))
    }

    /// Which file the path leads to now: its device and its number there; none if it leads to none.
    pub(super) fn file(&self) -> Option<(u64, u64)> {
        fs::metadata(&self.path).ok().map(|file| (file.dev(), file.ino()))
    }

    fn opened(&self, patience: Duration) -> Result<Connection> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        }
        // A path is a path: without SQLITE_OPEN_URI nothing in it is an option.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        self.check_kind()?;
        let mut db = Connection::open_with_flags(&self.path, flags).context("opening")?;
        db.busy_timeout(patience)?;
        version(&db)?;
        // Of effect only as long as the file is empty.
        db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        write_ahead(&db, patience)?;
        // A crash of the machine may cost the last events; a crash of this program none.
        db.pragma_update(None, "synchronous", "NORMAL")?;
        db.pragma_update(None, "foreign_keys", true)?;
        migrate(&mut db).context("bringing it to this version")?;
        Ok(db)
    }

    /// Opens it to read; nothing done with it can change the database.
    pub fn read(&self) -> Result<Connection> {
        let shown = self.path.display();
        if !self.path.exists() {
            return Err(Usage(format!(
                "there is no event database {shown}: nothing was run yet, or it is elsewhere (--events-db, ${DATABASE_ENV})"
            ))
            .into());
        }
        let context = || format!("the event database {shown}");
        let db = self.open_to_read().with_context(context)?;
        if version(&db).with_context(context)? == VERSION {
            return Ok(db);
        }
        drop(db);
        self.open()?.close().map_err(|(_, error)| error).with_context(context)?;
        self.open_to_read().with_context(context)
    }

    /// SQLite would wait for the other end of a pipe, and write into a device.
    fn check_kind(&self) -> Result<(), Usage> {
        for suffix in ["", "-wal", "-shm", "-journal"] {
            let mut path = self.path.clone().into_os_string();
            path.push(suffix);
            let path = Path::new(&path);
            if fs::metadata(path).is_ok_and(|status| !status.is_file()) {
                let shown = path.display();
                return Err(Usage(format!("{shown} is no regular file; name another with --events-db")));
            }
        }
        Ok(())
    }

    fn open_to_read(&self) -> Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        self.check_kind()?;
        let db = Connection::open_with_flags(&self.path, flags).context("opening")?;
        db.busy_timeout(PATIENCE)?;
        db.pragma_update(None, "foreign_keys", true)?;
        db.pragma_update(None, "query_only", true)?;
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        Ok(db)
    }
}

/// Whether an error is that others keep the database to themselves.
pub fn is_busy(error: &anyhow::Error) -> bool {
    let code = error.chain().find_map(|cause| cause.downcast_ref::<Error>()?.sqlite_error_code());
    matches!(code, Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Writes what the log holds into the file, as far as no reader needs it there, and closes.
pub fn close(db: Connection) -> Result<()> {
    db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
    db.close().map_err(|(_, error)| error).context("closing")
}

/// The database's version; an error for what is no event database, or one of a later program.
fn version(db: &Connection) -> Result<i64> {
    // One statement, so that all three are of one moment: another process may be making the database.
    let read = || -> rusqlite::Result<(i64, i32, i64)> {
        db.query_row(
            "SELECT user_version, application_id, (SELECT count(*) FROM sqlite_schema)
               FROM pragma_user_version, pragma_application_id",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
    };
    let (version, application, objects) = match read() {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => {
            bail!("it is no SQLite database; move it away, or name another with --events-db")
        }
        read => read.context("reading its version")?,
    };
    ensure!(
        application == APPLICATION || objects == 0,
        "it holds something else than events; name another with --events-db"
    );
    ensure!(
        version <= VERSION,
        "its version is {version}, this fixture-vm knows up to {VERSION}; use the newer fixture-vm, or name another with --events-db"
    );
    Ok(version)
}

/// Has changes go to a log beside the file, so that readers and writers do not wait for each other.
fn write_ahead(db: &Connection, patience: Duration) -> Result<()> {
    let until = Instant::now() + patience;
    loop {
        // The change of the mode does not wait for others by itself.
        match db.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0)) {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(mode) => bail!(
                "its file system allows no write-ahead log, only `{mode}`; name another with --events-db"
            ),
            Err(Error::SqliteFailure(error, _))
                if error.code == ErrorCode::DatabaseBusy && Instant::now() < until =>
            {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(error) => return Err(error).context("beginning its write-ahead log"),
        }
    }
}

/// Applies what the database lacks, all of it or nothing.
fn migrate(db: &mut Connection) -> Result<()> {
    if version(db)? == VERSION {
        return Ok(());
    }
    let change = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have been faster.
    let from = usize::try_from(version(&change)?).context("its version is negative")?;
    for sql in &MIGRATIONS[from..] {
        change.execute_batch(sql)?;
    }
    change.pragma_update(None, "application_id", APPLICATION)?;
    change.pragma_update(None, "user_version", VERSION)?;
    change.commit().context("committing")
}
