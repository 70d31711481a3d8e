//! `--shard i/N`: a part of the tests, which stays the same when others come and go.

use std::fmt;
use std::str::FromStr;

use twox_hash::XxHash3_64;

/// One of equal parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    number: u64,
    of: u64,
}

impl Shard {
    /// Whether a test belongs to this part: its name alone decides.
    pub fn has(self, name: &str) -> bool {
        XxHash3_64::oneshot(name.as_bytes()) % self.of == self.number - 1
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parts {
            Some((number, of)) if (1..=of).contains(&number) => Ok(Self { number, of }),
            _ => Err("expected the part and how many there are, like 1/4".into()),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shards_are_read() {
        assert_eq!("2/3".parse::<Shard>().unwrap().to_string(), "2/3");
        for wrong in ["", "1", "0/2", "3/2", "1/0", "a/2", "1/2/3", "-1/2"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_test_stays_in_its_shard_from_one_version_to_the_next() {
        let names = ["lldp-ring", "seed-search", "tsn-three-node", "vlan-trunk"];
        let shard = |name| (1..=3).find(|number| Shard { number: *number, of: 3 }.has(name)).unwrap();
        assert_eq!(names.map(shard), [3, 2, 2, 3]);
    }

    proptest! {
        #[test]
        fn each_test_is_in_one_shard(name in "[a-z0-9-]{1,20}", of in 1_u64..20) {
            let shards = (1..=of).filter(|number| Shard { number: *number, of }.has(&name));
            prop_assert_eq!(shards.count(), 1);
        }

        #[test]
        fn shards_are_about_equal(seed in any::<u32>()) {
            let names: Vec<_> = (0..4000).map(|n| format!("test-{seed}-{n}")).collect();
            for number in 1..=4 {
                let count = names.iter().filter(|name| Shard { number, of: 4 }.has(name)).count();
                prop_assert!((800..1200).contains(&count), "{} of 4000", count);
            }
        }
    }
}
