//! The configuration of a node's lldpd, in the language of lldpcli(8). Given as a file at the start: lldpd
//! stays paused if it is configured by calls while it starts.

use fixture::scenario::{Lldp, Node};

pub fn config(node: &Node, settings: &Lldp) -> String {
    let ports: Vec<&str> = node.ports.iter().map(|port| port.name.as_str()).collect();
    let mut lines = vec![
        format!("configure system hostname {}", node.name),
        format!("configure system interface pattern {}", ports.join(",")),
        "configure lldp portidsubtype ifname".into(),
        format!("configure lldp tx-interval {}", settings.tx_interval.0 / 1_000_000_000),
        format!("configure lldp tx-hold {}", settings.tx_hold),
    ];
    if let Some(description) = &settings.description {
        lines.insert(1, format!("configure system description {}", quoted(description)));
    }
    lines.join("\n") + "\n"
}

/// One word for lldpcli's tokenizer (lldpd's src/client/tokenizer.c), whatever is in the text: between double quotes
/// only the double quote and the backslash, which escapes in quotes too, mean something. A line cannot hold a newline,
/// nor a word the bytes 0 and 2; the host refuses a text with one of them.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The words of a line by the rules of lldpd's tokenizer; none where it finds an unmatched quote or escape.
    fn words(line: &str) -> Option<Vec<String>> {
        let (mut words, mut word) = (Vec::new(), None::<String>);
        let (mut escaped, mut quote) = (false, None);
        for c in line.chars() {
            match c {
                '#' if !escaped && quote.is_none() => break,
                '\\' if !escaped => escaped = true,
                '\'' | '"' if !escaped && quote.is_none() => {
                    quote = Some(c);
                    word.get_or_insert_default();
                }
                _ if !escaped && quote == Some(c) => quote = None,
                ' ' | '\n' | '\t' if !escaped && quote.is_none() => words.extend(word.take()),
                _ => {
                    word.get_or_insert_default().push(c);
                    escaped = false;
                }
            }
        }
        words.extend(word);
        (!escaped && quote.is_none()).then_some(words)
    }

    /// What lldpcli makes of a description.
    fn read(text: &str) -> Option<Vec<String>> {
        words(&format!("configure system description {}", quoted(text)))
    }

    fn command(text: &str) -> Option<Vec<String>> {
        Some(["configure", "system", "description", text].map(str::to_owned).to_vec())
    }

    #[test]
    fn every_text_arrives_as_written() {
        for text in [
            "TSN switch",
            "",
            " two  spaces at each end ",
            r"C:\lab\sw1",
            r"ends with backslash\",
            r"\",
            r#"\""#,
            "the \"left\" one's port",
            "'",
            "# no comment",
            "100% $HOME `date` ; | &",
            "tab\there",
            "Größe 5 µm, 温度",
        ] {
            assert_eq!(read(text), command(text), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn so_does_any_other(text in "[^\\x00\\x02\n]*") {
            prop_assert_eq!(read(&text), command(&text));
        }
    }
}
