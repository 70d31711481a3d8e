//! Loads kernel modules in the order that a list gives: the image builder has sorted them by dependency.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};

/// Loads every module that `folder/order` names, one a line; gives how many. No list, no modules.
pub fn load_all(folder: &Path) -> Result<usize> {
    let list = folder.join("order");
    let order = match fs::read_to_string(&list) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        order => order.with_context(|| format!("reading {}", list.display()))?,
    };
    let names: Vec<&str> = order.lines().map(str::trim).filter(|name| !name.is_empty()).collect();
    for name in &names {
        load(&folder.join(name))?;
    }
    Ok(names.len())
}

fn load(path: &Path) -> Result<()> {
    let file = File::open(path).with_context(|| {
        format!("kernel module {}: missing from the image; build it again", path.display())
    })?;
    match finit_module(file, c"", ModuleInitFlags::empty()) {
        // pvpanic and its like find no device on some machines, KVM's no support, which is no harm.
        Ok(()) | Err(Errno::EEXIST | Errno::ENODEV | Errno::EOPNOTSUPP) => Ok(()),
        Err(error) => bail!("kernel module {}: {}: see the console for why", path.display(), error.desc()),
    }
}
