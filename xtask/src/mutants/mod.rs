//! `cargo xtask mutants`: changes the code that decides, one place at a time, and looks whether a test notices.
//!
//! Owns which files are changed: those that say who a peer is and what it may do. cargo-mutants says what there is to change
//! ([`list`]). A build for each change would take most of the time, so one build has all changes ([`weave`], [`build`]), and a variable
//! of the environment says which of them a run of the tests makes ([`trial`]). The mutants that are left out, each with a reason, are in
//! `.cargo/mutants.toml`.

mod build;
mod list;
mod trial;
mod weave;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use self::build::{Selection, Tree};
use self::list::Mutant;
use self::trial::{Pace, Verdict};
use crate::command;

/// The files that are changed. The tests of their own package judge a mutant.
const FILES: [&str; 7] = [
    "gateway/core/src/identity/**",
    "gateway/core/src/auth/**",
    "gateway/core/src/route/**",
    "gateway/core/src/route.rs",
    "gateway/core/src/ranges.rs",
    "gateway/src/config/ranges.rs",
    "gateway/src/config/range_url.rs",
];

/// The least share of mutants, in percent, that the tests must notice.
const SCORE_MIN: f64 = 95.0;

/// Runs the tests against mutants.
#[derive(Debug, clap::Args)]
pub(crate) struct Mutants {
    /// Only files whose path matches this glob
    #[arg(long)]
    file: Option<String>,
    /// Only mutants whose line in the list contains this text
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// About so many mutants, evenly spread over the files: always the same ones, as long as the code is the same
    #[arg(long, value_name = "COUNT")]
    sample: Option<usize>,
    /// Only those that the last run missed, after tests were added; the score is that of the last run with what has changed
    #[arg(long, conflicts_with_all = ["sample", "name", "file"])]
    missed: bool,
    /// Only those that the last run, which was interrupted, has not come to; the score is that of both runs
    #[arg(long, conflicts_with_all = ["sample", "name", "file", "missed"])]
    resume: bool,
    /// Print the mutants, and test none
    #[arg(long)]
    list: bool,
    /// How many mutants are tested at a time; without it, one for each processor
    #[arg(long, value_name = "COUNT")]
    jobs: Option<usize>,
}

impl Mutants {
    /// Tests the mutants, and prints which share of them the tests notice. `target/mutants.out/missed.txt` names those that no test
    /// noticed.
    ///
    /// # Errors
    ///
    /// cargo-mutants is missing or fails, the code does not build without a mutant, or too few mutants were noticed.
    pub(crate) fn run(&self) -> Result<()> {
        ensure!(
            command::is_installed("cargo-mutants"),
            "cargo-mutants is missing: run `cargo install --locked cargo-mutants`, then this again"
        );
        let files = self.file.as_deref().map_or(FILES.to_vec(), |file| vec![file]);
        let mut mutants = list::of(&files)?;
        mutants.retain(|mutant| self.name.as_ref().is_none_or(|text| mutant.name.contains(text)));
        let all = mutants.len();
        ensure!(all > 0, "no mutant is left");
        if let Some(sample) = self.sample {
            mutants = mutants.into_iter().step_by(all.div_ceil(sample.max(1))).collect();
        }
        let known: BTreeSet<String> = mutants.iter().map(|mutant| mutant.name.clone()).collect();
        // The last run's verdicts that stay.
        let mut kept: &[Verdict] = &[];
        if self.missed {
            kept = &[Verdict::Caught, Verdict::Timeout, Verdict::Unviable];
            let missed = names(Verdict::Missed)?;
            mutants.retain(|mutant| missed.contains(&mutant.name));
        } else if self.resume {
            kept = &Verdict::ALL;
            let tested = Verdict::ALL.into_iter().map(names).collect::<Result<Vec<_>>>()?;
            mutants.retain(|mutant| !tested.iter().any(|names| names.contains(&mutant.name)));
        }
        if self.list {
            mutants.iter().for_each(|mutant| println!("{}", mutant.name));
            return Ok(());
        }
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let jobs = self.jobs.unwrap_or(processors).max(1);
        let mut outcome = Outcome::new(kept, &known)?;
        let packages: BTreeSet<&str> = mutants.iter().map(|mutant| mutant.package.as_str()).collect();
        // The package of most mutants is the last one by name.
        for package in packages.into_iter().rev() {
            let own: Vec<&Mutant> = mutants.iter().filter(|mutant| mutant.package == package).collect();
            test(package, &own, jobs, &mut outcome)?;
        }
        outcome.judge(all)
    }
}

