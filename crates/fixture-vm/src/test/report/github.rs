//! Workflow commands of GitHub: an annotation for each test that is not as it should be, its story in a group.

use fixture::printable;

use super::human::{counts, describe};
use crate::test::outcome::{Golden, Outcome, Status, Summary};

/// Renders the report.
pub fn render(outcomes: &[Outcome], summary: &Summary) -> String {
    let mut text = String::new();
    for outcome in outcomes {
        let reason =
            outcome.reason.clone().or_else(|| outcome.failure().map(|failure| failure.reason.clone()));
        let reason = reason.unwrap_or_default();
        match outcome.status {
            Status::Failed => {
                text += &annotation("error", outcome, &format!("failed: {reason}"));
                if let Some(failure) = outcome.failure() {
                    text += &format!("::group::{}\n", data(&outcome.test));
                    let mut story = String::new();
                    describe(&mut story, failure);
                    // What a guest printed must not be taken for a command. The runner passes over blanks before
                    // `::`, and finds `##[` wherever it is.
                    let story: String =
                        story.replace("##[", "# #[").lines().map(|line| format!("|{line}\n")).collect();
                    text += &(story + "::endgroup::\n");
                }
            }
            Status::Flaky => text += &annotation("warning", outcome, &format!("flaky: {reason}")),
            Status::NotRun | Status::Interrupted => {
                text += &annotation("warning", outcome, &format!("not run: {reason}"));
            }
            Status::Passed => {}
        }
        if outcome.is_slow() {
            text += &annotation("notice", outcome, "slow");
        }
        if let Some(Golden::Unknown(why)) = &outcome.golden {
            text += &annotation("notice", outcome, why);
        }
    }
    text + &format!("{}\n", counts(summary))
}

fn annotation(kind: &str, outcome: &Outcome, message: &str) -> String {
    let file = property(&outcome.file.display().to_string());
    format!("::{kind} file={file},title={}::{}\n", property(&outcome.test), data(message))
}

/// Text of a command, as the runner decodes it.
fn data(text: &str) -> String {
    printable::text(text).replace("##[", "# #[").replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Text of a command's property.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
