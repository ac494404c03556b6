//! `cargo xtask count`: the instructions of every micro-benchmark, against the committed baseline.
//!
//! Time on a shared machine is noise; instructions under valgrind are the same from run to run. Owns the baseline
//! (`benches/micro/instructions.toml`) and the comparison. What the cases do is `benches/micro`'s.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::command::{self, cargo};
use crate::setup;

/// How much more than the baseline is too much. Between runs of one binary the counts differ by less than a thousandth; what
/// the linker happens to do with an unrelated change is more than that.
const TOLERANCE: f64 = 0.05;

/// Instructions that are no change at all: below this, 5 % of the smallest cases would be one or two.
const SLACK: u64 = 8;

const BASELINE: &str = "benches/micro/instructions.toml";

const HEAD: &str =
    "# Instructions of one repetition of each micro-benchmark. Written by `cargo xtask count --bless`; commit it with
# the change that it is the price of.
";

/// Counts, and compares or writes.
#[derive(Debug, Default, Args)]
pub(crate) struct Count {
    /// Write the baseline anew, in place of comparing with it
    #[arg(long)]
    bless: bool,
    /// Count what a release build does, which takes minutes to build, and print it without a comparison
    #[arg(long, conflicts_with = "bless")]
    release: bool,
    /// Only these cases
    #[arg(value_name = "CASE", conflicts_with = "bless")]
    cases: Vec<String>,
}

/// What the counts depend on, beside the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Machine {
    /// As `rustc --version` has it.
    compiler: String,
    /// As `valgrind --version` has it.
    valgrind: String,
    /// What valgrind offers a process of the processor, which is not all that it has: ring takes its code by this.
    processor: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Baseline {
    machine: Machine,
    instructions: BTreeMap<String, u64>,
}

/// A case, as `hookgate-count list` has it.
#[derive(Debug)]
struct Case {
    name: String,
    iterations: u64,
    crypto: bool,
}

/// How a case stands to its baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Same,
    Cheaper,
    Dearer,
    /// There is no baseline, or the machine is another.
    NotCompared,
}

impl Count {
    /// Builds, counts, and prints the table.
    ///
    /// # Errors
    ///
    /// A case that takes more instructions than its baseline allows, or has none; valgrind missing.
    pub(crate) fn run(&self) -> Result<()> {
        setup::require(setup::Task::Count)?;
        let program = build(self.release)?;
        let machine = Machine::look(&program)?;
        let cases = list(&program, &self.cases)?;
        let counts = count(&program, &cases)?;
        if self.release {
            cases.iter().zip(counts).for_each(|(case, count)| println!("{:<22}{count:>14}", case.name));
            return Ok(());
        }
        let path = command::root().join(BASELINE);
        if self.bless {
            let instructions = cases.iter().zip(counts).map(|(case, count)| (case.name.clone(), count)).collect();
            let text = toml::to_string(&Baseline { machine, instructions })?;
            fs::write(&path, format!("{HEAD}\n{text}"))?;
            println!("wrote {BASELINE}");
            return Ok(());
        }
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let baseline: Baseline = toml::from_str(&text).with_context(|| path.display().to_string())?;
        baseline.compare(&machine, &cases, &counts, self.cases.is_empty())
    }
}

impl Machine {
    fn look(program: &Path) -> Result<Self> {
        let processor = said(Command::new("valgrind").args(["-q", "--tool=none"]).arg(program).arg("processor"))?;
        let rustc = env::var_os("RUSTC").map_or_else(|| PathBuf::from("rustc"), PathBuf::from);
        let compiler = said(Command::new(rustc).arg("--version"))?;
        Ok(Self { compiler, valgrind: said(Command::new("valgrind").arg("--version"))?, processor })
    }
}

