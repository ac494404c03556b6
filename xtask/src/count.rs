//! `cargo xtask count`: compares the instructions of every micro-benchmark with the committed baseline.
//!
//! Times on a shared machine vary; instructions under valgrind do not. Owns the baseline (`benches/micro/instructions.toml`) and the
//! comparison. `benches/micro` owns the cases.

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

/// The tolerated difference from the baseline. Between runs of one binary the counts differ by less than a thousandth, but an unrelated
/// change can move code, which costs more than that.
const TOLERANCE: f64 = 0.05;

/// A difference up to this many instructions is tolerated always: 5 % of the smallest cases would be one or two.
const SLACK: u64 = 8;

const BASELINE: &str = "benches/micro/instructions.toml";

const HEAD: &str =
    "# Instructions of one repetition of each micro-benchmark, written by `cargo xtask count --bless`. Commit it with the
# change that causes the difference.
";

/// Counts instructions.
#[derive(Debug, Default, Args)]
pub(crate) struct Count {
    /// Write the baseline instead of comparing with it
    #[arg(long)]
    bless: bool,
    /// Count the instructions of a release build, which takes minutes, and print them without a comparison
    #[arg(long, conflicts_with = "bless")]
    release: bool,
    /// Only these cases
    #[arg(value_name = "CASE", conflicts_with = "bless")]
    cases: Vec<String>,
}

/// What the counts depend on besides the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Machine {
    /// The output of `rustc --version`.
    compiler: String,
    /// The output of `valgrind --version`.
    valgrind: String,
    /// The processor features that a process under valgrind sees. ring selects its code by them.
    processor: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Baseline {
    machine: Machine,
    instructions: BTreeMap<String, u64>,
}

/// A case that `hookgate-count list` prints.
#[derive(Debug)]
struct Case {
    name: String,
    iterations: u64,
    crypto: bool,
}

/// How the count of a case compares with its baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Same,
    Lower,
    Higher,
    /// The baseline is of another machine.
    NotCompared,
}

impl Count {
    /// Builds, counts, and prints the table.
    ///
    /// # Errors
    ///
    /// A case takes more instructions than its baseline allows, or has no baseline; or valgrind is missing.
    pub(crate) fn run(&self) -> Result<()> {
        setup::require(setup::Task::Count)?;
        let program = build(self.release)?;
        let machine = Machine::current(&program)?;
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
    fn current(program: &Path) -> Result<Self> {
        let processor = output_of(Command::new("valgrind").args(["-q", "--tool=none"]).arg(program).arg("processor"))?;
        let rustc = env::var_os("RUSTC").map_or_else(|| PathBuf::from("rustc"), PathBuf::from);
        let compiler = output_of(Command::new(rustc).arg("--version"))?;
        Ok(Self { compiler, valgrind: output_of(Command::new("valgrind").arg("--version"))?, processor })
    }
}

impl Baseline {
    /// Prints every case beside its baseline. `whole`: every case was counted.
    fn compare(&self, machine: &Machine, cases: &[Case], counts: &[u64], whole: bool) -> Result<()> {
        let known = &self.machine;
        let same_code = known.compiler == machine.compiler;
        let same_processor = (&known.valgrind, &known.processor) == (&machine.valgrind, &machine.processor);
        let mut table = format!("{:<22}{:>14}{:>14}{:>9}\n", "instructions", "baseline", "now", "change");
        let mut higher = Vec::new();
        let mut lower = Vec::new();
        let mut missing = Vec::new();
        for (case, now) in cases.iter().zip(counts) {
            let Some(before) = self.instructions.get(&case.name) else {
                missing.push(case.name.as_str());
                continue;
            };
            let comparable = same_code && (same_processor || !case.crypto);
            let verdict = verdict(*before, *now, comparable);
            let change = (*now as f64 / *before as f64 - 1.0) * 100.0;
            let note = match verdict {
                Verdict::Same => "",
                Verdict::Lower => "  lower",
                Verdict::Higher => "  HIGHER",
                Verdict::NotCompared => "  not compared",
            };
            writeln!(table, "{:<22}{before:>14}{now:>14}{change:>+8.1}%{note}", case.name)?;
            match verdict {
                Verdict::Higher => higher.push(case.name.as_str()),
                Verdict::Lower => lower.push(case.name.as_str()),
                Verdict::Same | Verdict::NotCompared => {}
            }
        }
        print!("{table}");
        if !same_code {
            let (before, now) = (&known.compiler, &machine.compiler);
            warn("every case", &format!("the baseline was built by {before}, this build by {now}"));
        } else if !same_processor {
            let side = |machine: &Machine| format!("{} on {}", machine.valgrind, machine.processor);
            warn(
                "cases with cryptography",
                &format!("the baseline was counted by {}, this by {}", side(known), side(machine)),
            );
        }
        if !lower.is_empty() {
            println!(
                "lower by more than the tolerance: {}. To keep it, run `cargo xtask count --bless`",
                lower.join(", ")
            );
        }
        ensure!(missing.is_empty(), "no baseline for {}: run `cargo xtask count --bless`", missing.join(", "));
        let gone = self.instructions.keys().filter(|name| cases.iter().all(|case| case.name != **name));
        let gone = gone.map(String::as_str).collect::<Vec<_>>();
        ensure!(
            !whole || gone.is_empty(),
            "{BASELINE} has cases that do not exist: {}. Run `cargo xtask count --bless`",
            gone.join(", ")
        );
        ensure!(
            higher.is_empty(),
            "more than {:.0} % above the baseline: {}. Reduce the instructions, or accept them with `cargo xtask count \
             --bless` and commit the file with the reason",
            TOLERANCE * 100.0,
            higher.join(", ")
        );
        Ok(())
    }
}

fn verdict(before: u64, now: u64, comparable: bool) -> Verdict {
    let margin = ((before as f64 * TOLERANCE) as u64).max(SLACK);
    match comparable {
        false => Verdict::NotCompared,
        true if now > before.saturating_add(margin) => Verdict::Higher,
        true if now < before.saturating_sub(margin) => Verdict::Lower,
        true => Verdict::Same,
    }
}

fn warn(what: &str, why: &str) {
    eprintln!("\n!!! NOT COMPARED: {what}, because {why}.");
    eprintln!(
        "!!! To compare on this machine, first run `cargo xtask count --bless` at a commit that is known to be good.\n"
    );
}

/// Builds the cases. Returns the path of the program.
///
/// Uses the profile of the tests, whose dependencies are built already: an optimized build would take minutes in CI. ring and webpki are
/// optimized in that profile too (see the manifest of the workspace). The rest is not, so the counts follow the source.
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
    let text = output_of(Command::new(program).arg("list"))?;
    let case = |line: &str| match line.split(' ').collect::<Vec<_>>().as_slice() {
        [name, iterations, crypto] => {
            Ok(Case { name: (*name).to_owned(), iterations: iterations.parse()?, crypto: crypto.parse()? })
        }
        _ => bail!("hookgate-count printed {line:?}"),
    };
    let all = text.lines().map(case).collect::<Result<Vec<_>>>()?;
    for name in wanted {
        let known = || all.iter().map(|case| case.name.as_str()).collect::<Vec<_>>().join(", ");
        ensure!(all.iter().any(|case| case.name == *name), "no case {name}; the cases are {}", known());
    }
    Ok(all.into_iter().filter(|case| wanted.is_empty() || wanted.contains(&case.name)).collect())
}

