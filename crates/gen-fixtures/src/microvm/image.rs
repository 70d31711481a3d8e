//! What a guest's image has for its microVMs: a kernel, modules, and the root that they share with the guest.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result};

/// The folder, where `FIXTURE_VM_MICROVM` names no other.
const FOLDER: &str = "/usr/lib/fixture-vm";

/// The parts of an image that microVMs are made of.
#[derive(Debug, PartialEq, Eq)]
pub struct Image {
    /// Uncompressed kernel.
    pub kernel: PathBuf,
    /// Modules that give the guest its KVM.
    pub kvm_modules: PathBuf,
    /// Modules that a microVM loads.
    pub node_modules: PathBuf,
    /// The device with the root.
    pub root: PathBuf,
    /// The folders of the tools, if the root is a Nix store: in that nothing is where others look for it.
    pub tools: Option<String>,
}

impl Image {
    /// Of the guest in which this runs. `root` is what the kernel command line says of its root: device and file
    /// system. The unit of a NixOS guest tells of its store in the environment.
    pub fn of_guest(root: Option<&(String, String)>) -> Result<Self> {
        Self::told_by(root, |name| env::var(name).ok())
    }

    fn told_by(root: Option<&(String, String)>, told: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let folder = PathBuf::from(told("FIXTURE_VM_MICROVM").unwrap_or_else(|| FOLDER.into()));
        let (root, tools) = match told("FIXTURE_VM_STORE") {
            Some(store) => {
                let tools = told("FIXTURE_VM_TOOLS").context("FIXTURE_VM_STORE without FIXTURE_VM_TOOLS")?;
                (store, Some(tools))
            }
            None => {
                let (device, _) = root.context("microVMs share the guest's root, which has no device")?;
                (device.clone(), None)
            }
        };
        let part = |name: &str| folder.join(name);
        let [kernel, kvm_modules, node_modules] = [part("vmlinux"), part("microvm"), part("microvm-node")];
        Ok(Self { kernel, kvm_modules, node_modules, root: root.into(), tools })
    }

    /// Words for the kernel command line of a microVM: what its agent cannot see on the root.
    pub fn words(&self) -> String {
        self.tools.as_ref().map_or_else(String::new, |tools| format!(" fixture.tools={tools}"))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn image(root: Option<&str>, environment: &[(&str, &str)]) -> Result<Image> {
        let root = root.map(|device| (device.to_owned(), "erofs".to_owned()));
        let told =
            |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into());
        Image::told_by(root.as_ref(), told)
    }

    #[test]
    fn a_root_of_its_own_has_everything_in_its_place() {
        let image = image(Some("/dev/pmem0"), &[]).unwrap();
        assert_eq!(image.kernel, Path::new("/usr/lib/fixture-vm/vmlinux"));
        assert_eq!((image.root.as_path(), image.words().as_str()), (Path::new("/dev/pmem0"), ""));
    }

    #[test]
    fn a_store_comes_with_the_places_of_its_tools() {
        let store = ("FIXTURE_VM_STORE", "/dev/disk/by-label/fixture-store");
        let folder = ("FIXTURE_VM_MICROVM", "/nix/store/a-microvm");
        let tools = ("FIXTURE_VM_TOOLS", "/nix/store/b/bin:/nix/store/c/sbin");
        let image = image(None, &[store, folder, tools]).unwrap();
        assert_eq!(image.node_modules, Path::new("/nix/store/a-microvm/microvm-node"));
        assert_eq!(image.root, Path::new(store.1));
        assert_eq!(image.words(), " fixture.tools=/nix/store/b/bin:/nix/store/c/sbin");
    }

    #[test]
    fn a_guest_without_a_root_to_share_says_so() {
        assert!(image(None, &[]).unwrap_err().to_string().contains("has no device"));
        let alone = image(None, &[("FIXTURE_VM_STORE", "/dev/vdb")]).unwrap_err();
        assert_eq!(alone.to_string(), "FIXTURE_VM_STORE without FIXTURE_VM_TOOLS");
    }
}
