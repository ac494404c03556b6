//! Builds the unit tests of a package with mutants.
//!
//! Owns a copy of the files that Git knows, and the answer to which mutants do not compile. Must not run a test.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::list::Mutant;
use super::weave::{self, Woven};
use crate::command::{self, cargo, root};

/// How many times mutants that do not compile are taken out. The compiler stops at the first of its phases with an error (names, types,
/// borrows), and an error can hide another one.
const ROUNDS_MAX: usize = 20;

/// A copy of the workspace, and what one package of it was before any change.
#[derive(Debug)]
pub(super) struct Tree {
    package: String,
    directory: PathBuf,
    /// Where the package's library begins.
    library: String,
    originals: BTreeMap<String, String>,
}

/// Unit tests, and which mutants they have.
#[derive(Debug)]
pub(super) struct Selection {
    pub(super) tests: Tests,
    /// Those in the build. [`weave::VARIABLE`] selects one.
    pub(super) selectable: Vec<usize>,
    /// Those that need a build of their own.
    pub(super) alone: Vec<usize>,
    /// Those that do not compile.
    pub(super) unviable: Vec<usize>,
}

/// The program of the unit tests of a package.
#[derive(Clone, Debug)]
pub(super) struct Tests {
    pub(super) program: PathBuf,
    /// Where Cargo would run it.
    pub(super) directory: PathBuf,
}

/// What a build ended with.
enum Built {
    Tests(Tests),
    Errors(Vec<Fault>),
}

/// An error of the compiler.
struct Fault {
    /// Files and first bytes: where it is, and where the macros are used that it is in.
    places: Vec<(String, usize)>,
    text: String,
}

impl Tree {
    /// Copies the workspace.
    ///
    /// # Errors
    ///
    /// This is no checkout of Git, or a file cannot be copied.
    pub(super) fn new(package: &str, mutants: &[&Mutant]) -> Result<Self> {
        let directory = command::target()?.join("mutants.out/tree");
        if directory.exists() {
            fs::remove_dir_all(&directory).with_context(|| format!("removing {}", directory.display()))?;
        }
        let mut list = Command::new("git");
        list.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(root());
        let output = list.output().context("starting git")?;
        ensure!(output.status.success(), "git ls-files failed: {}", String::from_utf8_lossy(&output.stderr));
        for file in String::from_utf8(output.stdout).context("names of files")?.split_terminator('\0') {
            let (from, to) = (root().join(file), directory.join(file));
            // Git lists what was removed and not yet committed, too.
            if from.is_file() {
                fs::create_dir_all(to.parent().unwrap_or(&directory))?;
                fs::copy(&from, &to).with_context(|| format!("copying {file}"))?;
            }
        }
        let library = ["gateway/core", "gateway"]
            .into_iter()
            .find(|folder| {
                fs::read_to_string(root().join(folder).join("Cargo.toml"))
                    .is_ok_and(|manifest| manifest.lines().any(|line| line == format!("name = \"{package}\"")))
            })
            .with_context(|| format!("no folder is known of {package}"))?;
        let library = format!("{library}/src/lib.rs");
        let files = mutants.iter().map(|mutant| mutant.file.clone()).chain([library.clone()]);
        let originals = files.collect::<BTreeSet<String>>().into_iter().map(|file| {
            let text = fs::read_to_string(root().join(&file)).with_context(|| format!("reading {file}"))?;
            Ok((file, text))
        });
        let originals = originals.collect::<Result<_>>()?;
        Ok(Self { package: package.to_owned(), directory, library, originals })
    }

    /// The tests without a mutant.
    ///
    /// # Errors
    ///
    /// They do not compile.
    pub(super) fn original(&self) -> Result<Tests> {
        self.restore()?;
        match self.build()? {
            Built::Tests(tests) => Ok(tests),
            Built::Errors(faults) => bail!("{} does not compile without a mutant: {}", self.package, texts(&faults)),
        }
    }

    /// The tests with `mutant` in the place of what it replaces; `None` if they do not compile.
    ///
    /// # Errors
    ///
    /// Cargo cannot be started, or a file cannot be written.
    pub(super) fn alone(&self, mutant: &Mutant) -> Result<Option<Tests>> {
        self.restore()?;
        self.write(&mutant.file, &weave::replaced(&self.originals[&mutant.file], mutant))?;
        Ok(match self.build()? {
            Built::Tests(tests) => Some(tests),
            Built::Errors(_) => None,
        })
    }

