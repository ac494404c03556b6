//! The state directory on a real file system.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use tempfile::TempDir;

use super::*;

fn directory() -> TempDir {
    let directory = TempDir::new().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).unwrap();
    directory
}

#[test]
fn a_file_is_replaced_as_a_whole_and_private() {
    let at = directory();
    let state = StateDirectory::open(at.path()).unwrap();
    assert_eq!(state.read("ranges.a", 10).unwrap(), None);
    state.write("ranges.a", b"first, longer").unwrap();
    state.write("ranges.a", b"second").unwrap();
    assert_eq!(state.read("ranges.a", 6).unwrap().unwrap(), b"second");
    assert!(matches!(state.read("ranges.a", 5), Err(StateError::TooLarge { limit: 5, .. })));
    assert_eq!(fs::metadata(at.path().join("ranges.a")).unwrap().mode() & 0o777, 0o600);
    state.write("rotation", b"").unwrap();
    assert_eq!(state.list("ranges.").unwrap(), ["ranges.a"]);
    assert_eq!(state.list("").unwrap(), ["ranges.a", "rotation"], "no temporary file is left");
    state.remove("ranges.a").unwrap();
    state.remove("ranges.a").unwrap();
    assert_eq!(state.list("").unwrap(), ["rotation"]);
}

#[test]
fn a_name_is_no_path() {
    let at = directory();
    let state = StateDirectory::open(at.path()).unwrap();
    for name in ["", ".", "..", ".hidden", "a/b", "../a", "A", "a_b", "a~1", "ä", "a\0", &"a".repeat(201)] {
        assert!(matches!(state.write(name, b"x"), Err(StateError::Name { .. })), "{name}");
        assert!(matches!(state.read(name, 1), Err(StateError::Name { .. })), "{name}");
        assert!(matches!(state.remove(name), Err(StateError::Name { .. })), "{name}");
    }
    state.write(&"a".repeat(200), b"x").unwrap();
}

#[test]
fn a_directory_of_others_is_refused() {
    let at = directory();
    for mode in [0o755, 0o770, 0o701] {
        fs::set_permissions(at.path(), Permissions::from_mode(mode)).unwrap();
        let error = StateDirectory::open(at.path()).unwrap_err();
        assert!(error.to_string().contains("change it to 0700"), "{error}");
    }
    let absent = StateDirectory::open(&at.path().join("absent/state")).unwrap_err();
    assert!(absent.to_string().contains("it does not exist; create it"), "{absent}");
    if geteuid().is_root() {
        fs::set_permissions(at.path(), Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::chown(at.path(), Some(65534), None).unwrap();
        let error = StateDirectory::open(at.path()).unwrap_err();
        assert!(error.to_string().contains("belongs to user 65534"), "{error}");
    }
}

#[test]
fn a_missing_directory_is_made_for_its_user_alone() {
    let at = directory();
    let path = at.path().join("state");
    assert!(StateDirectory::look_at(&path).unwrap_err().is_absent());
    assert!(StateDirectory::open_to_read(&path).is_err() && !path.exists(), "only the process that writes makes it");
    StateDirectory::open(&path).unwrap().write("rotation", b"x").unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn what_a_crash_left_is_removed_and_nothing_else() {
    let at = directory();
    for name in ["ranges.a~17", "ranges.a", "Notes", "Notes~1"] {
        fs::write(at.path().join(name), "x").unwrap();
    }
    let state = StateDirectory::open(at.path()).unwrap();
    let mut left = state.names().unwrap();
    left.retain(|name| name != "." && name != "..");
    left.sort();
    assert_eq!(left, ["Notes", "Notes~1", "ranges.a"]);
    assert_eq!(state.list("").unwrap(), ["ranges.a"]);
}

#[test]
fn a_failed_write_leaves_the_old_file() {
    // The rename onto a directory fails after everything else, as late as a disk can.
    let at = directory();
    let state = StateDirectory::open(at.path()).unwrap();
    state.write("ranges.a", b"old").unwrap();
    fs::create_dir(at.path().join("taken")).unwrap();
    let error = state.write("taken", b"new").unwrap_err();
    assert!(error.to_string().contains("the old file stays"), "{error}");
    assert_eq!(error.label(), "failed");
    assert_eq!(state.list("").unwrap(), ["ranges.a", "taken"], "no temporary file is left");
    for (errno, label) in [(Errno::NOSPC, "disk_full"), (Errno::ROFS, "read_only"), (Errno::ACCESS, "not_permitted")] {
        let error = StateError::Write { path: PathBuf::from("a"), source: errno };
        assert_eq!(error.label(), label);
    }
}

#[test]
fn clones_write_one_after_the_other() {
    let at = directory();
    let state = StateDirectory::open(at.path()).unwrap();
    let writers: Vec<_> = (0..8_u8)
        .map(|number| {
            let state = state.clone();
            std::thread::spawn(move || (0..20).for_each(|_| state.write("a", &[number; 1000]).unwrap()))
        })
        .collect();
    writers.into_iter().for_each(|writer| writer.join().unwrap_or_else(|_| panic!("a write failed")));
    let bytes = state.read("a", 1000).unwrap().unwrap();
    assert!(bytes.len() == 1000 && bytes.iter().all(|byte| *byte == bytes[0]));
}
