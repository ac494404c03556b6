//! The problems of a configuration, as a closed list with their messages.
//!
//! Owns these messages. Must not decide: the sections find the problems.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::PathBuf;

use super::acme::AcmeProblem;
use super::client_certificate::CertificateProblem;
use super::durable::DurableProblem;
use super::fleet::FleetProblem;
use super::form::FileForm;
use super::preset::PresetProblem;
use super::proof::ProofProblem;
use super::ranges::RangeProblem;
use super::revocation::RevocationProblem;
use super::route::{HandlerProblem, RouteProblem};
use super::tickets::TicketProblem;
use crate::config::levels::LevelsError;
use hookgate_core::identity::revocation::RevocationListError;
use hookgate_core::identity::rule::RuleError;

/// What is wrong. The message gives the bound, and what to write instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The configuration file cannot be read.
    #[error("the configuration cannot be read: {source}{}", configuration_hint(source, option))]
    Unreadable {
        /// The error of the system.
        source: io::Error,
        /// The option of the command line that names the file.
        option: &'static str,
    },
    /// The file is not TOML.
    #[error("not valid TOML: {message}")]
    Syntax {
        /// The message of the TOML parser.
        message: String,
    },
    /// An unknown key.
    #[error("unknown key; {}", alternatives(.nearest, .known))]
    UnknownKey {
        /// The most similar key of this table.
        nearest: Option<String>,
        /// All keys of this table.
        known: String,
    },
    /// A key of the top level, within a section.
    #[error("this key does not belong to a section; write it before the first [section]")]
    TopLevelKey,
    /// A key of another section.
    #[error("this key belongs to {section}; write {write} there")]
    KeyOfSection {
        /// The section, as it is written.
        section: &'static str,
        /// An example of the line.
        write: &'static str,
    },
    /// A value of the wrong type, or an unknown word.
    #[error("{message}")]
    WrongType {
        /// What was found, and what is expected.
        message: String,
    },
    /// A value of `accept_weaker` that no reload asks for.
    #[error(
        "permits nothing: write the 16 hexadecimal digits that the refused reload, or hookgate check --against, says, or remove the line"
    )]
    NoPermission,
    /// A missing key.
    #[error("missing; write {write}")]
    Missing {
        /// An example of the line.
        write: &'static str,
    },
    /// An empty array or text.
    #[error("empty; write {write}")]
    Empty {
        /// An example of the line.
        write: &'static str,
    },
    /// A number out of bounds.
    #[error("{value} is out of bounds; write a number from {minimum} to {maximum}{unit}")]
    OutOfBounds {
        /// The number.
        value: i64,
        /// The smallest allowed number.
        minimum: u64,
        /// The largest allowed number.
        maximum: u64,
        /// The unit after a space; empty for counts.
        unit: &'static str,
    },
    /// Too many entries.
    #[error("{count} entries; write at most {maximum}")]
    TooMany {
        /// The number of entries.
        count: usize,
        /// The largest allowed number.
        maximum: usize,
    },
    /// More errors than hookgate collects.
    #[error("more than {maximum} errors; the others are not shown")]
    TooManyErrors {
        /// The number of errors that are shown.
        maximum: usize,
    },
    /// Two limits that contradict each other.
    #[error("{key} ({value}) is less than {other_key} ({other}); raise {key} or lower {other_key}")]
    LessThan {
        /// The key of the smaller value.
        key: &'static str,
        /// The smaller value.
        value: u64,
        /// The key of the other value.
        other_key: &'static str,
        /// The other value.
        other: u64,
    },
    /// A text that says nothing about levels of the log.
    #[error("{source}")]
    Levels {
        /// What is wrong with it.
        source: LevelsError,
    },
    /// Something unique that is written twice.
    #[error("{what} is already in line {line}; remove one of the two, or change it")]
    Duplicate {
        /// What is written twice.
        what: String,
        /// The line of its first occurrence.
        line: usize,
    },
    /// An IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2).
    #[error("this is an IPv4 address, written as an IPv6 address; write \"{meant}\"")]
    MappedAddress {
        /// The IPv4 address and port.
        meant: std::net::SocketAddr,
    },
    /// Not an address and port.
    #[error(
        "\"{text}\" is not an IP address and port; write both, such as \"0.0.0.0:443\" or \"[::]:443\" (host names are \
         not allowed)"
    )]
    Address {
        /// The text.
        text: String,
    },
    /// A text that cannot be the beginning of a URL.
    #[error(
        "not the beginning of a URL: {reason}; write at most {maximum} characters, such as \"https://hooks.example.com/reasons/\""
    )]
    TypeBase {
        /// What is wrong.
        reason: &'static str,
        /// The most characters.
        maximum: usize,
    },
    /// A group of key exchange that this build has not.
    #[error(
        "{group} is not in this build, which has no aws-lc; leave it out, or build hookgate without --no-default-features"
    )]
    KeyExchangeNotBuilt {
        /// The group.
        group: &'static str,
    },
    /// A group of key exchange that is written twice.
    #[error("{group} is there twice; the first place counts, so remove this one")]
    KeyExchangeTwice {
        /// The group.
        group: &'static str,
    },
    /// No group for TLS 1.2, the only version of the policy.
    #[error("X25519MLKEM768 is for TLS 1.3, and policy = \"pagerduty\" has TLS 1.2 alone; add \"X25519\"")]
    KeyExchangeOfTls13,
    /// An address of `[listen]`.
    #[error("{address} is an address of [listen]; write another port, such as \"127.0.0.1:9464\"")]
    Taken {
        /// The address.
        address: std::net::SocketAddr,
    },
    /// An address of the admin side that other hosts can reach.
    #[error(
        "other hosts can reach {address}, and the admin side has no authentication; write \"unix:/run/hookgate/admin.sock\", or a \
         loopback address such as \"127.0.0.1:9465\""
    )]
    NotLoopback {
        /// The address.
        address: std::net::SocketAddr,
    },
    /// The admin side at an address of another section.
    #[error("{address} is an address of [{section}]; write another port, such as \"127.0.0.1:9465\"")]
    TakenByAdmin {
        /// The address.
        address: std::net::SocketAddr,
        /// The other section.
        section: &'static str,
    },
    /// Not a socket of the admin side.
    #[error("\"{text}\" is not a valid socket: {reason}; write \"unix:/run/hookgate/admin.sock\"")]
    AdminSocket {
        /// The text.
        text: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A name that cannot be a metric label and a header value.
    #[error("\"{text}\" is not a valid name; write 1 to {maximum} of the characters a-z A-Z 0-9 . _ -")]
    Name {
        /// The text.
        text: String,
        /// The most characters.
        maximum: usize,
    },
    /// A route name that cannot be a metric label.
    #[error("a route name is a metric label; write 1 to {maximum} printable ASCII characters")]
    RouteName {
        /// The most characters.
        maximum: usize,
    },
    /// Not a host.
    #[error("\"{text}\" is not a valid host; {write}")]
    Host {
        /// The text.
        text: String,
        /// What to write instead.
        write: &'static str,
    },
    /// Not a path pattern.
    #[error("\"{text}\" is not a valid path: {reason}")]
    Path {
        /// The text.
        text: String,
        /// What is wrong, and what to write instead.
        reason: Cow<'static, str>,
    },
    /// Not a method.
    #[error("\"{text}\" is not a valid method; {write}")]
    Method {
        /// The text.
        text: String,
        /// What to write instead.
        write: &'static str,
    },
    /// Not a handler.
    #[error("\"{text}\" is not a valid handler: {reason}; write \"{write}\"")]
    Handler {
        /// The text.
        text: String,
        /// What is wrong.
        reason: &'static str,
        /// What to write instead.
        write: String,
    },
    /// Another route for the same host, path and method.
    #[error(
        "the route in line {line} already takes {method} on this host and path; give the two routes different methods"
    )]
    Overlap {
        /// The line of the other route.
        line: usize,
        /// The first common method.
        method: String,
    },
    /// An unknown name.
    #[error("there is no {what} \"{name}\"{}; {known}", suggestion(.nearest))]
    Unknown {
        /// Provider, preset, profile, key source, or built-in trust anchor.
        what: &'static str,
        /// The name.
        name: String,
        /// The most similar known name.
        nearest: Option<String>,
        /// The known names, with an introduction.
        known: String,
    },
    /// `profiles` without `preset`.
    #[error(
        "profiles selects among the profiles of a preset; write preset = \"…\" too, or [[provider.profile]] tables instead"
    )]
    ProfilesWithoutPreset,
    /// A profile table with the name of a profile of the preset.
    #[error(
        "the preset has a profile \"{profile}\"; write another name, or leave that one out of the preset's with profiles = […]"
    )]
    ProfileOfPreset {
        /// The profile.
        profile: String,
    },
    /// An identity entry without a condition. It would match every certificate.
    #[error(
        "this entry has no condition; write one or more of subject, subject_cn, san_dns, san_uri, spki_sha256, \
         certificate_sha256"
    )]
    EmptyIdentity,
    /// An error of an identity condition.
    #[error("{0}")]
    Rule(#[from] RuleError),
    /// An error of a preset.
    #[error(transparent)]
    Preset(#[from] PresetProblem),
    /// An error of a proof or of a key source.
    #[error(transparent)]
    Proof(#[from] ProofProblem),
    /// An error about `acme`.
    #[error(transparent)]
    Acme(#[from] AcmeProblem),
    /// An error about a provider without client certificates.
    #[error(transparent)]
    ClientCertificate(#[from] CertificateProblem),
    /// An error about durable delivery.
    #[error(transparent)]
    Durable(#[from] DurableProblem),
    /// An error about the memory that hosts share.
    #[error(transparent)]
    Fleet(#[from] FleetProblem),
    /// An error of a route.
    #[error(transparent)]
    Route(#[from] RouteProblem),
    /// About the handlers of a route.
    #[error(transparent)]
    Handlers(#[from] HandlerProblem),
    /// An error about shared session tickets.
    #[error(transparent)]
    Tickets(#[from] TicketProblem),
    /// An error of ranges.
    #[error(transparent)]
    Range(#[from] RangeProblem),
    /// A problem of revocation lists.
    #[error(transparent)]
    Revocation(#[from] RevocationProblem),
    /// Not the name of an interface.
    #[error("\"{text}\" is not an interface name; write a name from `ip link`, such as \"eth0\"")]
    Interface {
        /// The text.
        text: String,
    },
    /// The filter is on, and the kernel chooses the port.
    #[error("an address of [listen] has port 0, and the filter needs a fixed port; write the port, or mode = \"off\"")]
    FilterWithoutPort,
    /// Not a day.
    #[error("not a day from 1970 on; write it without time and quotes, such as 2027-01-31")]
    Day,
    /// A file that the configuration names cannot be read.
    #[error("{} cannot be read: {source}{}", .path.display(), permission_hint(source))]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// A file without a certificate.
    #[error(
        "{} holds no certificate in PEM form (-----BEGIN CERTIFICATE-----); {}",
        .path.display(),
        .form.certificate_advice()
    )]
    NoCertificate {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        form: FileForm,
    },
    /// A text file that does not begin as text in ASCII or UTF-8 does.
    #[error("{} begins with a byte order mark, so it is {encoding}; save it as UTF-8 without a byte order mark", .path.display())]
    ByteOrderMark {
        /// The file.
        path: PathBuf,
        /// The encoding that the mark says.
        encoding: &'static str,
    },
    /// A file without a revocation list.
    #[error(
        "{} holds no revocation list, neither in DER nor in PEM form (-----BEGIN X509 CRL-----); download it from a distribution \
         point of the authority",
        .path.display()
    )]
    NoRevocationList {
        /// The file.
        path: PathBuf,
    },
    /// A damaged PEM section.
    #[error("{} is damaged: {place} {reason}", .path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// The section.
        place: Place,
        /// What is damaged, as a clause whose subject is the section.
        reason: &'static str,
    },
    /// A line outside of all PEM sections that looks like the first or last line of one.
    #[error(
        "{} is damaged: line {line} looks like the begin or end of a PEM section, but is not; write -----BEGIN LABEL----- and \
         -----END LABEL-----, each with five dashes, around the Base64",
        .path.display()
    )]
    StrayMarker {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// A PEM section of a kind that the key of the configuration does not use.
    #[error(
        "{}: {place} is a {label}, which is not used here; {}",
        .path.display(),
        section_hint(label, used)
    )]
    UnusedSection {
        /// The file.
        path: PathBuf,
        /// The section.
        place: Place,
        /// The label of the section.
        label: String,
        /// The label that is used.
        used: String,
    },
    /// Several private keys in one file.
    #[error("{}: {place} is another private key; leave the one of the certificate in the file", .path.display())]
    SecondKey {
        /// The file.
        path: PathBuf,
        /// The section of the second key.
        place: Place,
    },
    /// A certificate that cannot be parsed.
    #[error("certificate {number} of {} cannot be parsed: {reason}", .path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Its number in the file, from 1.
        number: usize,
        /// What is wrong.
        reason: String,
    },
    /// A key file without a private key.
    #[error("{} holds no private key in PEM form; {}", .path.display(), .form.key_advice())]
    NoKey {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        form: FileForm,
    },
    /// A private key with a passphrase. A daemon cannot ask for it.
    #[error(
        "{} is encrypted; decrypt it with `openssl pkey -in FILE -out FILE.key`, and set the mode of the result to 0600",
        .path.display()
    )]
    EncryptedKey {
        /// The file.
        path: PathBuf,
    },
    /// A private key that is damaged or of an unsupported type.
    #[error(
        "{} cannot be used: the key is damaged or of an unsupported type; write an ECDSA (P-256, P-384), RSA (2048 to 4096 \
         bits) or Ed25519 key",
        .path.display()
    )]
    UnusableKey {
        /// The file.
        path: PathBuf,
    },
    /// A private key that does not belong to the certificate.
    #[error("{} is not the key of the first certificate of {}{}", .key.display(), .chain.display(), misplaced(.position))]
    KeyMismatch {
        /// The key file.
        key: PathBuf,
        /// The chain file.
        chain: PathBuf,
        /// The number, from 1, of the certificate in the chain that the key belongs to.
        position: Option<usize>,
    },
    /// A revocation list that cannot be used.
    #[error("{} cannot be used: {source}", .path.display())]
    RevocationList {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: RevocationListError,
    },
}