/// Tests `mutants`, which are all of `package`.
fn test(package: &str, mutants: &[&Mutant], jobs: usize, outcome: &mut Outcome) -> Result<()> {
    let tree = Tree::new(package, mutants)?;
    eprintln!("building the tests of {package}");
    let tests = tree.original()?;
    let pace = Pace::measure(&tests)?;
    eprintln!("they take {:.1} s without a mutant; building {} mutants", pace.all.as_secs_f64(), mutants.len());
    let Selection { tests, selectable, alone, unviable } = tree.selection(mutants)?;
    for number in unviable {
        outcome.note(mutants[number], Verdict::Unviable)?;
    }
    eprintln!("testing {} mutants of one build, then {} with a build of their own", selectable.len(), alone.len());
    let room = |number: usize| mutants[number].room();
    trial::all(&tests, &pace, selectable, jobs, &room, &mut |number, verdict| outcome.note(mutants[number], verdict))?;
    for number in alone {
        let verdict = match tree.alone(mutants[number])? {
            Some(tests) => trial::one(&tests, &pace, &room(number), None)?,
            None => Verdict::Unviable,
        };
        outcome.note(mutants[number], verdict)?;
    }
    Ok(())
}

/// Where the mutants with this verdict are listed.
fn path(verdict: Verdict) -> Result<PathBuf> {
    let name = match verdict {
        Verdict::Caught => "caught.txt",
        Verdict::Timeout => "timeout.txt",
        Verdict::Missed => "missed.txt",
        Verdict::Unviable => "unviable.txt",
    };
    Ok(command::target()?.join("mutants.out").join(name))
}

/// The mutants to which the last run gave this verdict.
fn names(verdict: Verdict) -> Result<BTreeSet<String>> {
    let path = path(verdict)?;
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// What became of the mutants so far.
#[derive(Debug, Default)]
struct Outcome {
    counts: BTreeMap<Verdict, usize>,
}

impl Outcome {
    /// Forgets the last run but for the verdicts of `kept`. Of these, a mutant does not count whose name is not among `known`: it is left out
    /// now, or it has another line.
    fn new(kept: &[Verdict], known: &BTreeSet<String>) -> Result<Self> {
        let mut outcome = Self::default();
        for verdict in Verdict::ALL {
            if kept.contains(&verdict) {
                outcome.counts.insert(verdict, names(verdict)?.intersection(known).count());
                continue;
            }
            let path = path(verdict)?;
            let write = || fs::create_dir_all(path.parent().unwrap_or(&path)).and_then(|()| fs::write(&path, ""));
            write().with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(outcome)
    }

    fn note(&mut self, mutant: &Mutant, verdict: Verdict) -> Result<()> {
        let path = path(verdict)?;
        let file = fs::OpenOptions::new().append(true).open(&path);
        file.and_then(|mut file| writeln!(file, "{}", mutant.name))
            .with_context(|| format!("writing {}", path.display()))?;
        *self.counts.entry(verdict).or_default() += 1;
        if verdict == Verdict::Missed {
            println!("missed: {}", mutant.name);
        }
        Ok(())
    }

    /// Prints the score of the run that has ended.
    fn judge(&self, all: usize) -> Result<()> {
        let count = |verdict| self.counts.get(&verdict).copied().unwrap_or(0);
        let (endless, missed) = (count(Verdict::Timeout), count(Verdict::Missed));
        let noticed = count(Verdict::Caught) + endless;
        let score = score(noticed, missed).context("no mutant of the sample could be built")?;
        println!(
            "{score:.1} % noticed: {noticed} of {} mutants ({endless} of them by tests that did not end); {} more do not compile. The \
             files have {all} mutants.",
            noticed + missed,
            count(Verdict::Unviable),
        );
        ensure!(
            score >= SCORE_MIN,
            "less than {SCORE_MIN} % were noticed; {} names the others",
            path(Verdict::Missed)?.display()
        );
        Ok(())
    }
}

/// The share of mutants that were noticed, in percent; `None` if there were none.
fn score(noticed: usize, missed: usize) -> Option<f64> {
    let all = noticed + missed;
    // A few thousand at most.
    (all > 0).then(|| {
        100.0 * f64::from(u32::try_from(noticed).unwrap_or(0)) / f64::from(u32::try_from(all).unwrap_or(u32::MAX))
    })
}
