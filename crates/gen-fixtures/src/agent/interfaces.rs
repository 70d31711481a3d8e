//! Gives a microVM's interfaces the names of their ports: the VMM knows only addresses.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use fixture::scenario::Node;
use fixture::value::Mac;

use crate::plan::Batch;

/// Where the kernel lists interfaces.
const NET: &str = "/sys/class/net";

/// The commands for ip(8) that rename each port's interface.
pub fn renames(node: &Node) -> Result<Batch> {
    renames_of(node, &interfaces(Path::new(NET))?)
}

/// Every interface with its address.
fn interfaces(net: &Path) -> Result<Vec<(String, Mac)>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(net).with_context(|| format!("listing {}", net.display()))? {
        let entry = entry.context("listing the interfaces")?;
        let address = fs::read_to_string(entry.path().join("address")).unwrap_or_default();
        if let Ok(address) = address.trim().parse() {
            all.push((entry.file_name().to_string_lossy().into_owned(), address));
        }
    }
    all.sort();
    Ok(all)
}

fn renames_of(node: &Node, interfaces: &[(String, Mac)]) -> Result<Batch> {
    let mut batch = Batch::new();
    for port in &node.ports {
        let Some((name, _)) = interfaces.iter().find(|(_, mac)| *mac == port.mac) else {
            let there: Vec<_> = interfaces.iter().map(|(name, mac)| format!("{name} {mac}")).collect();
            bail!("{}: no interface has its address {}; there are {}", port.name, port.mac, there.join(", "));
        };
        if name != port.name.as_str() {
            batch.push(format!("link set dev {name} name {}", port.name));
        }
    }
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::shipped;

    #[test]
    fn interfaces_are_found_by_address() {
        let scenario = shipped("tsn-three-node.yaml");
        let node = &scenario.nodes[1];
        let macs: Vec<Mac> = node.ports.iter().map(|port| port.mac).collect();
        let there: Vec<_> =
            macs.iter().rev().enumerate().map(|(at, mac)| (format!("eth{at}"), *mac)).collect();
        let last = node.ports.len() - 1;
        let batch = renames_of(node, &there).unwrap();
        assert_eq!(batch[0], format!("link set dev eth{last} name {}", node.ports[0].name));

        let error = renames_of(node, &there[..last]).unwrap_err().to_string();
        assert!(error.contains("no interface has its address") && error.contains("eth0 "), "{error}");
    }

    #[test]
    fn interfaces_without_an_address_are_passed_over() {
        let net = tempfile::tempdir().unwrap();
        for (name, address) in [("eth0", "02:00:00:00:00:07\n"), ("sit0", "0.0.0.0\n")] {
            fs::create_dir(net.path().join(name)).unwrap();
            fs::write(net.path().join(name).join("address"), address).unwrap();
        }
        let found = interfaces(net.path()).unwrap();
        assert_eq!(found, [("eth0".to_owned(), Mac([2, 0, 0, 0, 0, 7]))]);
    }
}
