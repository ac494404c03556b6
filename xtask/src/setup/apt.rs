//! Debian packages, installed without an upgrade of what is installed already.
//!
//! `apt-get install --no-upgrade` keeps the packages that it is given, but upgrades others that a new package depends on:
//! `libsystemd-dev` needs `libsystemd0` in its own version, and `systemd` needs that one in its own. So every version that the
//! package lists have is simulated, and the newest that changes nothing is installed.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::command;

/// systemd is the service manager of this machine if this directory exists (sd_booted(3)).
const SYSTEMD_RUNS: &str = "/run/systemd/system";

/// Installs `packages`; those that are installed stay as they are. Changes another package only if no version of a wanted package
/// fits it, and only if systemd does not run: in a container.
///
/// # Errors
///
/// apt-get fails, or would change a package of a machine on which systemd runs.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let wanted: Vec<&str> = packages.iter().copied().filter(|package| !is_installed(package)).collect();
    // The package lists may be absent, or older than the packages: a failure is tried once more after an update.
    if install_wanted(&wanted).is_ok() {
        return Ok(());
    }
    command::run(Command::new("apt-get").arg("update"))?;
    install_wanted(&wanted)
}

fn install_wanted(wanted: &[&str]) -> Result<()> {
    let newest: Vec<String> = wanted.iter().map(|package| (*package).to_owned()).collect();
    let chosen = match changed(&newest)?.is_empty() {
        true => newest,
        false => newest.iter().map(|package| choose(package)).collect::<Result<_>>()?,
    };
    let changed = changed(&chosen)?;
    if !changed.is_empty() {
        let (wanted, changed) = (wanted.join(" "), changed.join(", "));
        ensure!(
            !Path::new(SYSTEMD_RUNS).is_dir(),
            "installing {wanted} would change installed packages: {changed}. To allow that, run `apt-get install {wanted}`"
        );
        eprintln!("no version of {wanted} fits the installed packages, so these change too: {changed}");
    }
    let mut command = apt_get();
    command::run(command.args(&chosen))
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
    command.args(["install", "--yes", "--no-install-recommends", "--no-upgrade"]);
    command
}

/// `package`, with `=VERSION` if the newest version would change another package and an older one would not.
fn choose(package: &str) -> Result<String> {
    if changed(&[package.to_owned()])?.is_empty() {
        return Ok(package.to_owned());
    }
    for version in versions(package)? {
        let exact = format!("{package}={version}");
        if changed(std::slice::from_ref(&exact)).is_ok_and(|changed| changed.is_empty()) {
            return Ok(exact);
        }
    }
    Ok(package.to_owned())
}

fn is_installed(package: &str) -> bool {
    let output = Command::new("dpkg-query").args(["--show", "--showformat", "${db:Status-Status}", package]).output();
    output.is_ok_and(|output| output.stdout == b"installed")
}

/// What an installation of `packages` would upgrade or remove.
fn changed(packages: &[String]) -> Result<Vec<String>> {
    let output = apt_get().arg("--simulate").args(packages).output().context("starting apt-get")?;
    let (printed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "apt-get cannot install {}: {}", packages.join(" "), errors.trim());
    Ok(changes(&printed))
}

/// The changes among the lines of a simulation, which are `Inst NAME [OLD] (NEW …` or `Remv NAME [OLD]`. A new package has no
/// `[OLD]`.
pub(super) fn changes(simulation: &str) -> Vec<String> {
    let change = |line: &str| {
        let (action, rest) = line.split_once(' ')?;
        let (name, rest) = rest.split_once(" [")?;
        let (old, rest) = rest.split_once(']')?;
        let new = rest.strip_prefix(" (").and_then(|rest| rest.split(' ').next());
        match (action, new) {
            _ if name.contains(' ') => None,
            ("Inst", Some(new)) => Some(format!("{name} from {old} to {new}")),
            ("Remv", _) => Some(format!("{name} {old} is removed")),
            _ => None,
        }
    };
    simulation.lines().filter_map(change).collect()
}

/// Every version that the package lists have, the newest first.
fn versions(package: &str) -> Result<Vec<String>> {
    let output = Command::new("apt-cache").args(["madison", package]).output().context("starting apt-cache")?;
    Ok(offered(&String::from_utf8_lossy(&output.stdout)))
}

/// The versions among the lines of `apt-cache madison`: `PACKAGE | VERSION | WHERE Packages`.
pub(super) fn offered(lines: &str) -> Vec<String> {
    let binary = lines.lines().filter(|line| line.ends_with("Packages"));
    binary.filter_map(|line| Some(line.split('|').nth(1)?.trim().to_owned())).collect()
}
