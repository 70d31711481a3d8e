//! The recipe: which packages, files and kernel modules a Debian guest is made of.

use anyhow::{Context, Result};
use serde::Deserialize;

/// `tools/debian/recipe.yaml`, compiled in, so that an installed binary can build its image too.
pub const BUILT_IN: &str = include_str!("../../../../tools/debian/recipe.yaml");

/// What a Debian guest image holds, before versions are chosen.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Debian release the packages are resolved in, e.g. `trixie`.
    pub suite: String,
    /// Kernel, and the modules that reach the root.
    pub kernel: Kernel,
    /// One concern each; all of them go into the image.
    pub groups: Vec<Group>,
    /// Users of the guest, each with a group of the same name and id.
    pub accounts: Vec<Account>,
    /// Absolute paths of directories that are empty in the image.
    pub directories: Vec<String>,
    /// The program that writes the root file system, run on the host.
    pub builder: Builder,
}

/// The kernel of the guest.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Kernel {
    /// Package that is, or depends on, the kernel image.
    pub package: String,
    /// Modules for the initramfs, without what they depend on.
    pub boot_modules: Vec<String>,
}

/// Packages, files and modules that serve one purpose.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Group {
    /// What an error is told by; two groups may name the same package.
    pub name: String,
    /// Packages that hold the files.
    #[serde(default)]
    pub packages: Vec<String>,
    /// Absolute paths; the libraries they need come by themselves.
    #[serde(default)]
    pub files: Vec<String>,
    /// Kernel modules for the root, without what they depend on.
    #[serde(default)]
    pub modules: Vec<String>,
    /// Whether the guest program loads the modules when a scenario wants them, not at every boot. They are then
    /// in a folder of the group's name, with all that they depend on.
    #[serde(default)]
    pub on_demand: bool,
}

/// A line of the guest's passwd and group files.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// Name of the user and of its group.
    pub name: String,
    /// Both uid and gid.
    pub id: u32,
    /// Home directory.
    pub home: String,
}

/// The tool that writes the root file system.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Builder {
    /// Packages that hold it.
    pub packages: Vec<String>,
    /// Its absolute path in them.
    pub program: String,
}

impl Recipe {
    /// Reads a recipe; an error names line and column.
    pub fn parse(yaml: &str) -> Result<Self> {
        serde_yaml::from_str(yaml).context("the image recipe is not valid")
    }

    /// Every package asked for by name, in the recipe's order, each once.
    pub fn packages(&self) -> Vec<&str> {
        let mut names = vec![self.kernel.package.as_str()];
        let named = self.groups.iter().flat_map(|group| &group.packages).chain(&self.builder.packages);
        for name in named {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    }

    /// The files the root must hold, without their libraries.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().flat_map(|group| &group.files).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_recipe_is_valid_and_names_each_package_once() {
        let recipe = Recipe::parse(BUILT_IN).expect("the committed recipe parses");
        let packages = recipe.packages();
        assert_eq!(packages.iter().filter(|name| **name == "iproute2").count(), 1);
        assert!(packages.contains(&"linux-image-amd64") && packages.contains(&"erofs-utils"));
        assert!(recipe.files().all(|path| path.starts_with("/usr/")));
        assert!(recipe.groups.iter().any(|group| group.modules.iter().any(|name| name == "9pnet_virtio")));
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_place() {
        let with_typo = BUILT_IN.replacen("boot-modules", "boot-module", 1);
        let message = format!("{:#}", Recipe::parse(&with_typo).expect_err("a typo is an error"));
        assert!(message.contains("boot-module") && message.contains("line"), "{message}");
    }
}
