//! The errors of a configuration: a problem and its location.
//!
//! Owns every sentence that the operator reads about an error. Must not know a section: the sections find the problems.

mod problem;
mod proof;
mod ranges;

use std::fmt::{self, Write as _};
use std::path::PathBuf;

pub use self::problem::Problem;
pub(super) use self::problem::nearest;
pub use self::proof::ProofProblem;
pub use self::ranges::RangeProblem;

/// Every error of a configuration, in the order of the lines. Never empty.
#[derive(Debug)]
pub struct ConfigErrors(pub(super) Vec<ConfigError>);

impl ConfigErrors {
    /// The errors, in the order of the lines.
    pub fn errors(&self) -> &[ConfigError] {
        &self.0
    }
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    /// One error a line.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(formatter)?;
            }
            write!(formatter, "{error}")?;
        }
        Ok(())
    }
}

/// One error, and where it stands.
#[derive(Debug)]
pub struct ConfigError {
    /// Where.
    pub location: Location,
    /// What is wrong, within which bound, and what to write instead.
    pub problem: Problem,
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.problem.source()
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        one_line(formatter, &self.location, &self.problem)
    }
}

/// A place in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// The configuration file, as it was named to us.
    pub file: PathBuf,
    /// Line, from 1; `None` where the file as a whole is meant.
    pub line: Option<usize>,
    /// Dotted key, such as `provider[1].identity[0].subject`; array places count from 0. Empty where no key is meant.
    pub key: String,
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(formatter, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(formatter, ": {}", self.key)?;
        }
        Ok(())
    }
}

/// One finding on one line: keys, values and names of certificates are repeated from files, line breaks and all.
pub(super) fn one_line(
    formatter: &mut fmt::Formatter<'_>,
    location: &Location,
    message: &dyn fmt::Display,
) -> fmt::Result {
    for character in format!("{location}: {message}").chars() {
        match character.is_control() {
            true => write!(formatter, "{}", character.escape_default())?,
            false => formatter.write_char(character)?,
        }
    }
    Ok(())
}
