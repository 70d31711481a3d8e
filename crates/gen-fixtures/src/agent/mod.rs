//! The node agent: what this program is as PID 1 of a microVM, and how the guest speaks with it.

pub mod breakage;
mod bytes;
pub mod config;
mod drives;
mod exec;
pub mod files;
pub mod frame;
mod interfaces;
mod node;
mod own_clock;
mod port;
pub mod protocol;
mod serve;
#[cfg(test)]
pub mod tests;
mod voice;
mod vsock;

use anyhow::{Context, Result};

use self::drives::Kind;
use self::node::Node;
use self::port::Port;
use self::protocol::Tell;
use self::voice::Voice;
use crate::tools::Tools;
use crate::{boot, kernel_release, random};

/// Is the node until the guest ends it, or until it cannot be.
pub fn run(channel: &str, tools: Option<&str>) -> ! {
    if let Err(error) = begin(channel, tools) {
        println!("fixture-vm: {error:#}");
    }
    boot::power::restart()
}

fn begin(channel: &str, tools: Option<&str>) -> Result<()> {
    // The driver of the channel is one of them.
    boot::load_early_modules()?;
    let port = Port::open(channel)?;
    let voice = Voice::new(port.try_clone().context("sharing the agent's channel")?);
    live(port, &voice, tools).inspect_err(|error| {
        voice.tell(None, Tell::Failed { message: format!("{error:#}") });
    })
}

fn live(port: Port, voice: &Voice, folders: Option<&str>) -> Result<()> {
    let root = drives::wait_for(Kind::Root)?;
    let root = root.to_string_lossy();
    let tools = match folders {
        None => {
            boot::switch_to(&root, "erofs")?;
            Tools::find()?
        }
        Some(folders) => {
            boot::switch_to_store(&root, "erofs")?;
            Tools::find_in(folders)?
        }
    };
    let config = drives::config()?;
    random::mix(format!("{} {}", config.seed, config.node).as_bytes())?;
    let secrets = drives::keep_secrets()?;
    let data = drives::data()?;
    let mut node = Node::build(config, tools, kernel_release()?, data, secrets)?;
    serve::serve(port, voice, &mut node)
}
