//! The filter language: which tests are meant, by their names, roles, tags and clock.
//!
//! `vlan`, `name(=vlan-trunk)`, `role(bridge) and not tag(nightly)`, `(lldp or tag(ts*)) and clock(virtual)`.

mod parse;

use std::fmt;
use std::str::FromStr;

use fixture::scenario::{Clock, Role, Scenario};
use serde::de::IntoDeserializer;
use serde::de::value::Error as ValueError;
use serde::{Deserialize, Serialize};

/// A filter expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// Every test.
    All,
    /// The test's name.
    Name(Pattern),
    /// The role of one of its nodes.
    Role(Pattern),
    /// One of its tags.
    Tag(Pattern),
    /// Its clock.
    Clock(Clock),
    /// Not that.
    Not(Box<Filter>),
    /// Both.
    And(Box<Filter>, Box<Filter>),
    /// One of the two, or both.
    Or(Box<Filter>, Box<Filter>),
}

/// What a word is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// The word holds this.
    Holds(String),
    /// The word is this.
    Is(String),
    /// The word matches this glob from its begin to its end.
    Glob(glob::Pattern),
}

/// What is wrong with a filter, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterError {
    /// The filter as it was written.
    pub text: String,
    /// Offset of the place in bytes.
    pub at: usize,
    /// Cause and mend.
    pub message: String,
}

impl Filter {
    /// Whether a test is meant; its clock may be another than its scenario's.
    pub fn means(&self, scenario: &Scenario, clock: Clock) -> bool {
        match self {
            Self::All => true,
            Self::Name(pattern) => pattern.matches(&scenario.name),
            Self::Role(pattern) => scenario.nodes.iter().any(|node| pattern.matches(&role_name(node.role))),
            Self::Tag(pattern) => scenario.tags.iter().any(|tag| pattern.matches(tag)),
            Self::Clock(meant) => *meant == clock,
            Self::Not(filter) => !filter.means(scenario, clock),
            Self::And(a, b) => a.means(scenario, clock) && b.means(scenario, clock),
            Self::Or(a, b) => a.means(scenario, clock) || b.means(scenario, clock),
        }
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        parse::parse(text)
    }
}

impl Pattern {
    fn matches(&self, word: &str) -> bool {
        match self {
            Self::Holds(part) => word.contains(part.as_str()),
            Self::Is(whole) => word == whole,
            Self::Glob(glob) => glob.matches(word),
        }
    }
}

/// The role as scenarios write it.
pub fn role_name(role: Role) -> String {
    serde_json::to_value(role).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// One of a few names, as scenarios write them; the error lists them all.
fn named<T: for<'de> Deserialize<'de>>(word: &str) -> Result<T, String> {
    let from = IntoDeserializer::<ValueError>::into_deserializer(word);
    T::deserialize(from).map_err(|error| error.to_string())
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => write!(f, "all()"),
            Self::Name(pattern) => write!(f, "name({pattern})"),
            // A plain word is the whole role or tag.
            Self::Role(Pattern::Is(word)) => write!(f, "role({word})"),
            Self::Role(pattern) => write!(f, "role({pattern})"),
            Self::Tag(Pattern::Is(word)) => write!(f, "tag({word})"),
            Self::Tag(pattern) => write!(f, "tag({pattern})"),
            Self::Clock(clock) => write!(f, "clock({})", clock.name()),
            Self::Not(filter) => write!(f, "not ({filter})"),
            Self::And(a, b) => write!(f, "({a}) and ({b})"),
            Self::Or(a, b) => write!(f, "({a}) or ({b})"),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Holds(part) => write!(f, "{part}"),
            Self::Is(whole) => write!(f, "={whole}"),
            Self::Glob(glob) => write!(f, "{glob}"),
        }
    }
}

impl Serialize for Filter {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let column = self.text[..self.at].chars().count();
        write!(f, "{}\n  {}\n  {:column$}^", self.message, self.text, "")
    }
}

impl std::error::Error for FilterError {}

#[cfg(test)]
mod tests {
    use super::*;
    use fixture::scenario::read::from_yaml;

    fn scenario(name: &str, tags: &str) -> Scenario {
        let text = include_str!("../../../tests/it/data/small.yaml");
        let text = text.replace("name: small", &format!("name: {name}\ntags: {tags}"));
        from_yaml("small.yaml", &text).unwrap()
    }

    #[test]
    fn names_roles_tags_and_clocks_are_matched() {
        let scenario = scenario("vlan-trunk", "[nightly, ts.n]");
        let means = |text: &str| text.parse::<Filter>().unwrap().means(&scenario, Clock::Virtual);
        for yes in [
            "all()",
            "vlan",
            "trunk",
            "vlan*",
            "name(*-trunk)",
            "name(=vlan-trunk)",
            "role(end-station)",
            "role(end-*)",
            "tag(nightly)",
            "tag(ts?n)",
            "clock(virtual)",
            "not role(bridge)",
            "not not vlan",
            "lldp or vlan",
            "vlan and tag(nightly) and not clock(real)",
            // `and` binds before `or`.
            "vlan or lldp and lldp",
            "not (lldp or clock(real))",
        ] {
            assert!(means(yes), "{yes}");
        }
        for no in [
            "lldp",
            "vlan?",
            "name(=vlan)",
            "name(trunk*)",
            "role(bridge)",
            "tag(night)",
            "clock(real)",
            "not vlan or lldp",
            "(vlan or lldp) and lldp",
        ] {
            assert!(!means(no), "{no}");
        }
    }
}
