//! The kernel: an ELF that QEMU starts directly, taken out of Debian's bzImage.

use std::io::Read as _;

use anyhow::{Context, Result, ensure};
use goblin::elf::Elf;

use super::pool::Pool;

/// Offsets in the bzImage's setup header (Linux x86 boot protocol).
mod header {
    /// Number of 512-byte setup sectors after the boot sector.
    pub const SETUP_SECTS: usize = 0x1f1;
    /// The letters `HdrS`.
    pub const MAGIC: usize = 0x202;
    /// Protocol version; the payload fields came with 2.08.
    pub const VERSION: usize = 0x206;
    /// Offset of the compressed kernel in the protected-mode part.
    pub const PAYLOAD_OFFSET: usize = 0x248;
    /// Length of the compressed kernel, with the length word the build appends.
    pub const PAYLOAD_LENGTH: usize = 0x24c;
}

/// `XEN_ELFNOTE_PHYS32_ENTRY`: the entry point of the PVH boot protocol.
const PVH_ENTRY_NOTE: u32 = 18;

/// A kernel with its release, e.g. `6.12.117+deb13-amd64`.
pub struct Kernel {
    /// What `uname -r` will print, and the folder of its modules.
    pub release: String,
    /// The uncompressed ELF image.
    pub vmlinux: Vec<u8>,
}

impl Kernel {
    /// Takes the one kernel that the pool has.
    pub fn from_pool(pool: &Pool) -> Result<Self> {
        const PREFIX: &str = "/boot/vmlinuz-";
        let paths: Vec<&str> = pool.paths(PREFIX).collect();
        let [path] = paths[..] else {
            anyhow::bail!("the packages have {} kernels where one is wanted: {paths:?}", paths.len());
        };
        let vmlinux = extract(pool.data(path)?).with_context(|| format!("reading the kernel {path}"))?;
        Ok(Self { release: path[PREFIX.len()..].to_owned(), vmlinux })
    }
}

/// The ELF inside a bzImage.
fn extract(bzimage: &[u8]) -> Result<Vec<u8>> {
    ensure!(bzimage.get(header::MAGIC..header::MAGIC + 4) == Some(b"HdrS"), "it is not a bzImage");
    let version = u16::from_le_bytes(field(bzimage, header::VERSION)?);
    ensure!(version >= 0x208, "boot protocol {version:#x} is older than 2.08 and tells no payload");
    let [setup_sectors] = field(bzimage, header::SETUP_SECTS)?;
    let offset = u32::from_le_bytes(field(bzimage, header::PAYLOAD_OFFSET)?) as usize;
    let length = u32::from_le_bytes(field(bzimage, header::PAYLOAD_LENGTH)?) as usize;
    let start = (usize::from(setup_sectors) + 1) * 512 + offset;
    let payload = bzimage.get(start..start + length).context("the payload lies outside the file")?;

    let mut vmlinux = Vec::new();
    match payload {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            ruzstd::decoding::StreamingDecoder::new(payload)
                .context("zstd payload")?
                .read_to_end(&mut vmlinux)
                .context("zstd payload")?;
        }
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            liblzma::read::XzDecoder::new(payload).read_to_end(&mut vmlinux).context("xz payload")?;
        }
        _ => anyhow::bail!("its payload is neither zstd nor xz"),
    }
    ensure!(has_pvh_entry(&vmlinux)?, "it has no PVH entry point, so QEMU cannot start it uncompressed");
    Ok(vmlinux)
}

fn field<const N: usize>(bzimage: &[u8], offset: usize) -> Result<[u8; N]> {
    let bytes = bzimage.get(offset..offset + N).context("the setup header is cut off")?;
    Ok(bytes.try_into().expect("the slice has N bytes"))
}

fn has_pvh_entry(vmlinux: &[u8]) -> Result<bool> {
    let elf = Elf::parse(vmlinux).context("the payload is not an ELF file")?;
    let Some(notes) = elf.iter_note_headers(vmlinux) else { return Ok(false) };
    Ok(notes.flatten().any(|note| note.n_type == PVH_ENTRY_NOTE && note.name == "Xen"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_kernel_is_told() {
        let mut image = vec![0; 0x400];
        assert!(extract(&image).expect_err("no magic").to_string().contains("not a bzImage"));
        image[header::MAGIC..header::MAGIC + 4].copy_from_slice(b"HdrS");
        assert!(extract(&image).expect_err("version 0").to_string().contains("older than 2.08"));
        image[header::VERSION..header::VERSION + 2].copy_from_slice(&0x20f_u16.to_le_bytes());
        image[header::PAYLOAD_LENGTH] = 0xff;
        image[header::PAYLOAD_OFFSET] = 0xff;
        assert!(format!("{:#}", extract(&image).expect_err("zeros")).contains("neither zstd nor xz"));
        image[header::PAYLOAD_LENGTH + 1] = 0xff;
        assert!(format!("{:#}", extract(&image).expect_err("too long")).contains("outside the file"));
    }
}
