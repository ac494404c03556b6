//! `hookgate-count`: repeats one case a given number of times, for `cargo xtask count`, which counts its instructions with valgrind.
//!
//! Must do the same before the repetitions for any number of them, so that two runs differ by repetitions alone.

use std::process;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use hookgate_micro::{ALL, Case, Repeat, find};

/// Repeats one case.
#[derive(Parser)]
enum Arguments {
    /// Lists the cases, one per line: name, repetitions, whether most instructions are cryptography
    List,
    /// Prints the features of the processor, as this process sees them
    Processor,
    /// Repeats a case
    Run {
        /// The name of the case
        case: String,
        /// The number of repetitions, at most twice that of `list`
        repetitions: u32,
    },
}

fn main() -> Result<()> {
    match Arguments::parse() {
        Arguments::List => {
            for Case { name, iterations, crypto, .. } in ALL {
                println!("{name} {iterations} {crypto}");
            }
        }
        Arguments::Processor => println!("{}", processor()),
        Arguments::Run { case, repetitions } => {
            let case = find(&case).with_context(|| format!("no case {case}; see `hookgate-count list`"))?;
            let prepared = 2 * case.iterations;
            ensure!(repetitions <= prepared, "{} is repeated at most {prepared} times", case.name);
            (case.present)(&mut Counted { repetitions, prepared });
        }
    }
    Ok(())
}

struct Counted {
    repetitions: u32,
    prepared: u32,
}

impl Repeat for Counted {
    fn repeat(&mut self, prepare: &mut dyn FnMut(), operation: &mut dyn FnMut()) {
        (0..self.prepared).for_each(|_| prepare());
        (0..self.repetitions).for_each(|_| operation());
        // Exits without dropping the unused preparations, of which there are fewer the more repetitions there are.
        process::exit(0);
    }
}

/// The features that select the code of ring and of the C library.
#[cfg(target_arch = "x86_64")]
fn processor() -> String {
    let known = [
        ("ssse3", is_x86_feature_detected!("ssse3")),
        ("pclmulqdq", is_x86_feature_detected!("pclmulqdq")),
        ("movbe", is_x86_feature_detected!("movbe")),
        ("avx", is_x86_feature_detected!("avx")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("bmi2", is_x86_feature_detected!("bmi2")),
        ("adx", is_x86_feature_detected!("adx")),
        ("sha", is_x86_feature_detected!("sha")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
    ];
    let offered = known.iter().filter(|(_, offered)| *offered).map(|(name, _)| *name).collect::<Vec<_>>();
    format!("x86_64 {}", offered.join(" "))
}

/// For other processors, the architecture.
#[cfg(not(target_arch = "x86_64"))]
fn processor() -> String {
    std::env::consts::ARCH.to_owned()
}
