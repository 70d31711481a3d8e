//! The host harness: plan, image, boot, wait, collect, verify, publish.

mod image;

use clap::Parser;

/// Boots a pinned guest under QEMU, collects the fixtures it makes, verifies and publishes them
#[derive(Debug, Parser)]
#[command(version)]
enum Cli {
    Image(image::cli::Command),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse() {
        Cli::Image(command) => image::cli::run(command),
    }
}
