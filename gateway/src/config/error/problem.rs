//! What can be wrong with a configuration: the closed list, with its words.
//!
//! Owns these sentences. Must not know a section: the sections find the problems.

use std::io;
use std::path::PathBuf;

use super::proof::ProofProblem;
use super::ranges::RangeProblem;
use hookgate_core::identity::revocation::RevocationListError;
use hookgate_core::identity::rule::RuleError;

/// What is wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The configuration file itself cannot be read.
    #[error("the configuration cannot be read: {source}{}", permission_hint(source))]
    Unreadable {
        /// Why.
        source: io::Error,
    },
    /// Not TOML.
    #[error("not TOML: {message}")]
    Syntax {
        /// The parser's words.
        message: String,
    },
    /// A key that this table does not have.
    #[error("unknown key; {}", alternatives(.nearest, .known))]
    UnknownKey {
        /// The known key that looks most like it.
        nearest: Option<String>,
        /// All known keys.
        known: String,
    },
    /// A value of the wrong type, or a word that is not one of those allowed.
    #[error("{message}")]
    WrongType {
        /// What stands there and what is expected.
        message: String,
    },
    /// A required key is not there.
    #[error("missing; write {write}")]
    Missing {
        /// An example of the line to write.
        write: &'static str,
    },
    /// An array that must not be empty is.
    #[error("empty; write {write}")]
    Empty {
        /// An example of the line to write.
        write: &'static str,
    },
    /// A number out of its bounds.
    #[error("{value} is out of bounds; write a number from {minimum} to {maximum}{unit}")]
    OutOfBounds {
        /// What stands there.
        value: i64,
        /// The smallest that is allowed.
        minimum: u64,
        /// The greatest that is allowed.
        maximum: u64,
        /// The unit, with a space before it; empty for counts.
        unit: &'static str,
    },
    /// More entries than allowed.
    #[error("{count} entries; write at most {maximum}")]
    TooMany {
        /// How many stand there.
        count: usize,
        /// How many are allowed.
        maximum: usize,
    },
    /// More errors than are shown.
    #[error("more than {maximum} errors; the rest is not shown")]
    TooManyErrors {
        /// How many are shown.
        maximum: usize,
    },
    /// Two limits that contradict each other.
    #[error("{key} ({value}) is less than {other_key} ({other}); raise {key} or lower {other_key}")]
    LessThan {
        /// The key of the value that is too small.
        key: &'static str,
        /// This value.
        value: u64,
        /// The key of the other value.
        other_key: &'static str,
        /// The other value.
        other: u64,
    },
    /// Something that must be unique stands twice.
    #[error("{what} stands in line {line} already; write each once")]
    Duplicate {
        /// What.
        what: String,
        /// Where it stood first.
        line: usize,
    },
    /// Not an address and port.
    #[error("\"{text}\" is no address and port; write them as \"0.0.0.0:443\" or \"[::]:443\" (no host names)")]
    Address {
        /// What stands there.
        text: String,
    },
    /// An address that `[listen]` has.
    #[error("{address} is an address of [listen]; write another port, such as \"127.0.0.1:9464\"")]
    Taken {
        /// The address.
        address: std::net::SocketAddr,
    },
    /// A name that could not be a metric label and header value.
    #[error("\"{text}\" is no name; write 1 to {maximum} of the characters a-z A-Z 0-9 . _ -")]
    Name {
        /// What stands there.
        text: String,
        /// Most characters.
        maximum: usize,
    },
    /// A route name that could not be a metric label.
    #[error("not fit for a metric label; write 1 to {maximum} printable ASCII characters")]
    RouteName {
        /// Most characters.
        maximum: usize,
    },
    /// Not a host.
    #[error("\"{text}\" is no host: {reason}")]
    Host {
        /// What stands there.
        text: String,
        /// What is wrong, and what to write instead.
        reason: &'static str,
    },
    /// Not a path pattern.
    #[error("\"{text}\" is no path: {reason}")]
    Path {
        /// What stands there.
        text: String,
        /// What is wrong, and what to write instead.
        reason: &'static str,
    },
    /// Not a method.
    #[error("\"{text}\" is no method: {reason}")]
    Method {
        /// What stands there.
        text: String,
        /// What is wrong, and what to write instead.
        reason: &'static str,
    },
    /// Not a handler.
    #[error("\"{text}\" is no handler: {reason}; write \"unix:/run/app/hook.sock\"")]
    Handler {
        /// What stands there.
        text: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A route for the same host and path takes one of the methods already.
    #[error("the route in line {line} takes {method} on this host and path already; give them distinct methods")]
    Overlap {
        /// The line of the other route.
        line: usize,
        /// The first method that both take.
        method: String,
    },
    /// A name that nothing has.
    #[error("there is no {what} \"{name}\"{}; {known}", suggestion(.nearest))]
    Unknown {
        /// Provider, preset, profile, or built-in trust anchor.
        what: &'static str,
        /// The name.
        name: String,
        /// The known name that looks most like it.
        nearest: Option<String>,
        /// Which names there are.
        known: String,
    },
    /// `profiles` chooses among those of a preset.
    #[error("only a preset has profiles to choose from; add preset = \"…\", or write [[provider.profile]] tables")]
    ProfilesWithoutPreset,
    /// A preset and profiles of one's own.
    #[error(
        "a provider has either a preset or profiles of its own; remove preset and start from what \
         `hookgate providers {preset}` prints"
    )]
    PresetAndProfiles {
        /// The preset.
        preset: String,
    },
    /// An identity entry without a condition would match everybody.
    #[error(
        "an entry without a condition; write one or more of subject, subject_cn, san_dns, san_uri, spki_sha256, \
         certificate_sha256"
    )]
    EmptyIdentity,
    /// An identity condition that cannot be understood.
    #[error("{0}")]
    Rule(#[from] RuleError),
    /// A proof, or a source of the keys that proofs need, that makes no sense.
    #[error(transparent)]
    Proof(#[from] ProofProblem),
    /// Ranges of addresses.
    #[error(transparent)]
    Range(#[from] RangeProblem),
    /// Not the name of an interface.
    #[error("\"{text}\" is no name of an interface; write one that `ip link` shows, such as \"eth0\"")]
    Interface {
        /// What stands there.
        text: String,
    },
    /// The kernel is to choose a port, and to filter it.
    #[error("an address of [listen] has port 0, and what is filtered must be known; write the port, or mode = \"off\"")]
    FilterWithoutPort,
    /// Not a day.
    #[error("not a day; write it without time and quotes, such as 2027-01-31")]
    Day,
    /// A file that the configuration names cannot be read.
    #[error("{} cannot be read: {source}{}", .path.display(), permission_hint(source))]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that holds no certificate.
    #[error(
        "{} holds no certificate in PEM form (-----BEGIN CERTIFICATE-----); a DER file is converted by \
         `openssl x509 -inform der -in FILE -out FILE.pem`",
        .path.display()
    )]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// A file with a damaged PEM section.
    #[error("{} is damaged: {reason}", .path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// The parser's words.
        reason: String,
    },
    /// A certificate that cannot be parsed.
    #[error("certificate {number} of {} cannot be parsed: {reason}", .path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Its place in the file, from 1.
        number: usize,
        /// The parser's words.
        reason: String,
    },
    /// A key file without a key.
    #[error(
        "{} holds no private key in PEM form; write PKCS#8 (BEGIN PRIVATE KEY), PKCS#1 (BEGIN RSA PRIVATE KEY) or SEC1 \
         (BEGIN EC PRIVATE KEY)",
        .path.display()
    )]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// A key under a passphrase, which nobody could enter.
    #[error("{} is encrypted; decrypt it by `openssl pkey -in FILE -out FILE.key` and guard it by its mode", .path.display())]
    EncryptedKey {
        /// The file.
        path: PathBuf,
    },
    /// A key of a type that is not supported.
    #[error("{} cannot be used: {reason}; write an ECDSA (P-256, P-384), RSA (2048 bits or more) or Ed25519 key", .path.display())]
    UnusableKey {
        /// The file.
        path: PathBuf,
        /// The words of the TLS library.
        reason: String,
    },
    /// The key is another certificate's.
    #[error("{} is not the key of the first certificate of {}{}", .key.display(), .chain.display(), misplaced(.position))]
    KeyMismatch {
        /// The key file.
        key: PathBuf,
        /// The chain file.
        chain: PathBuf,
        /// The place, from 1, of the certificate in the chain that the key does belong to.
        position: Option<usize>,
    },
    /// A revocation list that cannot be used.
    #[error("{} cannot be used: {source}", .path.display())]
    RevocationList {
        /// The file.
        path: PathBuf,
        /// Why.
        source: RevocationListError,
    },
}

