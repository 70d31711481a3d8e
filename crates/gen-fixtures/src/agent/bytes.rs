//! Bytes in a JSON line: as text where they are text, which is nearly always, and else as hexadecimal digits.

use serde::{Deserialize, Serialize};

/// What a program wrote or a file holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Coded", into = "Coded")]
pub struct Bytes(pub Vec<u8>);

#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Coded {
    Text(String),
    Hex { hex: Digits },
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Digits(Vec<u8>);

impl From<Bytes> for Coded {
    fn from(Bytes(bytes): Bytes) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => Self::Text(text),
            Err(no_text) => Self::Hex { hex: Digits(no_text.into_bytes()) },
        }
    }
}

impl From<Coded> for Bytes {
    fn from(coded: Coded) -> Self {
        match coded {
            Coded::Text(text) => Self(text.into_bytes()),
            Coded::Hex { hex } => Self(hex.0),
        }
    }
}

impl From<Digits> for String {
    fn from(Digits(bytes): Digits) -> Self {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl TryFrom<String> for Digits {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
        let pair = |pair: &[u8]| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        };
        let bytes = text.as_bytes().chunks(2).map(pair).collect::<Option<_>>();
        bytes.map(Self).ok_or("not an even number of hexadecimal digits")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_stays_readable_and_other_bytes_are_digits() {
        let json = |bytes: &[u8]| serde_json::to_string(&Bytes(bytes.to_vec())).unwrap();
        assert_eq!(json("Lüfter\n".as_bytes()), r#""Lüfter\n""#);
        assert_eq!(json(&[0xff, 0x00, 0x1e]), r#"{"hex":"ff001e"}"#);
        for wrong in [r#"{"hex":"ff0"}"#, r#"{"hex":"fg"}"#, r#"{"hex":"é"}"#, "7"] {
            assert!(serde_json::from_str::<Bytes>(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(bytes: Vec<u8>) {
            let json = serde_json::to_string(&Bytes(bytes.clone())).unwrap();
            prop_assert_eq!(serde_json::from_str::<Bytes>(&json).unwrap().0, bytes);
        }
    }
}
