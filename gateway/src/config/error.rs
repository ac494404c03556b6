//! The errors of a configuration: a problem and its location.
//!
//! Owns every error message about the configuration. Must not know a section: the sections find the problems.

mod acme;
mod client_certificate;
mod durable;
mod fleet;
mod form;
mod preset;
mod problem;
mod proof;
mod ranges;
mod revocation;
mod route;
mod tickets;

use std::fmt::{self, Write as _};
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

pub use self::acme::{AcmeProblem, IssuedProblem};
pub use self::client_certificate::CertificateProblem;
pub use self::durable::DurableProblem;
pub use self::fleet::FleetProblem;
pub use self::form::FileForm;
pub use self::preset::{OtherAnchor, PresetProblem};
pub(super) use self::problem::Place;
pub use self::problem::Problem;
pub(super) use self::problem::nearest;
pub use self::proof::ProofProblem;
pub use self::ranges::RangeProblem;
pub use self::revocation::RevocationProblem;
pub use self::route::{HandlerProblem, RouteProblem};
pub use self::tickets::TicketProblem;

/// All errors of a configuration, in the order of the lines; at least one.
#[derive(Debug)]
pub struct ConfigErrors(pub(super) Vec<ConfigError>);

impl ConfigErrors {
    /// The errors, in the order of the lines.
    pub fn errors(&self) -> &[ConfigError] {
        &self.0
    }
}

impl ConfigErrors {
    /// The same errors of a file that another option than `--config` names.
    #[must_use]
    pub fn of_option(mut self, name: &'static str) -> Self {
        for error in &mut self.0 {
            if let Problem::Unreadable { option, .. } = &mut error.problem {
                *option = name;
            }
        }
        self
    }

    /// Whether a file could not be read for a reason of the host: see [`is_of_host`].
    pub fn are_of_host(&self) -> bool {
        self.0.iter().any(|error| match &error.problem {
            Problem::Unreadable { source, .. } | Problem::File { source, .. } => is_of_host(source),
            _ => false,
        })
    }
}

/// Whether an error is about the host, not about the file: too few descriptors or too little memory, or a failing disk. Then another attempt
/// can succeed although no file has changed.
pub fn is_of_host(error: &io::Error) -> bool {
    let number = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(number, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::IO))
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    /// Writes one error per line.
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

/// A problem and its location.
#[derive(Debug)]
pub struct ConfigError {
    /// The location.
    pub location: Location,
    /// What is wrong, the bound, and what to write instead.
    pub problem: Problem,
}

impl ConfigError {
    /// The file that does not exist, if that is the problem.
    pub fn missing_file(&self) -> Option<&Path> {
        match &self.problem {
            Problem::File { path, source } if source.kind() == io::ErrorKind::NotFound => Some(path),
            _ => None,
        }
    }
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

/// A location in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// The path of the configuration file, as the caller wrote it.
    pub file: PathBuf,
    /// The line, from 1; `None` for the whole file, or for a missing section.
    pub line: Option<usize>,
    /// The dotted key, such as `provider[1].identity[0].subject`, with indexes from 0; empty for the whole file.
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

/// Writes a location and a message on one line. Escapes control characters: a message repeats keys, values and names of
/// certificates, which may contain line breaks.
pub(crate) fn one_line(
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