impl Problem {
    /// The problem with `name`, a `what` that is not among `known`. `introduction`, such as "there are", precedes those, or stands alone.
    pub(in crate::config) fn unknown<'n>(
        what: &'static str,
        name: &str,
        introduction: &str,
        known: impl IntoIterator<Item = &'n str>,
    ) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        Self::Unknown {
            what,
            name: name.to_owned(),
            nearest: nearest(name, known.iter().copied()),
            known: if known.is_empty() {
                introduction.to_owned()
            } else {
                format!("{introduction} {}", known.join(", "))
            },
        }
    }
}

/// The known name that looks most like `name`, if any looks like it at all.
pub(in crate::config) fn nearest<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<String> {
    // 0.7 is the confidence at which clap makes suggestions for options: the same user sees both.
    let scored = known.into_iter().map(|candidate| (strsim::jaro(name, candidate), candidate));
    let best = scored.filter(|(score, _)| *score > 0.7).max_by(|one, other| one.0.total_cmp(&other.0));
    best.map(|(_, candidate)| candidate.to_owned())
}

/// Who may not read a file, since that is not who tries it by hand.
fn permission_hint(error: &io::Error) -> String {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return String::new();
    }
    let user = rustix::process::geteuid();
    let what = "make it the owner, or a member of the group that may";
    if user.is_root() {
        // Only once the process has given up CAP_DAC_OVERRIDE.
        return format!(
            "; hookgate runs as root, but has given up root's right to read every file: run it as a user of its own, and {what}"
        );
    }
    format!("; hookgate runs as user {}, which may not read it: {what}", user.as_raw())
}

/// The rest of a sentence about an unknown key: the one that was meant, or else all of them.
fn alternatives(nearest: &Option<String>, known: &str) -> String {
    match nearest {
        Some(name) => format!("did you mean \"{name}\"?"),
        None => format!("this table takes {known}"),
    }
}

/// The rest of a sentence about an unknown name.
fn suggestion(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!("; did you mean \"{name}\"?")).unwrap_or_default()
}

/// The rest of a sentence about a key that does not fit.
fn misplaced(position: &Option<usize>) -> String {
    match position {
        Some(position) => format!("; it is that of certificate {position}: write that one first"),
        None => "; write the key that the certificate was requested with".to_owned(),
    }
}