impl Baseline {
    /// Prints every case beside its baseline. `whole` says that every case was counted.
    fn compare(&self, machine: &Machine, cases: &[Case], counts: &[u64], whole: bool) -> Result<()> {
        let known = &self.machine;
        let same_code = known.compiler == machine.compiler;
        let same_processor = (&known.valgrind, &known.processor) == (&machine.valgrind, &machine.processor);
        let mut table = format!("{:<22}{:>14}{:>14}{:>9}\n", "instructions", "baseline", "now", "change");
        let mut dearer = Vec::new();
        let mut cheaper = Vec::new();
        let mut missing = Vec::new();
        for (case, now) in cases.iter().zip(counts) {
            let Some(before) = self.instructions.get(&case.name) else {
                missing.push(case.name.as_str());
                continue;
            };
            let comparable = same_code && (same_processor || !case.crypto);
            let standing = standing(*before, *now, comparable);
            let change = (*now as f64 / *before as f64 - 1.0) * 100.0;
            let note = match standing {
                Standing::Same => "",
                Standing::Cheaper => "  cheaper",
                Standing::Dearer => "  DEARER",
                Standing::NotCompared => "  not compared",
            };
            writeln!(table, "{:<22}{before:>14}{now:>14}{change:>+8.1}%{note}", case.name)?;
            match standing {
                Standing::Dearer => dearer.push(case.name.as_str()),
                Standing::Cheaper => cheaper.push(case.name.as_str()),
                Standing::Same | Standing::NotCompared => {}
            }
        }
        print!("{table}");
        if !same_code {
            let (before, now) = (&known.compiler, &machine.compiler);
            warn("every case", &format!("the baseline was built by {before}, this by {now}"));
        } else if !same_processor {
            let side = |machine: &Machine| format!("{} on {}", machine.valgrind, machine.processor);
            warn("cases with cryptography", &format!("the baseline is of {}, this of {}", side(known), side(machine)));
        }
        if !cheaper.is_empty() {
            println!(
                "Cheaper by more than the tolerance: {}. Keep it so: `cargo xtask count --bless`.",
                cheaper.join(", ")
            );
        }
        ensure!(
            missing.is_empty(),
            "without a baseline: {}; `cargo xtask count --bless` writes one",
            missing.join(", ")
        );
        let gone = self.instructions.keys().filter(|name| cases.iter().all(|case| case.name != **name));
        let gone = gone.map(String::as_str).collect::<Vec<_>>();
        ensure!(!whole || gone.is_empty(), "{BASELINE} has cases that are no more: {}", gone.join(", "));
        ensure!(
            dearer.is_empty(),
            "more than {:.0} % above the baseline: {}. Make it cheaper, or write down the new price with `cargo xtask \
             count --bless` and commit it with the reason",
            TOLERANCE * 100.0,
            dearer.join(", ")
        );
        Ok(())
    }
}

fn standing(before: u64, now: u64, comparable: bool) -> Standing {
    let margin = ((before as f64 * TOLERANCE) as u64).max(SLACK);
    match comparable {
        false => Standing::NotCompared,
        true if now > before.saturating_add(margin) => Standing::Dearer,
        true if now < before.saturating_sub(margin) => Standing::Cheaper,
        true => Standing::Same,
    }
}

fn warn(what: &str, why: &str) {
    eprintln!("\n!!! NOT COMPARED: {what}, since {why}.");
    eprintln!("!!! To compare from here on, run `cargo xtask count --bless` at a commit that is known to be good.\n");
}

/// Builds the cases and says where they are.
///
/// In the profile of the tests, whose dependencies are built already: an optimized build would cost CI minutes. ring and webpki
/// are optimized there too (see the manifest of the workspace); the rest is not, so what is compared is what the source says.
fn build(release: bool) -> Result<PathBuf> {
    let mut build = cargo();
    match release {
        true => build.args(["build", "--workspace", "--bin", "hookgate-count", "--release"]),
        false => build.args(command::BUILD_FOR_TESTS),
    };
    command::run(&mut build)?;
    let profile = if release { "release" } else { "debug" };
    Ok(command::target()?.join(profile).join("hookgate-count"))
}

fn list(program: &Path, wanted: &[String]) -> Result<Vec<Case>> {
    let text = said(Command::new(program).arg("list"))?;
    let case = |line: &str| match line.split(' ').collect::<Vec<_>>().as_slice() {
        [name, iterations, crypto] => {
            Ok(Case { name: (*name).to_owned(), iterations: iterations.parse()?, crypto: crypto.parse()? })
        }
        _ => bail!("hookgate-count lists {line:?}"),
    };
    let all = text.lines().map(case).collect::<Result<Vec<_>>>()?;
    for name in wanted {
        let known = || all.iter().map(|case| case.name.as_str()).collect::<Vec<_>>().join(", ");
        ensure!(all.iter().any(|case| case.name == *name), "no case {name}; there are {}", known());
    }
    Ok(all.into_iter().filter(|case| wanted.is_empty() || wanted.contains(&case.name)).collect())
}

