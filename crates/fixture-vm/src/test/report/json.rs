//! The report for programs: a line of JSON for each test as it ends, and one for the summary.

use serde_json::json;

use crate::test::outcome::{Outcome, Summary};

/// The line of a test.
pub fn test(outcome: &Outcome) -> String {
    json!({ "test": outcome }).to_string()
}

/// The line of the summary.
pub fn summary(summary: &Summary) -> String {
    json!({ "summary": summary }).to_string()
}
