//! Every fuzz target on its committed corpus, and on a fixed number of mutations of it, which are the same in each run.
#![expect(clippy::panic, reason = "a corpus that cannot be read fails the test")]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Instant;

use fastrand::Rng;
use hookgate_fuzz_cases::{TARGETS, Target};

/// The seed of the mutations.
const SEED: u64 = 7;

/// The longest input of a mutation.
const BYTES_MAX: usize = 8 * 1024;

/// What all corpora may take on disk.
const CORPORA_BYTES_MAX: u64 = 1024 * 1024;

fn corpus(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(target.name);
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable directory").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).expect("a readable file"))).collect()
}

/// Judges an input. If that fails, keeps the input in a file, and says how to add it to the corpus.
fn judge(target: &Target, input: &[u8], origin: &str) -> Result<(), String> {
    if catch_unwind(AssertUnwindSafe(|| (target.judge)(input))).is_ok() {
        return Ok(());
    }
    let name = target.name;
    let path = std::env::temp_dir().join(format!("hookgate-fuzz-{name}"));
    fs::write(&path, input).expect("a writable temporary directory");
    Err(format!("target {name} failed on {origin}; to keep the input: cp {} fuzz/corpus/{name}/", path.display()))
}

/// Runs `check` on every target, and fails with all failures.
fn for_every_target(check: impl Fn(&Target) -> Result<(), String>) {
    let failures: Vec<String> = TARGETS.iter().filter_map(|target| check(target).err()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A mutation of one input, sometimes with a part of another.
fn mutate(random: &mut Rng, inputs: &[(PathBuf, Vec<u8>)]) -> Vec<u8> {
    let any = |random: &mut Rng| inputs[random.usize(..inputs.len())].1.clone();
    let mut input = any(random);
    for _ in 0..=random.usize(..4) {
        let at = random.usize(..=input.len());
        let length = random.usize(..=(input.len() - at).min(16));
        match random.u8(..7) {
            0 if at < input.len() => input[at] ^= 1 << random.u8(..8),
            1 if at < input.len() => input[at] = random.u8(..),
            2 => input.insert(at, random.u8(..)),
            3 => drop(input.drain(at..at + length)),
            4 => input.truncate(at),
            5 => {
                let copied = input[at..at + length].to_vec();
                input.splice(at..at, copied);
            }
            _ => {
                let other = any(random);
                let from = random.usize(..=other.len());
                let until = from + random.usize(..=(other.len() - from).min(64));
                input.splice(at..at + length, other[from..until].iter().copied());
            }
        }
    }
    input.truncate(BYTES_MAX);
    input
}

#[test]
fn every_input_of_the_corpora_keeps_the_promises() {
    for_every_target(|target| {
        let inputs = corpus(target);
        assert!(inputs.len() >= 3, "the corpus of {} has {} inputs", target.name, inputs.len());
        inputs.iter().try_for_each(|(path, input)| judge(target, input, &path.display().to_string()))
    });
}

#[test]
fn mutations_of_the_corpora_keep_the_promises() {
    for_every_target(|target| {
        let inputs = corpus(target);
        let mut random = Rng::with_seed(SEED);
        let began = Instant::now();
        let outcome = (0..target.mutations)
            .try_for_each(|number| judge(target, &mutate(&mut random, &inputs), &format!("mutation {number}")));
        println!("{}: {} mutations in {:?}", target.name, target.mutations, began.elapsed());
        outcome
    });
}

#[test]
fn every_target_has_a_libfuzzer_program_and_the_corpora_are_small() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).expect("the manifest of the programs");
    let programs = fs::read_dir(fuzz.join("fuzz_targets")).expect("a readable directory").count();
    assert_eq!(programs, TARGETS.len());
    for target in &TARGETS {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{}.rs\"", target.name)), "{}", target.name);
    }
    let inputs = TARGETS.iter().flat_map(corpus);
    let bytes: u64 = inputs.map(|(_, input)| input.len() as u64).sum();
    assert!(bytes < CORPORA_BYTES_MAX, "{bytes} bytes");
}