/// Instructions of one repetition of each case. Uses one thread per core.
fn count(program: &Path, cases: &[Case]) -> Result<Vec<u64>> {
    let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = cases.len().div_ceil(threads).max(1);
    thread::scope(|scope| {
        let one = |part: &[Case]| part.iter().map(|case| instructions(program, case)).collect::<Result<Vec<_>>>();
        let parts: Vec<_> = cases.chunks(share).map(|part| scope.spawn(move || one(part))).collect();
        let mut counts = Vec::new();
        for part in parts {
            counts.extend(part.join().map_err(|_| anyhow::anyhow!("a counting thread panicked"))??);
        }
        Ok(counts)
    })
}

/// Instructions of one repetition: the difference between a run and one with twice the repetitions. Start and set-up are part of both.
fn instructions(program: &Path, case: &Case) -> Result<u64> {
    let run = |repetitions: u64| total(program, &case.name, repetitions).with_context(|| case.name.clone());
    let (once, twice) = (run(case.iterations)?, run(2 * case.iterations)?);
    Ok(twice.saturating_sub(once).div_ceil(case.iterations))
}

/// All instructions of one run.
fn total(program: &Path, case: &str, repetitions: u64) -> Result<u64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program);
    // An empty environment, because its size moves the stack, and that changes the cost of aligned copies.
    let output = command.args(["run", case, &repetitions.to_string()]).env_clear().envs(path()).output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {text}", output.status);
    // "==1234== Collected : 5678"
    let line = text.lines().find_map(|line| line.split_once("Collected :")).context("callgrind printed no count")?;
    line.1.trim().parse().with_context(|| format!("callgrind printed the count {}", line.1))
}

/// `PATH`, with its name.
fn path() -> Option<(&'static str, std::ffi::OsString)> {
    env::var_os("PATH").map(|path| ("PATH", path))
}

fn output_of(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("starting {name}"))?;
    ensure!(output.status.success(), "{name}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_compared_with_its_margin() {
        for (before, now, expected) in [
            (1000, 1050, Verdict::Same),
            (1000, 1051, Verdict::Higher),
            (1000, 950, Verdict::Same),
            (1000, 949, Verdict::Lower),
            (40, 48, Verdict::Same),
            (40, 49, Verdict::Higher),
        ] {
            assert_eq!(verdict(before, now, true), expected, "{before} -> {now}");
            assert_eq!(verdict(before, now, false), Verdict::NotCompared);
        }
    }

    #[test]
    fn another_machine_does_not_fail_and_a_higher_count_does() {
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
