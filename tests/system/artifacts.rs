//! What every container needs: the root file system of a small Debian with systemd, and packages of the binary under test.
//!
//! Owns both, and makes each once. The root file system is kept for later runs; the packages live as long as the test binary. A
//! container must not write to either. mmdebstrap needs a third of the time of debootstrap.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use rustix::fs::{FlockOperation, flock};

/// Selects another release of Debian: `trixie` has systemd 257, with `Type=notify-reload`.
const RELEASE_VARIABLE: &str = "HOOKGATE_TEST_DEBIAN";

/// The default release: the oldest with a supported systemd (252), the last without `Type=notify-reload`.
const RELEASE: &str = "bookworm";

fn release() -> String {
    std::env::var(RELEASE_VARIABLE).unwrap_or_else(|_| RELEASE.to_owned())
}

/// What the package needs, and what booting needs.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,libsystemd0";

/// The directory that is kept. Its name has a number for the contents: a change of the contents needs a new number.
fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/system").join(format!("{}-1", release()))
}

/// The root file system; made if it is missing. Concurrent tests and runs wait for the first.
pub(crate) fn root() -> &'static Path {
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
        let root = directory();
        fs::create_dir_all(root.parent().unwrap()).unwrap();
        let lock = File::create(root.with_extension("lock")).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        if !root.is_dir() {
            let unfinished = root.with_extension("unfinished");
            drop(fs::remove_dir_all(&unfinished));
            let mut command = Command::new("mmdebstrap");
            command.args(["--variant=essential", "--mode=root", "--format=directory", "--include", PACKAGES]);
            run(command.arg(release()).arg(&unfinished));
            fs::rename(unfinished, &root).unwrap();
        }
        root.canonicalize().unwrap()
    });
    &ROOT
}

/// The package of the binary under test: an older version, to upgrade from, and the present one.
pub(crate) struct Packages {
    pub(crate) older: PathBuf,
    pub(crate) present: PathBuf,
    /// The presets of the present version.
    pub(crate) presets: PathBuf,
    _directory: tempfile::TempDir,
}

/// The version of [`Packages::older`].
pub(crate) const OLDER: &str = "0.0.9";

/// The packages; made on the first call.
pub(crate) fn packages() -> &'static Packages {
    static PACKAGES: LazyLock<Packages> = LazyLock::new(|| {
        let directory = tempfile::tempdir().unwrap();
        let find = |start: &str| {
            let mut made = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
            made.find(|path| path.file_name().unwrap().to_string_lossy().starts_with(start)).unwrap()
        };
        let make = |version: &str| {
            dist(&["--uncompressed", "--package-version", version], directory.path());
            find(&format!("hookgate_{version}_"))
        };
        let (older, present) = (make(OLDER), make(env!("CARGO_PKG_VERSION")));
        let presets = find(&format!("hookgate-presets_{}_", env!("CARGO_PKG_VERSION")));
        Packages { older, present, presets, _directory: directory }
    });
    &PACKAGES
}

/// The container image of the binary under test.
pub(crate) struct Image {
    pub(crate) layout: PathBuf,
    /// The same as one file.
    pub(crate) archive: PathBuf,
}

/// The container image; made on the first call.
pub(crate) fn image() -> &'static Image {
    static IMAGE: LazyLock<(Image, tempfile::TempDir)> = LazyLock::new(|| {
        let directory = tempfile::tempdir().unwrap();
        dist(&["--oci", "--uncompressed", "--debian", &release()], directory.path());
        let find = |end: &str| {
            let mut made = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
            made.find(|path| path.to_string_lossy().ends_with(end)).unwrap()
        };
        (Image { layout: find(".oci"), archive: find(".oci.tar") }, directory)
    });
    &IMAGE.0
}

/// `cargo xtask dist` with the binary under test.
fn dist(arguments: &[&str], output: &Path) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["xtask", "dist"]).args(arguments);
    command.arg("--binary").arg(env!("CARGO_BIN_EXE_hookgate")).arg("--output").arg(output);
    run(command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()));
}

pub(crate) fn run(command: &mut Command) {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().unwrap_or_else(|error| panic!("{program}: {error}; see `cargo xtask setup`"));
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{program} failed:\n{}", String::from_utf8_lossy(&said));
}
