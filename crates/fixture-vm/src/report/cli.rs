//! `fixture-vm report`: what a user can ask for, and where it goes.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use super::figure::Section;
use super::material::Material;
use super::page;
use crate::events::{Place, told};
use crate::output;

const EXAMPLES: &str = "\
Examples:
  fixture-vm report out/tsn --out report.html
  fixture-vm report last --out report.html
  fixture-vm report out/tsn --svg pictures";

/// What `report` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ReportArgs {
    /// The folder of a set; or a run: its id, the beginning of it, or `last`
    #[arg(value_name = "DIR|RUN")]
    subject: PathBuf,
    /// The HTML file [default: standard output, unless pictures are asked for]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write each picture as an SVG file into this folder
    #[arg(long, value_name = "DIR")]
    svg: Option<PathBuf>,
    /// The event database [default: $FIXTURE_VM_EVENTS, else fixture-vm/events.db in the user's data folder]
    #[arg(long, value_name = "FILE")]
    events_db: Option<PathBuf>,
}

/// Writes what the arguments ask for.
pub fn run(args: &ReportArgs) -> Result<()> {
    let material = material(args)?;
    let sections = page::sections(&material);
    let mut out = output::text();
    match (&args.out, &args.svg) {
        (Some(file), _) => {
            write(file, &page::page(&material, &sections))?;
            writeln!(out, "{}", file.display())?;
        }
        (None, None) => out.write_all(page::page(&material, &sections).as_bytes())?,
        (None, Some(_)) => {}
    }
    if let Some(dir) = &args.svg {
        write_pictures(dir, &sections, &mut out)?;
    }
    Ok(())
}

/// A folder is a set; all else names a run.
fn material(args: &ReportArgs) -> Result<Material> {
    if args.subject.is_dir() {
        return Material::of_set(&args.subject);
    }
    let name = args.subject.display().to_string();
    let place = Place::find(args.events_db.as_deref())?;
    let run = told(&place, &name).with_context(|| format!("{name} is no folder, so it must name a run"))?;
    Material::of_run(run)
}

fn write_pictures(dir: &Path, sections: &[Section], out: &mut impl Write) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    for picture in page::pictures(sections) {
        let file = dir.join(format!("{}.svg", picture.name));
        write(&file, &picture.alone())?;
        writeln!(out, "{}", file.display())?;
    }
    Ok(())
}

fn write(file: &Path, text: &str) -> Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    fs::write(file, text).with_context(|| format!("writing {}", file.display()))
}
