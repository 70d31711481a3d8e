//! What a report is made of: a set with its verification, or a run out of the event database.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Result;
use fixture::contract::EVENTS;
use fixture::file;
use fixture::survey::Survey;
use fixture::verify::{Against, Report, verify};

use crate::events::ToldRun;
use crate::exit::Usage;
use crate::run::events::Record;

/// All that a report tells.
#[derive(Default)]
pub struct Material {
    /// What the report is about, as the user named it.
    pub subject: String,
    /// What is in the set; nothing if there is none.
    pub survey: Option<Survey>,
    /// What verification says of the set.
    pub verification: Option<Report>,
    /// What happened.
    pub records: Vec<Record>,
    /// What the reader should know of what is missing.
    pub remarks: Vec<String>,
}

impl Material {
    /// Of the set in a folder.
    pub fn of_set(dir: &Path) -> Result<Self> {
        let mut material = Self { subject: dir.display().to_string(), ..Self::default() };
        material.add_set(dir)?;
        material.add_events(dir)?;
        Ok(material)
    }

    /// Of a run: its events, and its set if that is still where the run put it.
    pub fn of_run(run: ToldRun) -> Result<Self> {
        let ToldRun { id, records, set, window_ns: (began, ended) } = run;
        let mut material = Self { subject: format!("run {id}"), records, ..Self::default() };
        let Some(dir) = set else {
            material.remarks.push("The run published no set.".into());
            return Ok(material);
        };
        if !dir.is_dir() {
            material
                .remarks
                .push(format!("The set that the run published is no longer in {}.", dir.display()));
            return Ok(material);
        }
        material.add_set(&dir)?;
        let manifest = material.survey.as_ref().and_then(|survey| survey.manifest.as_ref());
        let made =
            manifest.map(|manifest| manifest.answered.as_ref().map_or(manifest.run.started_ns, |a| a.at_ns));
        if !made.is_some_and(|made| (began..=ended).contains(&made)) {
            let remark = format!("The set that is in {} now is that of another run.", dir.display());
            material = Self { remarks: vec![remark], survey: None, verification: None, ..material };
        }
        Ok(material)
    }

    fn add_set(&mut self, dir: &Path) -> Result<()> {
        let survey = Survey::of(dir)
            .map_err(|error| Usage(format!("the set {} cannot be read: {error}", dir.display())))?;
        for (file, reason) in &survey.unreadable {
            self.remarks.push(format!("{file} cannot be read: {reason}"));
        }
        self.survey = Some(survey);
        self.verification = Some(verify(dir, &Against::default()));
        Ok(())
    }

    fn add_events(&mut self, dir: &Path) -> Result<()> {
        let path: PathBuf = dir.join(EVENTS);
        let events = file::open_entry(&path, file::LOG).and_then(|file| file::read_from(file, file::LOG));
        let text = match events.and_then(file::text) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Usage(format!("{} cannot be read: {error}", path.display())).into()),
        };
        let mut unknown = 0;
        for line in text.lines() {
            match serde_json::from_str(line) {
                Ok(record) => self.records.push(record),
                Err(_) => unknown += 1,
            }
        }
        if unknown > 0 {
            self.remarks.push(format!("{unknown} lines of {EVENTS} are not events that this version knows."));
        }
        Ok(())
    }
}
