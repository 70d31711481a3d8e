//! Finding the guest a user names: the Debian default, NixOS, or a folder with an image of one's own.

use std::path::Path;

use anyhow::Result;

use crate::exit::Usage;
use crate::image::{Builder, Cache, Check, Image, Progress, nixos};
use crate::interrupt::Interrupt;
use crate::room::RoomAt;

/// Finds or builds the image.
pub fn find(guest: &str, interrupt: &Interrupt) -> Result<Image> {
    let cache = Cache::of_user()?;
    find_in(&cache, guest, interrupt).room_at(cache.dir())
}

fn find_in(cache: &Cache, guest: &str, interrupt: &Interrupt) -> Result<Image> {
    match guest {
        "debian" => Builder::default().find_or_build(cache, &Progress::shown(interrupt)),
        "nixos" => nixos::find_or_build(cache, &Progress::shown(interrupt)),
        path if Path::new(path).is_dir() => Image::open(Path::new(path), cache, Check::SinceLastTime),
        other => {
            let message = format!(
                "--guest {other}: say `debian`, `nixos`, or the folder of an image with an image.json"
            );
            Err(Usage(message).into())
        }
    }
}
