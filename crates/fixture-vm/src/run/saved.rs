//! Starting from a saved guest, and which failures speak against the saved guest: most speak of this machine.

use std::fs;

use anyhow::Result;

use super::boot::{Place, Site};
use super::events::EventLog;
use crate::output;
use crate::qemu::args::{self, Log, Saved};
use crate::qemu::process::Running;
use crate::warm::{Need, Store, Taken};

/// What QEMU says of a guest that it has read and cannot load, and in no other case (migration/savevm.c,
/// block/snapshot.c, block/qcow2.c); -22 is EINVAL.
const REFUSALS: [&str; 3] = [
    "Error -22 while loading VM state",
    "does not exist in one or more devices",
    "Image is not in qcow2 format",
];

impl Site<'_> {
    /// Starts from the guest that was saved there, if one was that is right.
    ///
    /// One goes only if its bytes are wrong, or if QEMU refuses it twice. Whatever else QEMU fails by (killed, too
    /// few open files, a full disk), the saved guest stays and this run boots: if it is of this machine, the boot
    /// meets it too.
    pub(super) fn take(
        &self,
        store: &Store,
        place: &Place,
        need: Need,
        log: &mut EventLog,
    ) -> Result<Option<Running>> {
        let (files, disk) = (&self.prepared.files, self.disk());
        let mut refused = false;
        loop {
            let taken = store.take(&place.key, need, &disk, &files.console, &files.events)?;
            let Some(Taken { over }) = taken else { return Ok(None) };
            let saved = Saved { disk: disk.clone(), over, resume: Some(args::SAVED_AS) };
            let why = match self.start(Some(saved), Log::Discarded, log) {
                Ok(running) => return Ok(Some(running)),
                Err(why) => why,
            };
            self.interrupt.check()?;
            let is_wrong = match (self.was_refused(), refused) {
                (false, _) => false,
                (true, true) => true,
                (true, false) => match store.wrong(&place.key) {
                    Ok(None) => {
                        refused = true;
                        continue;
                    }
                    // Whoever cannot look has found nothing.
                    looked => looked.is_ok(),
                },
            };
            if is_wrong {
                output::tell(format_args!(
                    "fixture-vm: the saved guest could not be continued, so it is made again: {why:#}"
                ));
                store.discard(&place.key)?;
            } else {
                output::tell(format_args!(
                    "fixture-vm: the saved guest could not be continued, and stays; this run boots: {why:#}"
                ));
            }
            return Ok(None);
        }
    }

    /// Whether the QEMU that has just ended could not load what it was given.
    fn was_refused(&self) -> bool {
        let said = fs::read(self.folder.path().join("qemu.stderr")).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        REFUSALS.iter().any(|words| said.contains(words))
    }
}
