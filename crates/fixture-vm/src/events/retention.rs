//! A database that stays small: above its bound the oldest runs go, whole, one by one.

use anyhow::{Context, Result};
use rusqlite::{Connection, OptionalExtension};

use crate::run::folder::is_running;

/// How much goes at once when the bound is passed: so that not every run has to remove another.
const DOWN_TO_PERCENT: u64 = 90;

/// Reads a size: `64MiB`, `2GiB`, or plain bytes.
pub fn bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("", 1)];
    let size = UNITS.iter().find_map(|(unit, scale)| {
        text.strip_suffix(unit)?.parse::<u64>().ok().and_then(|number| number.checked_mul(*scale))
    });
    size.ok_or_else(|| format!("{text} is no size: expected a number and KiB, MiB or GiB, like 64MiB"))
}

/// Removes the oldest runs until what is left is well below the bound. Runs that go on stay, and so does
/// `not`. Gives how many went.
pub fn keep_to(db: &Connection, bound: u64, not: Option<i64>) -> Result<usize> {
    let mut gone = 0;
    if used(db)? > bound {
        let enough = bound / 100 * DOWN_TO_PERCENT;
        while used(db)? > enough {
            let Some(run) = oldest(db, not)? else { break };
            // Its events go with it. One run at a time: who else writes does not wait for long.
            db.execute("DELETE FROM runs WHERE run = ?1", [run]).context("removing an old run")?;
            gone += 1;
        }
        db.query_row("PRAGMA incremental_vacuum", [], |_| Ok(())).optional()?;
    }
    Ok(gone)
}

/// Bytes of what is in the database, without pages that are free.
pub fn used(db: &Connection) -> Result<u64> {
    let read = |name| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (pages, free, size) = (read("page_count")?, read("freelist_count")?, read("page_size")?);
    u64::try_from((pages - free) * size).context("the database's size is negative")
}

/// The run that began first among those that have ended.
fn oldest(db: &Connection, not: Option<i64>) -> Result<Option<i64>> {
    let mut runs = db.prepare_cached("SELECT run, ended_ns IS NOT NULL, process FROM runs ORDER BY run")?;
    let mut rows = runs.query([])?;
    while let Some(row) = rows.next()? {
        let run: i64 = row.get(0)?;
        let ended: bool = row.get(1)?;
        if Some(run) != not && (ended || !is_running(&row.get::<_, String>(2)?)) {
            return Ok(Some(run));
        }
    }
    Ok(None)
}
