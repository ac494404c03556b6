//! `cargo xtask setup`: what the other commands need beside Rust itself.
//!
//! Owns the list of those programs and libraries, and their package names. Installs them where it may (root, and a system
//! with apt-get), and otherwise says what to install. Changes nothing where everything is there.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail, ensure};

use crate::command::{self, cargo, is_installed};

/// One thing that is needed.
struct Need {
    /// What it is, and what for.
    what: &'static str,
    is_there: fn() -> bool,
    debian: &'static [&'static str],
    fedora: &'static str,
    arch: &'static str,
}

const NEEDS: &[Need] = &[
    Need {
        what: "a C compiler (ring, and every link)",
        is_there: || is_installed("cc"),
        debian: &["gcc", "libc6-dev"],
        fedora: "gcc",
        arch: "gcc",
    },
    Need {
        what: "pkg-config (finds libsystemd)",
        is_there: || is_installed("pkg-config"),
        debian: &["pkg-config"],
        fedora: "pkgconf-pkg-config",
        arch: "pkgconf",
    },
    Need {
        what: "libsystemd's headers (the daemon talks to its service manager)",
        is_there: || succeeds(Command::new("pkg-config").args(["--exists", "libsystemd"])),
        debian: &["libsystemd-dev"],
        fedora: "systemd-devel",
        arch: "systemd-libs",
    },
    Need {
        what: "openssl (a client in tests and demo)",
        is_there: || is_installed("openssl"),
        debian: &["openssl"],
        fedora: "openssl",
        arch: "openssl",
    },
    Need {
        what: "curl (a client in tests and demo)",
        is_there: || is_installed("curl"),
        debian: &["curl", "ca-certificates"],
        fedora: "curl",
        arch: "curl",
    },
    Need {
        what: "systemd-analyze (judges the units)",
        is_there: || is_installed("systemd-analyze"),
        debian: &["systemd"],
        fedora: "systemd",
        arch: "systemd",
    },
    Need {
        what: "ip (network namespaces, in the tests of the filter)",
        is_there: || is_installed("ip"),
        debian: &["iproute2"],
        fedora: "iproute",
        arch: "iproute2",
    },
    Need {
        what: "systemd-nspawn (boots the host that the service is tested on)",
        is_there: || !is_root() || is_installed("systemd-nspawn"),
        debian: &["systemd-container"],
        fedora: "systemd-container",
        arch: "systemd",
    },
    Need {
        what: "mmdebstrap (makes that host)",
        is_there: || !is_root() || is_installed("mmdebstrap"),
        debian: &["mmdebstrap"],
        fedora: "mmdebstrap",
        arch: "mmdebstrap",
    },
    Need {
        what: "dpkg-deb (makes the package)",
        is_there: || is_installed("dpkg-deb"),
        debian: &["dpkg"],
        fedora: "dpkg",
        arch: "dpkg",
    },
    Need {
        what: "nft and ethtool (what the filter is compared with under a flood, and how the flood is received)",
        is_there: || !is_root() || is_installed("nft") && is_installed("ethtool"),
        debian: &["nftables", "ethtool"],
        fedora: "nftables ethtool",
        arch: "nftables ethtool",
    },
    Need {
        what: "valgrind (counts the instructions of the micro-benchmarks)",
        is_there: || is_installed("valgrind"),
        debian: &["valgrind"],
        fedora: "valgrind",
        arch: "valgrind",
    },
];

/// The command itself: as [`ensure_ready`], and says so.
pub(crate) fn run() -> Result<()> {
    ensure_ready()?;
    println!("Everything that is needed is installed.");
    Ok(())
}

/// Returns where everything is there, or could be installed. Takes a few milliseconds where nothing is to be done.
pub(crate) fn ensure_ready() -> Result<()> {
    ensure_components()?;
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    for need in &missing {
        eprintln!("missing: {}", need.what);
    }
    if !(is_root() && is_installed("apt-get")) {
        bail!(advice(&missing));
    }
    let packages: Vec<&str> = missing.iter().flat_map(|need| need.debian.iter().copied()).collect();
    apt_install(&packages)?;
    let missing = self::missing();
    ensure!(missing.is_empty(), "still missing after the installation. {}", advice(&missing));
    Ok(())
}

fn missing() -> Vec<&'static Need> {
    NEEDS.iter().filter(|need| !(need.is_there)()).collect()
}

/// rustup's minimal profile has neither rustfmt nor clippy; both lie beside the Cargo of their toolchain.
fn ensure_components() -> Result<()> {
    let cargo = cargo();
    let directory = cargo.parent().unwrap_or(Path::new(""));
    let is_there = |program: &str| directory.join(program).is_file() || is_installed(program);
    if is_there("cargo-fmt") && is_there("cargo-clippy") {
        return Ok(());
    }
    ensure!(
        is_installed("rustup"),
        "rustfmt and clippy are missing; install them as this machine's Rust was installed"
    );
    command::run(Command::new("rustup").args(["component", "add", "rustfmt", "clippy"]))
}

/// Installs Debian packages. The package lists may be older than the packages, or absent altogether, so a failure is tried once
/// more after an update.
///
/// # Errors
///
/// Where apt-get fails again.
pub(crate) fn apt_install(packages: &[&str]) -> Result<()> {
    let install = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(["install", "--yes", "--no-install-recommends"]);
        command::run(command.args(packages))
    };
    if install().is_ok() {
        return Ok(());
    }
    command::run(Command::new("apt-get").arg("update"))?;
    install()
}

fn advice(missing: &[&Need]) -> String {
    let debian = missing.iter().flat_map(|need| need.debian.iter().copied()).collect::<Vec<_>>().join(" ");
    let fedora = missing.iter().map(|need| need.fedora).collect::<Vec<_>>().join(" ");
    let arch = missing.iter().map(|need| need.arch).collect::<Vec<_>>().join(" ");
    format!(
        "Install what is missing, then run this again:\n  \
         Debian, Ubuntu: sudo apt-get install --no-install-recommends {debian}\n  \
         Fedora:         sudo dnf install {fedora}\n  \
         Arch Linux:     sudo pacman -S --needed {arch}"
    )
}

fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Whether this process may install packages, load the filter and make network namespaces: its effective user id is 0, the second number of `Uid:` (proc_pid_status(5)).
pub(crate) fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    line.and_then(|ids| ids.split_whitespace().nth(1)) == Some("0")
}