impl Problem {
    /// The problem that `name` is not among `known`, the names of all `what`. `introduction`, such as "there are", precedes the
    /// known names, or stands alone if there are none.
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

/// The known name that is most similar to `name`; `None` if none is similar.
pub(in crate::config) fn nearest<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<String> {
    // clap suggests options from a confidence of 0.7 on; the same user sees both.
    let scored = known.into_iter().map(|candidate| (strsim::jaro(name, candidate), candidate));
    let best = scored.filter(|(score, _)| *score > 0.7).max_by(|one, other| one.0.total_cmp(&other.0));
    best.map(|(_, candidate)| candidate.to_owned())
}

/// What to do if the configuration file cannot be read.
fn configuration_hint(error: &io::Error, option: &str) -> String {
    if error.kind() == io::ErrorKind::NotFound {
        return format!("; write this file, or name another one with {option}");
    }
    permission_hint(error)
}

/// Which user may not read a file: it is not the user who tries it by hand.
fn permission_hint(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::NotFound {
        return "; put the file there, or write the path of another one".to_owned();
    }
    if error.kind() != io::ErrorKind::PermissionDenied {
        return String::new();
    }
    let user = rustix::process::geteuid();
    let what = "make that user the owner of the file, or a member of a group that may read it";
    if user.is_root() {
        // Without CAP_DAC_OVERRIDE.
        return format!(
            "; hookgate runs as root, but has given up root's right to read every file: run hookgate as a user of its own, and \
             {what}"
        );
    }
    format!("; hookgate runs as user {}, which may not read it: {what}", user.as_raw())
}

/// The end of the message about an unknown key: the most similar key, or all keys.
fn alternatives(nearest: &Option<String>, known: &str) -> String {
    match nearest {
        Some(name) => format!("did you mean \"{name}\"?"),
        None => format!("this table takes {known}"),
    }
}

/// The part about a similar name in the message about an unknown name.
fn suggestion(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!(" (did you mean \"{name}\"?)")).unwrap_or_default()
}

/// The end of the message about a key that does not belong to the certificate.
/// What to do about a section that is not used.
fn section_hint(label: &str, used: &str) -> String {
    let convert = match (label, used) {
        ("TRUSTED CERTIFICATE", "CERTIFICATE") => "convert it with `openssl x509 -in FILE -out FILE.pem`",
        ("PKCS7" | "CMS", "CERTIFICATE") => "convert it with `openssl pkcs7 -print_certs -in FILE -out FILE.pem`",
        ("OPENSSH PRIVATE KEY", "PRIVATE KEY") => "convert a copy with `ssh-keygen -p -m PKCS8 -f FILE`",
        _ => return format!("remove the section, or name a file with {used} sections"),
    };
    convert.to_owned()
}

fn misplaced(position: &Option<usize>) -> String {
    match position {
        Some(position) => format!("; it is the key of certificate {position}: move that certificate to the top"),
        None => "; name the file of the key with which the certificate was requested".to_owned(),
    }
}

/// Where a section is in its file. Shown as `section 2 (line 31)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The number of the section, from 1.
    pub number: usize,
    /// The line on which it begins, from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "section {} (line {})", self.number, self.line)
    }
}