    /// The tests with as many of `mutants` as one build can have. Mutants have their index as number.
    ///
    /// # Errors
    ///
    /// Cargo cannot be started, a file cannot be written, or an error of the compiler belongs to no mutant.
    pub(super) fn selection(&self, mutants: &[&Mutant]) -> Result<Selection> {
        let of_file = |file: &str| {
            let all = mutants.iter().enumerate();
            all.filter(|(_, mutant)| mutant.file == file).map(|(number, mutant)| (number, *mutant)).collect::<Vec<_>>()
        };
        let mut selectable = BTreeSet::new();
        for (file, text) in &self.originals {
            let own = weave::selectable(text, of_file(file).into_iter());
            selectable.extend(own.with_context(|| format!("reading {file}"))?);
        }
        let alone = (0..mutants.len()).filter(|number| !selectable.contains(number)).collect();
        let mut unviable = Vec::new();
        for _ in 0..ROUNDS_MAX {
            let mut written = BTreeMap::new();
            for (file, text) in &self.originals {
                let own = of_file(file).into_iter().filter(|(number, _)| selectable.contains(number));
                let mut woven = weave::weave(text, own).with_context(|| format!("reading {file}"))?;
                if *file == self.library {
                    woven.text += weave::SELECTION;
                }
                self.write(file, &woven.text)?;
                written.insert(file.clone(), woven);
            }
            match self.build()? {
                Built::Tests(tests) => {
                    return Ok(Selection { tests, selectable: selectable.into_iter().collect(), alone, unviable });
                }
                Built::Errors(faults) => {
                    let found = at_fault(&faults, &written)?;
                    eprintln!("{} of {} mutants do not compile", found.len(), selectable.len());
                    selectable.retain(|number| !found.contains(number));
                    unviable.extend(found);
                }
            }
        }
        bail!("after {ROUNDS_MAX} rounds there are still mutants that do not compile")
    }

    fn restore(&self) -> Result<()> {
        self.originals.iter().try_for_each(|(file, text)| self.write(file, text))
    }

    /// Writes a file of the copy, if it has another text. A file with a new time would be compiled again.
    fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.directory.join(file);
        if fs::read_to_string(&path).is_ok_and(|present| present == text) {
            return Ok(());
        }
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    }

    fn build(&self) -> Result<Built> {
        let mut build = cargo();
        build.args(["test", "--no-run", "--package", &self.package, "--lib", "--profile", "mutants"]);
        build.args(["--message-format", "json", "--quiet"]);
        // What a mutant leaves unused, or recurses for ever, is no error here. For Cargo, the packages of the copy are those of the
        // workspace, so they need a directory of their own.
        build
            .env("CARGO_TARGET_DIR", command::target()?.join("mutants.out/build"))
            .env("RUSTFLAGS", "--cap-lints=allow");
        build.current_dir(&self.directory).stderr(Stdio::piped());
        let output = build.output().context("starting cargo")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let messages: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        if output.status.success() {
            let program = messages.iter().rev().find_map(|message| message["executable"].as_str());
            let program = PathBuf::from(program.context("cargo names no program of tests")?);
            let directory = self.directory.join(&self.library).ancestors().nth(2).unwrap_or(&self.directory).to_owned();
            return Ok(Built::Tests(Tests { program, directory }));
        }
        let faults: Vec<Fault> = messages.iter().filter_map(|message| Fault::of(&message["message"])).collect();
        ensure!(!faults.is_empty(), "cargo failed: {}", String::from_utf8_lossy(&output.stderr));
        Ok(Built::Errors(faults))
    }
}

impl Fault {
    /// `None` if `message` is no error, or only the sum of others.
    fn of(message: &Value) -> Option<Self> {
        let spans = message["spans"].as_array().filter(|spans| !spans.is_empty())?;
        if message["level"] != "error" {
            return None;
        }
        let mut places = Vec::new();
        for mut span in spans.iter().filter(|span| span["is_primary"] == true) {
            while let (Some(file), Some(start)) = (span["file_name"].as_str(), span["byte_start"].as_u64()) {
                places.push((file.to_owned(), usize::try_from(start).unwrap_or(usize::MAX)));
                span = &span["expansion"]["span"];
            }
        }
        Some(Self { places, text: message["rendered"].as_str().unwrap_or_default().to_owned() })
    }
}

/// The mutants that `faults` are in.
fn at_fault(faults: &[Fault], written: &BTreeMap<String, Woven>) -> Result<BTreeSet<usize>> {
    let mut found = BTreeSet::new();
    for fault in faults {
        let number = fault.places.iter().find_map(|(file, at)| {
            let arms = &written.get(file)?.arms;
            arms.iter().find(|(arm, _)| arm.contains(at)).map(|(_, number)| *number)
        });
        found.insert(number.with_context(|| format!("this error is in no mutant:\n{}", fault.text))?);
    }
    Ok(found)
}

fn texts(faults: &[Fault]) -> String {
    faults.iter().map(|fault| fault.text.as_str()).collect::<Vec<_>>().join("\n")
}
