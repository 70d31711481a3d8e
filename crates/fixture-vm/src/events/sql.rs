//! `events sql`: any question to the database, by a connection that cannot write.

use std::io::Write;

use anyhow::{Context, Result};
use fixture::printable;
use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::types::ValueRef;
use rusqlite::{Batch, Connection};
use serde_json::{Map, Value, json};

use super::cli::Format;
use crate::exit::Usage;

/// What may be asked without a value, of PRAGMAs.
const PRAGMAS: [&str; 6] =
    ["table_info", "table_list", "index_list", "index_info", "user_version", "integrity_check"];

/// Answers one statement; the connection must be one that was opened to read.
///
/// Four things stand between a statement and the file, each enough by itself: the file is opened read-only, the
/// connection is set to `query_only`, the authorizer passes only what reads, and SQLite itself must find the
/// compiled statement read-only.
pub fn answer(db: &Connection, sql: &str, format: Format, out: &mut impl Write) -> Result<()> {
    db.authorizer(Some(only_reading));
    let refused = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::AuthorizationForStatementDenied) => {
            Usage(format!("`events sql` only reads: {error}"))
        }
        _ => Usage(format!("{error}")),
    };
    let mut batch = Batch::new(db, sql);
    let Some(mut statement) = batch.next().map_err(refused)? else {
        return Err(Usage("no statement was given".into()).into());
    };
    if batch.next().map_err(refused)?.is_some() {
        return Err(Usage("`events sql` takes one statement".into()).into());
    }
    if !statement.readonly() {
        return Err(Usage("`events sql` only reads".into()).into());
    }
    let names: Vec<String> = statement.column_names().iter().map(|name| (*name).to_owned()).collect();
    if format == Format::Text {
        writeln!(out, "{}", printable::text(&names.join("\t")))?;
    }
    let mut rows = statement.query([]).map_err(refused)?;
    while let Some(row) = rows.next().context("reading")? {
        match format {
            Format::Text => {
                let cells: rusqlite::Result<Vec<_>> =
                    (0..names.len()).map(|column| row.get_ref(column).map(text)).collect();
                writeln!(out, "{}", cells?.join("\t"))?;
            }
            Format::Jsonl => {
                let mut object = Map::new();
                for (column, name) in names.iter().enumerate() {
                    object.insert(name.clone(), value(row.get_ref(column)?));
                }
                writeln!(out, "{}", Value::Object(object))?;
            }
        }
    }
    Ok(())
}

/// Passes what reads, and nothing that could reach another file.
fn only_reading(context: AuthContext<'_>) -> Authorization {
    match context.action {
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => Authorization::Allow,
        AuthAction::Function { function_name } if function_name != "load_extension" => Authorization::Allow,
        AuthAction::Pragma { pragma_name, .. } if PRAGMAS.contains(&pragma_name) => Authorization::Allow,
        _ => Authorization::Deny,
    }
}

fn text(cell: ValueRef) -> String {
    match cell {
        ValueRef::Null => String::new(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(text) => {
            printable::line(&String::from_utf8_lossy(text).replace(['\t', '\n'], " ")).into_owned()
        }
        ValueRef::Blob(bytes) => hex(bytes),
    }
}

fn value(cell: ValueRef) -> Value {
    match cell {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => json!(number),
        ValueRef::Real(number) => json!(number),
        ValueRef::Text(text) => json!(String::from_utf8_lossy(text)),
        ValueRef::Blob(bytes) => json!(hex(bytes)),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
