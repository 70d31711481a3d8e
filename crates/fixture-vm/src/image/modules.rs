//! Kernel modules: what each depends on, and the order they must be inserted in.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use anyhow::{Context, Result, bail, ensure};
use goblin::elf::Elf;

use super::pool::Pool;

/// The modules of one kernel, as its package has them: `.ko.xz`, read when asked for.
pub struct Modules<'a> {
    pool: &'a Pool,
    /// Path in the pool by module name, with `_` for `-`.
    paths: BTreeMap<String, String>,
    /// What the kernel has built in.
    built_in: BTreeSet<String>,
    /// Aliases such as `crc32c` that dependencies may use, from what was loaded so far.
    loaded: BTreeMap<String, Module>,
}

struct Module {
    data: Vec<u8>,
    depends: Vec<String>,
    soft_depends: Vec<String>,
    aliases: Vec<String>,
}

/// One module, ready to be inserted.
pub struct Ready<'a> {
    /// File name, `<module>.ko`.
    pub file_name: String,
    /// The uncompressed module.
    pub data: &'a [u8],
}

impl<'a> Modules<'a> {
    /// Finds the modules of `release` in the pool.
    pub fn of_kernel(pool: &'a Pool, release: &str) -> Result<Self> {
        let dir = format!("/usr/lib/modules/{release}/");
        let paths = pool
            .paths(&dir)
            .filter_map(|path| Some((module_name(path)?, path.to_owned())))
            .collect::<BTreeMap<_, _>>();
        let built_in = std::str::from_utf8(pool.data(&format!("{dir}modules.builtin"))?)
            .context("modules.builtin is not text")?
            .lines()
            .filter_map(module_name)
            .collect();
        Ok(Self { pool, paths, built_in, loaded: BTreeMap::new() })
    }

    /// The wanted modules and all they depend on, each after what it depends on, none that
    /// `before` has already.
    pub fn in_order<'w>(
        &mut self,
        wanted: impl Iterator<Item = &'w str>,
        before: &[String],
    ) -> Result<Vec<String>> {
        let mut order = before.to_vec();
        for name in wanted {
            self.visit(&normal(name), &mut order, &mut Vec::new())?;
        }
        self.check_soft_dependencies(&order)?;
        Ok(order.split_off(before.len()))
    }

    /// The bytes of modules that [`Modules::in_order`] named.
    pub fn ready(&self, order: &[String]) -> Vec<Ready<'_>> {
        let ready = |name: &String| Ready { file_name: format!("{name}.ko"), data: &self.loaded[name].data };
        order.iter().map(ready).collect()
    }

    fn visit(&mut self, name: &str, order: &mut Vec<String>, path: &mut Vec<String>) -> Result<()> {
        if order.iter().any(|done| done == name) || self.built_in.contains(name) {
            return Ok(());
        }
        ensure!(!path.iter().any(|above| above == name), "modules {path:?} and {name} depend on each other");
        path.push(name.to_owned());
        for dependency in self.load(name)?.depends.clone() {
            self.visit(&dependency, order, path).with_context(|| format!("module {name}"))?;
        }
        path.pop();
        order.push(name.to_owned());
        Ok(())
    }

    fn load(&mut self, name: &str) -> Result<&Module> {
        if !self.loaded.contains_key(name) {
            let Some(path) = self.paths.get(name) else { bail!("the kernel has no module {name}") };
            let module =
                Module::parse(path, self.pool.data(path)?).with_context(|| format!("reading {path}"))?;
            self.loaded.insert(name.to_owned(), module);
        }
        Ok(&self.loaded[name])
    }

    /// A soft dependency is a name or an alias; which module serves an alias is the recipe's choice.
    fn check_soft_dependencies(&self, order: &[String]) -> Result<()> {
        for (index, name) in order.iter().enumerate() {
            for wanted in &self.loaded[name].soft_depends {
                let serves = |other: &String| other == wanted || self.loaded[other].aliases.contains(wanted);
                ensure!(
                    self.built_in.contains(wanted) || order[..index].iter().any(serves),
                    "module {name} wants `{wanted}` first; add a module that provides it to the recipe"
                );
            }
        }
        Ok(())
    }
}

