//! What a microVM's node is told: the run's scenario with its name in it, and secrets, each on a drive of its own.
//!
//! A drive is a magic word, the length of what follows as 64 bits little-endian, JSON or any bytes, and zeros to a
//! whole sector. So drives are told apart by what is in them: their names depend on the VMM.

use fixture::scenario::{Node, Scenario};
use serde::{Deserialize, Serialize};

/// How the drive with the configuration begins.
pub const CONFIG: [u8; 8] = *b"FXVMCONF";
/// How the drive with the secrets begins.
pub const SECRETS: [u8; 8] = *b"FXVMSECR";

/// How the first sector of a data drive begins; the name of its seed follows, then a newline. The rest is the
/// node's own.
pub const DATA: &str = "fixture-vm data seed ";

/// A virtio block device has sectors of so many bytes, whatever its blocks are (virtio 1.3, 5.2.4).
pub const SECTOR: usize = 512;
/// Bytes before the content.
pub const HEADER: usize = 16;
/// More than any content has: a scenario has 64 KiB at most.
const MOST: u64 = 16 << 20;

/// The configuration of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// The seed of the run.
    pub seed: u64,
    /// Name of the node.
    pub node: String,
    /// The scenario, its pools unfolded.
    pub scenario: Scenario,
}

/// Bytes that are no such drive.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// Something else, or a part.
    #[error("a drive of {found} bytes says that it holds {length}")]
    Cut {
        /// What it says.
        length: u64,
        /// What there is.
        found: u64,
    },
    /// Not the JSON of a configuration.
    #[error("the configuration is not readable: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// A node that is not in it.
    #[error("the scenario has no node `{0}`")]
    NoNode(String),
}

/// A drive with this content.
pub fn drive(magic: [u8; 8], content: &[u8]) -> Vec<u8> {
    let mut drive = magic.to_vec();
    drive.extend((content.len() as u64).to_le_bytes());
    drive.extend_from_slice(content);
    drive.resize(drive.len().next_multiple_of(SECTOR), 0);
    drive
}

/// How long the content is that a drive's header tells of.
///
/// # Errors
/// [`DriveError::Cut`] if the drive, of `size` bytes, cannot hold that.
pub fn length(header: &[u8; HEADER], size: u64) -> Result<usize, DriveError> {
    let [.., a, b, c, d, e, f, g, h] = *header;
    let length = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    let fits = length <= MOST && length <= size.saturating_sub(HEADER as u64);
    if fits { Ok(length as usize) } else { Err(DriveError::Cut { length, found: size }) }
}

impl Config {
    /// The drive that holds it.
    ///
    /// # Errors
    /// [`DriveError::Unreadable`] if it cannot be written as JSON.
    pub fn to_drive(&self) -> Result<Vec<u8>, DriveError> {
        Ok(drive(CONFIG, &serde_json::to_vec(self)?))
    }

    /// What such a drive's content says.
    ///
    /// # Errors
    /// [`DriveError::Unreadable`] or [`DriveError::NoNode`].
    pub fn from_content(content: &[u8]) -> Result<Self, DriveError> {
        let config: Self = serde_json::from_slice(content)?;
        let there = config.scenario.nodes.iter().any(|node| node.name == config.node);
        if there { Ok(config) } else { Err(DriveError::NoNode(config.node)) }
    }

    /// The node.
    pub fn node(&self) -> &Node {
        let node = self.scenario.nodes.iter().find(|node| node.name == self.node);
        node.expect("a configuration is read only with its node in it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::shipped;

    #[test]
    fn a_drive_reads_back_and_is_whole_sectors() {
        let scenario = shipped("tsn-three-node.yaml");
        let config = Config { seed: 7, node: scenario.nodes[0].name.clone(), scenario };
        let drive = config.to_drive().unwrap();
        assert_eq!(drive.len() % SECTOR, 0);
        let header = drive[..HEADER].try_into().unwrap();
        let length = length(&header, drive.len() as u64).unwrap();
        assert_eq!(Config::from_content(&drive[HEADER..HEADER + length]).unwrap(), config);

        let other = Config { node: "nobody".into(), ..config };
        let content = serde_json::to_vec(&other).unwrap();
        assert_eq!(
            Config::from_content(&content).unwrap_err().to_string(),
            "the scenario has no node `nobody`"
        );
    }

    #[test]
    fn a_length_beyond_the_drive_is_refused() {
        let header = |length: u64| [CONFIG, length.to_le_bytes()].concat().try_into().unwrap();
        assert_eq!(length(&header(496), 512).unwrap(), 496);
        for (said, size) in [(497, 512), (1, 16), (1, 0), (u64::MAX, u64::MAX)] {
            assert!(matches!(length(&header(said), size), Err(DriveError::Cut { .. })), "{said} in {size}");
        }
    }
}
