//! `cargo xtask units`: checks the units in `systemd/` with systemd-analyze: every line, and how exposed the service is.
//!
//! Needs no running service manager, because systemd-analyze only reads files here.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, bail, ensure};

use crate::command::root;
use crate::setup;

/// The highest allowed exposure of hookgate.service in tenths, on the scale of systemd-analyze: 15 is 1.5 of 10.
const EXPOSURE: u32 = 15;

/// The highest allowed exposure with the drop-in for the filter, which adds CAP_NET_ADMIN and CAP_BPF.
const EXPOSURE_WITH_FILTER: u32 = 17;

/// The place of the drop-in beside the unit.
const DROP_IN: &str = "hookgate.service.d/filter.conf";

/// Checks the units.
///
/// # Errors
///
/// systemd does not understand a line, or the service is more exposed than allowed.
pub(crate) fn check() -> Result<()> {
    setup::require(setup::Task::Units)?;
    let directory = tempfile::tempdir()?;
    let mut units = Vec::new();
    for entry in fs::read_dir(root().join("systemd"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "service" || extension == "socket") {
            let name = path.file_name().context("a file with an extension has a name")?;
            units.push(directory.path().join(name));
            fs::copy(&path, directory.path().join(name))?;
        }
    }
    ensure!(!units.is_empty(), "no unit in systemd/");
    verify(directory.path(), &units)?;
    let service = directory.path().join("hookgate.service");
    expose(&service, EXPOSURE)?;
    let drop_in = directory.path().join(DROP_IN);
    fs::create_dir_all(drop_in.parent().context("a drop-in is in a directory")?)?;
    fs::copy(root().join("systemd/hookgate-filter.conf"), &drop_in)?;
    expose(&service, EXPOSURE_WITH_FILTER)
}

/// Finds unknown keys and values, missing programs, and similar. systemd-analyze only warns of most of them and succeeds, so the lines of
/// its output are examined.
fn verify(directory: &Path, units: &[std::path::PathBuf]) -> Result<()> {
    let installed = directory.join("verified");
    fs::create_dir(&installed)?;
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--man=no"]);
    for unit in units {
        // hookgate is not installed here. Any installed program serves instead.
        let text = fs::read_to_string(unit)?.replace("/usr/bin/hookgate ", "/bin/true ");
        let copy = installed.join(unit.file_name().context("a unit has a name")?);
        fs::write(&copy, text)?;
        command.arg(copy);
    }
    let output = run(&mut command)?;
    let printed = String::from_utf8_lossy(&output.stderr);
    let complaints: Vec<_> = printed.lines().filter(|line| line.contains("hookgate") && !is_expected(line)).collect();
    ensure!(
        output.status.success() && complaints.is_empty(),
        "systemd-analyze verify: {}\n{}",
        output.status,
        complaints.join("\n")
    );
    Ok(())
}

/// A warning before systemd 253, which introduced that type. The unit sets an older type first.
fn is_expected(line: &str) -> bool {
    line.ends_with("Failed to parse service type, ignoring: notify-reload")
}

fn expose(unit: &Path, threshold: u32) -> Result<()> {
    let mut command = Command::new("systemd-analyze");
    command.args(["security", "--offline=true", "--no-pager", &format!("--threshold={threshold}")]).arg(unit);
    let output = run(&mut command)?;
    let table = String::from_utf8_lossy(&output.stdout);
    let verdict = table.lines().last().unwrap_or_default();
    let (whole, tenth) = (threshold / 10, threshold % 10);
    eprintln!("{verdict} (at most {whole}.{tenth})");
    if !output.status.success() {
        let exposed: Vec<_> = table.lines().filter(|line| line.starts_with('✗')).collect();
        bail!("hookgate.service is more exposed than {whole}.{tenth}:\n{}", exposed.join("\n"));
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<Output> {
    // Its output is searched for English words.
    command.env("LC_ALL", "C.UTF-8").output().context("starting systemd-analyze")
}