impl Module {
    fn parse(path: &str, file: &[u8]) -> Result<Self> {
        let mut data = Vec::new();
        if path.ends_with(".xz") {
            liblzma::read::XzDecoder::new(file).read_to_end(&mut data)?;
        } else {
            data.extend_from_slice(file);
        }
        let unsigned = without_signature(&data)?.len();
        data.truncate(unsigned);
        hide_type_info(&mut data)?;
        let info = modinfo(&data)?;
        let values = |key: &str| -> Vec<String> {
            info.iter().filter(|(k, _)| k == key).map(|(_, value)| value.clone()).collect()
        };
        let depends = values("depends").iter().flat_map(|list| list.split(',')).map(normal).collect();
        let soft_depends = values("softdep")
            .iter()
            .filter_map(|line| line.strip_prefix("pre:"))
            .flat_map(|list| list.split("post:").next().unwrap_or_default().split_ascii_whitespace())
            .map(normal)
            .collect();
        let aliases = values("alias").iter().map(|alias| normal(alias)).collect();
        let without_empty = |mut list: Vec<String>| {
            list.retain(|name| !name.is_empty());
            list
        };
        Ok(Self { data, depends: without_empty(depends), soft_depends, aliases })
    }
}

/// The module before the signature that the kernel's build appended.
///
/// The guest trusts its image as a whole; checking an RSA signature for each of fifty modules takes an
/// emulated CPU a good part of the boot. Debian's kernel does not insist on one.
fn without_signature(module: &[u8]) -> Result<&[u8]> {
    const MAGIC: &[u8] = b"~Module signature appended~\n";
    /// `struct module_signature`; its last four bytes are the signature's length, big-endian.
    const TRAILER: usize = 12;
    let Some(signed) = module.strip_suffix(MAGIC) else { return Ok(module) };
    let (rest, length) = signed.split_last_chunk::<4>().context("its signature has no length")?;
    let signature = u32::from_be_bytes(*length) as usize + TRAILER - length.len();
    let end = rest.len().checked_sub(signature).context("its signature is longer than it is")?;
    Ok(&rest[..end])
}

/// Leaves the section `.BTF` without a size, so that the kernel takes the module for one without type
/// information and does not read its own, of several megabytes, for the first module.
fn hide_type_info(module: &mut [u8]) -> Result<()> {
    /// Offset of `sh_size` in an `Elf64_Shdr`.
    const SH_SIZE: usize = 32;
    let elf = Elf::parse(module)?;
    let Some(index) = section(&elf, ".BTF") else { return Ok(()) };
    let header = usize::try_from(elf.header.e_shoff)? + index * usize::from(elf.header.e_shentsize);
    let size = module.get_mut(header + SH_SIZE..header + SH_SIZE + 8);
    size.context("its section headers lie outside the file")?.fill(0);
    Ok(())
}

/// The index of a section.
fn section(elf: &Elf<'_>, name: &str) -> Option<usize> {
    elf.section_headers.iter().position(|header| elf.shdr_strtab.get_at(header.sh_name) == Some(name))
}

/// The `key=value` strings of a module's `.modinfo` section.
fn modinfo(module: &[u8]) -> Result<Vec<(String, String)>> {
    let elf = Elf::parse(module)?;
    let index = section(&elf, ".modinfo").context("it has no .modinfo section")?;
    let range = elf.section_headers[index].file_range().context("its .modinfo section is empty")?;
    let bytes = module.get(range).context("its .modinfo section lies outside the file")?;
    let pairs = bytes.split(|byte| *byte == 0).filter_map(|entry| {
        let (key, value) = std::str::from_utf8(entry).ok()?.split_once('=')?;
        Some((key.to_owned(), value.to_owned()))
    });
    Ok(pairs.collect())
}

/// The module's name from a path such as `kernel/net/8021q/8021q.ko.xz`.
fn module_name(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let stem = file.strip_suffix(".xz").unwrap_or(file).strip_suffix(".ko")?;
    Some(normal(stem))
}

/// The kernel takes `-` and `_` in module names for the same.
fn normal(name: &str) -> String {
    name.trim().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_from_paths() {
        assert_eq!(module_name("/usr/lib/modules/6/kernel/a/crc-itu-t.ko.xz").as_deref(), Some("crc_itu_t"));
        assert_eq!(module_name("kernel/net/8021q/8021q.ko").as_deref(), Some("8021q"));
        assert_eq!(module_name("modules.builtin"), None);
    }

    #[test]
    fn a_signature_is_taken_off_whole() {
        let signed =
            [b"module", &b"sig"[..], &[0; 8], &[0, 0, 0, 3], b"~Module signature appended~\n"].concat();
        assert_eq!(without_signature(&signed).expect("well-formed"), b"module");
        assert_eq!(without_signature(b"module").expect("unsigned"), b"module");
        let message = without_signature(&signed[6..]).map(<[u8]>::len);
        assert_eq!(message.expect("an empty module"), 0);
        assert!(without_signature(&signed[7..]).is_err(), "three bytes claimed, two there");
    }
}
