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

/// lldpcli's lexer knows no escapes, but either quote inside the other.
fn quoted(text: &str) -> String {
    let text = text.replace(['\n', '\r'], " ");
    if text.contains('"') { format!("'{}'", text.replace('\'', " ")) } else { format!("\"{text}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_leaves_its_quotes() {
        assert_eq!(quoted("TSN switch"), "\"TSN switch\"");
        assert_eq!(quoted("the \"left\" one's\nport"), "'the \"left\" one s port'");
    }
}
