//! Every secret of a run, remembered so that none of them is handed over.
//!
//! Of the whole program, not of a manager: whatever fails, and wherever, evidence is handed over.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of a secret.
pub const LENGTH: usize = 32;

/// A secret.
pub type Secret = [u8; LENGTH];

/// Bytes of a form by which it is looked for first.
const SIGN: usize = 4;

/// The longest form: hexadecimal digits.
const LONGEST: usize = 2 * LENGTH;

/// So much of a file is looked at at once.
const PIECE: usize = 1 << 20;

/// All that were made.
static MADE: Mutex<Vec<Secret>> = Mutex::new(Vec::new());

/// Remembers one.
pub fn keep(secret: Secret) {
    made().push(secret);
}

/// How many were made.
pub fn count() -> usize {
    made().len()
}

/// Whether a file has one of them, as bytes or as hexadecimal digits.
pub fn are_told_in(file: &Path) -> io::Result<bool> {
    let forms = forms(&made());
    if forms.is_empty() { Ok(false) } else { has_any(File::open(file)?, &forms) }
}

/// A poisoned list is used on: the panic that poisoned it is about to be reported.
fn made() -> MutexGuard<'static, Vec<Secret>> {
    MADE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Each way in which one could be written, in order.
fn forms(secrets: &[Secret]) -> Vec<Vec<u8>> {
    let forms = |secret: &Secret| {
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        [secret.to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()]
    };
    let mut all: Vec<_> = secrets.iter().flat_map(forms).collect();
    all.sort();
    all
}

/// Whether one of the forms is in what is read, piece by piece.
fn has_any(mut from: impl Read, forms: &[Vec<u8>]) -> io::Result<bool> {
    let mut piece = Vec::new();
    loop {
        // One that lies across two pieces begins in what is kept of the first.
        piece.drain(..piece.len().saturating_sub(LONGEST - 1));
        if from.by_ref().take(PIECE as u64).read_to_end(&mut piece)? == 0 {
            return Ok(false);
        }
        if begins_any(&piece, forms) {
            return Ok(true);
        }
    }
}

fn begins_any(bytes: &[u8], forms: &[Vec<u8>]) -> bool {
    bytes.windows(SIGN).enumerate().any(|(at, sign)| {
        let first = forms.partition_point(|form| &form[..SIGN] < sign);
        let mut with_sign = forms[first..].iter().take_while(|form| &form[..SIGN] == sign);
        with_sign.any(|form| bytes[at..].starts_with(form))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(seed: u8) -> Secret {
        std::array::from_fn(|at| (at as u8).wrapping_mul(37) ^ seed)
    }

    #[test]
    fn a_secret_is_found_in_each_form_wherever_it_lies_and_in_no_other_bytes() {
        let forms = forms(&[3, 7, 0xc3].map(secret));
        let has = |content: &[u8]| has_any(content, &forms).unwrap();
        let hex: String = secret(7).iter().map(|byte| format!("{byte:02x}")).collect();
        for form in [secret(0xc3).to_vec(), hex.to_uppercase().into_bytes(), hex.clone().into_bytes()] {
            for before in [0, 8, PIECE - 1, PIECE - form.len(), PIECE, 2 * PIECE - 5] {
                assert!(has(&[&vec![b'x'; before][..], &form, b"\n"].concat()), "after {before}");
            }
            assert!(!has(&[b"secret: ", &form[..form.len() - 1]].concat()), "not all of it");
        }
        assert!(!has(&[0; 100]) && !has(b""));
    }

    #[test]
    fn a_file_is_known_by_the_secrets_that_were_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        std::fs::write(&path, secret(91)).unwrap();
        keep(secret(91));
        assert!(are_told_in(&path).unwrap());
        std::fs::write(&path, secret(92)).unwrap();
        assert!(!are_told_in(&path).unwrap());
        assert!(count() > 0);
    }
}
