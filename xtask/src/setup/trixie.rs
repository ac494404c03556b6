//! Programs of Debian 13 (trixie), beside what is installed: OpenSSL 3.5 and Caddy as clients in tests, and servers with that OpenSSL in the
//! benchmark.
//!
//! Owns the directory `target/trixie`, into which packages are unpacked with everything that they depend on, the C library included. A program is started
//! by its own dynamic linker (ld.so(8)). Must not change a package of this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::command;

/// The repository, signed by the keys of this machine's debian-archive-keyring.
const SOURCE: &str =
    "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie main\n";

/// Where the libraries are, below the root of the unpacked packages.
#[cfg(target_arch = "x86_64")]
const LIBRARIES: (&str, &str) = ("usr/lib/x86_64-linux-gnu", "ld-linux-x86-64.so.2");
#[cfg(not(target_arch = "x86_64"))]
const LIBRARIES: (&str, &str) = ("usr/lib/aarch64-linux-gnu", "ld-linux-aarch64.so.1");

/// A program and the arguments that come before its own.
#[derive(Clone, Debug)]
pub(crate) struct Unpacked {
    /// The dynamic linker.
    pub(crate) program: PathBuf,
    /// The path of its libraries, and the program.
    pub(crate) arguments: Vec<String>,
}

/// The program at this place in the root of Debian 13, such as `usr/sbin/nginx`.
///
/// # Errors
///
/// It is not unpacked.
pub(crate) fn find(place: &str) -> Result<Unpacked> {
    let root = directory()?.join("root");
    let (libraries, linker) = LIBRARIES;
    let (libraries, program) = (root.join(libraries), root.join(place));
    let linker = libraries.join(linker);
    ensure!(program.is_file() && linker.is_file(), "not in {}; run `cargo xtask setup --trixie`", root.display());
    let text = |path: &Path| path.display().to_string();
    Ok(Unpacked { program: linker, arguments: vec!["--library-path".to_owned(), text(&libraries), text(&program)] })
}

/// Unpacks these packages, unless they are there.
///
/// # Errors
///
/// There is no apt-get, or it fails.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let directory = directory()?;
    let done = directory.join(packages.join("-"));
    if done.is_file() {
        return Ok(());
    }
    for part in ["etc", "state/lists/partial", "cache/archives/partial", "root"] {
        fs::create_dir_all(directory.join(part))?;
    }
    fs::write(directory.join("etc/sources.list"), SOURCE)?;
    // Nothing is installed there.
    fs::write(directory.join("state/status"), "")?;
    command::run(apt_get(&directory).args(["--quiet=2", "update"]))?;
    let download = ["--quiet=2", "install", "--yes", "--no-install-recommends", "--download-only"];
    command::run(apt_get(&directory).args(download).args(packages))?;
    for entry in fs::read_dir(directory.join("cache/archives"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            let status = Command::new("dpkg-deb").arg("--extract").arg(&path).arg(directory.join("root")).status();
            ensure!(status.context("starting dpkg-deb")?.success(), "{} cannot be unpacked", path.display());
        }
    }
    fs::remove_dir_all(directory.join("cache"))?;
    fs::write(done, "")?;
    Ok(())
}

/// apt-get with files of its own.
fn apt_get(directory: &Path) -> Command {
    let mut command = Command::new("apt-get");
    let place = |name: &str, path: &str| format!("{name}={}", directory.join(path).display());
    for option in [
        place("Dir::Etc::sourcelist", "etc/sources.list"),
        "Dir::Etc::sourceparts=/dev/null".to_owned(),
        place("Dir::State", "state"),
        place("Dir::State::status", "state/status"),
        place("Dir::Cache", "cache"),
        "APT::Sandbox::User=root".to_owned(),
    ] {
        command.arg("-o").arg(option);
    }
    command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
    command
}

fn directory() -> Result<PathBuf> {
    Ok(command::target()?.join("trixie"))
}
