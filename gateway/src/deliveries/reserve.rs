//! Room on the disk that a start can give back: SQLite needs some pages to open a database, and does not get them of a full disk.
//!
//! Owns the file of the reserve. Must not know what the room is for.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

const NAME: &str = "reserve";

/// What is given back at a time: the file by which processes share the log of SQLite begins with 32 KiB, and a log has more pages.
const PORTION: u64 = 128 * 1024;

/// So many starts with a full disk, one after the other.
const PORTIONS: u64 = 8;

/// Fills the reserve, as far as there is room.
///
/// # Errors
///
/// There is not.
pub(super) fn fill(directory: &Path) -> io::Result<()> {
    let mut file = open(directory)?;
    let has = file.metadata()?.len();
    // Not a hole, which takes no room.
    let lacks = usize::try_from((PORTIONS * PORTION).saturating_sub(has)).unwrap_or_default();
    file.write_all(&vec![0; lacks])?;
    file.sync_all()
}

/// Gives a portion back. Returns whether there was one.
///
/// # Errors
///
/// The file cannot be changed.
pub(super) fn give_back(directory: &Path) -> io::Result<bool> {
    let file = open(directory)?;
    let has = file.metadata()?.len();
    file.set_len(has.saturating_sub(PORTION))?;
    file.sync_all()?;
    Ok(has > 0)
}

fn open(directory: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(directory.join(NAME))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_reserve_is_given_back_in_portions_and_filled_again() {
        let directory = tempfile::tempdir().unwrap();
        let size = || std::fs::metadata(directory.path().join(NAME)).unwrap().len();
        assert!(!give_back(directory.path()).unwrap());
        fill(directory.path()).unwrap();
        assert_eq!(size(), PORTIONS * PORTION);
        assert!(give_back(directory.path()).unwrap());
        assert_eq!(size(), (PORTIONS - 1) * PORTION);
        fill(directory.path()).unwrap();
        assert_eq!(size(), PORTIONS * PORTION);
        (0..PORTIONS).for_each(|_| assert!(give_back(directory.path()).unwrap()));
        assert!(!give_back(directory.path()).unwrap());
    }
}