/// Instructions of one repetition of each case, on as many threads as there are cores.
fn count(program: &Path, cases: &[Case]) -> Result<Vec<u64>> {
    let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = cases.len().div_ceil(threads).max(1);
    thread::scope(|scope| {
        let one = |part: &[Case]| part.iter().map(|case| each(program, case)).collect::<Result<Vec<_>>>();
        let parts: Vec<_> = cases.chunks(share).map(|part| scope.spawn(move || one(part))).collect();
        let mut counts = Vec::new();
        for part in parts {
            counts.extend(part.join().map_err(|_| anyhow::anyhow!("a counting thread panicked"))??);
        }
        Ok(counts)
    })
}

/// What a run with twice the repetitions takes more, by repetition: start and set-up are in both, and cancel out.
fn each(program: &Path, case: &Case) -> Result<u64> {
    let run = |repetitions: u64| total(program, &case.name, repetitions).with_context(|| case.name.clone());
    let (once, twice) = (run(case.iterations)?, run(2 * case.iterations)?);
    Ok(twice.saturating_sub(once).div_ceil(case.iterations))
}

/// All instructions of one run.
fn total(program: &Path, case: &str, repetitions: u64) -> Result<u64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program);
    // An empty environment, since its size moves the stack, and with it what aligned copies take.
    let output = command.args(["run", case, &repetitions.to_string()]).env_clear().envs(path()).output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {text}", output.status);
    // "==1234== Collected : 5678"
    let line = text.lines().find_map(|line| line.split_once("Collected :")).context("callgrind collected nothing")?;
    line.1.trim().parse().with_context(|| format!("callgrind says it collected {}", line.1))
}

/// Where programs are found.
fn path() -> Option<(&'static str, std::ffi::OsString)> {
    env::var_os("PATH").map(|path| ("PATH", path))
}

fn said(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("starting {name}"))?;
    ensure!(output.status.success(), "{name}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_stands_by_its_margin() {
        for (before, now, expected) in [
            (1000, 1050, Standing::Same),
            (1000, 1051, Standing::Dearer),
            (1000, 950, Standing::Same),
            (1000, 949, Standing::Cheaper),
            (40, 48, Standing::Same),
            (40, 49, Standing::Dearer),
        ] {
            assert_eq!(standing(before, now, true), expected, "{before} -> {now}");
            assert_eq!(standing(before, now, false), Standing::NotCompared);
        }
    }

    #[test]
    fn another_machine_is_no_reason_to_fail_and_another_price_is() {
        let machine = |compiler: &str, processor: &str| Machine {
            compiler: compiler.to_owned(),
            valgrind: "valgrind-3".to_owned(),
            processor: processor.to_owned(),
        };
        let instructions = BTreeMap::from([("plain".to_owned(), 1000), ("crypto".to_owned(), 1000)]);
        let baseline = Baseline { machine: machine("rustc 1", "avx2"), instructions };
        let case = |name: &str| Case { name: name.to_owned(), iterations: 1, crypto: name == "crypto" };
        let cases = [case("plain"), case("crypto")];
        let check = |compiler: &str, processor: &str, counts: [u64; 2]| {
            baseline.compare(&machine(compiler, processor), &cases, &counts, true).is_ok()
        };
        assert!(check("rustc 1", "avx2", [1000, 1000]));
        assert!(!check("rustc 1", "avx2", [1000, 2000]));
        assert!(check("rustc 1", "sse2", [1000, 2000]));
        assert!(!check("rustc 1", "sse2", [2000, 1000]));
        assert!(check("rustc 2", "avx2", [2000, 2000]));
        assert!(baseline.compare(&baseline.machine, &cases[..1], &[1000], true).is_err(), "a case is gone");
        let unknown = [case("plain"), case("crypto"), case("new")];
        assert!(baseline.compare(&baseline.machine, &unknown, &[1000; 3], true).is_err(), "a case is new");
    }
}
