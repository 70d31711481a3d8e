//! What the host gives: fw_cfg files. Reading them is synchronous, so it disturbs no virtual clock.

use std::fs::File;
use std::io::Read;

use anyhow::{Context, Result};
use fixture::contract::input::{
    COURSE_KEY, FAREWELL_SIZE, Farewell, NETWORK_KEY, NONCE_KEY, Opening, PART_SIZE,
};
use fixture::contract::shell::ShellRequest;
use fixture::scenario::Course;
use serde_json::Deserializer;
use serde_json::de::IoRead;

/// The kernel gives these files out in pages; each page costs one port access per byte before its end.
const PAGE: usize = 4096;

/// The network, and what goes with it.
pub fn opening() -> Result<Opening> {
    Ok(Opening::from_bytes(&read(NETWORK_KEY)?)?)
}

/// What happens in the network. To be read only once it has converged: a guest that was saved there is given
/// another.
pub fn course() -> Result<Course> {
    Ok(Course::from_bytes(&read(COURSE_KEY)?)?)
}

/// The shell that the host wants: where it wants one, this stands in the place of the course.
pub fn shell() -> Result<ShellRequest> {
    Ok(ShellRequest::from_bytes(&read(COURSE_KEY)?)?)
}

/// The host's nonce, and whether to hold. It decides nothing, so it is read only when everything is done.
pub fn farewell() -> Result<Farewell> {
    let mut text = String::new();
    let file = open(NONCE_KEY)?;
    file.take(FAREWELL_SIZE as u64).read_to_string(&mut text).context("reading the nonce from fw_cfg")?;
    Ok(Farewell::from_text(&text)?)
}

fn read(key: &str) -> Result<Vec<u8>> {
    let mut file = open(key)?;
    let mut bytes = Vec::new();
    while bytes.len() < PART_SIZE {
        let mut page = [0; PAGE];
        let n = file.read(&mut page).with_context(|| format!("reading {key} from fw_cfg"))?;
        bytes.extend_from_slice(&page[..n]);
        // The rest is padding, and the most expensive part to read.
        if n == 0 || is_whole(&bytes) {
            break;
        }
    }
    Ok(bytes)
}

fn open(key: &str) -> Result<File> {
    let path = format!("/sys/firmware/qemu_fw_cfg/by_name/{key}/raw");
    File::open(&path).with_context(|| {
        format!(
            "opening {path}: is the module qemu_fw_cfg in the image, and was QEMU given -fw_cfg name={key}?"
        )
    })
}

/// Whether the bytes hold a whole JSON value, whatever follows it.
fn is_whole(bytes: &[u8]) -> bool {
    Deserializer::new(IoRead::new(bytes))
        .into_iter::<serde_json::Value>()
        .next()
        .is_some_and(|first| first.is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_whole_at_its_last_brace() {
        let text = br#"{"contract":1,"scenario":{"name":"a } b"}}"#;
        for end in 0..text.len() {
            assert!(!is_whole(&text[..end]), "{end}");
        }
        assert!(is_whole(text));
        assert!(is_whole(&[&text[..], b"     "].concat()));
    }
}
