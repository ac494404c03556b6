//! The warnings about a configuration, as a closed list with their messages.
//!
//! Owns these messages. Must not decide: the sections find the reasons.

mod lists;
mod route;

use std::fmt;
use std::path::PathBuf;

use hookgate_core::auth::secret::SecretOddity;
use hookgate_core::identity::AnchorFlaw;
use ipnet::IpNet;
use time::Date;

use super::error::{Location, one_line};
use super::file::OpenToOthers;

pub use self::lists::{ListFlaw, ListWarning};
pub use self::route::RouteWarning;

/// A warning and its location. hookgate starts in spite of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Warning {
    /// The location.
    pub location: Location,
    /// What the warning is about.
    pub kind: WarningKind,
}

impl fmt::Display for Warning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        one_line(formatter, &self.location, &self.kind)
    }
}

/// What a warning is about.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WarningKind {
    /// No certificate, no provider and no route.
    #[error("no peer is admitted, and every handshake fails; write a [[certificate]], a [[provider]] and a [[route]]")]
    NoPeerAdmitted,
    /// Every source of a family may say which address a peer has.
    #[error(
        "{range} lets every source name any address as its own, so that source_ranges and the address in the log prove nothing; write the addresses \
         of your proxies"
    )]
    AnyProxy {
        /// The range of the whole family.
        range: IpNet,
    },
    /// `[fleet]` names one server, and wants several copies.
    #[error(
        "one NATS server is named, and replicas = {replicas} needs a cluster of at least {replicas}, or nothing is stored: name the others too, so \
         that one of them answers when this one is down, or write replicas = 1 if there is no other"
    )]
    LonelyServer {
        /// How many copies are wanted.
        replicas: usize,
    },
    /// `max_bytes` of a durable route whose deliveries are on no disk.
    #[error(
        "max_bytes has no effect: the NATS servers store the deliveries, and no disk takes over; their bound is max_bytes of [fleet], for all \
         routes together; remove it here, or write fallback = \"disk\" in [fleet]"
    )]
    UnusedBytes,
    /// A provider that no route names.
    #[error("no route names the provider \"{provider}\": its requests are refused")]
    UnusedProvider {
        /// The provider.
        provider: String,
    },
    /// A trust anchor that verifies no other certificate.
    #[error(
        "profile {profile}: the certificate of the trust anchor {subject} {flaw}, so it admits only a client that has the key of this certificate \
         itself; configure a root certificate that may issue others, unless this is a self-signed client"
    )]
    AnchorUnusable {
        /// The profile that names it.
        profile: String,
        /// The subject of the anchor.
        subject: String,
        /// Why it does not.
        flaw: AnchorFlaw,
    },
    /// A trust anchor after its notAfter. hookgate trusts it, because it is configured.
    #[error("profile {profile}: the trust anchor {subject} expired on {not_after}")]
    AnchorExpired {
        /// The profile that names it.
        profile: String,
        /// The subject of the anchor.
        subject: String,
        /// Its last day.
        not_after: Date,
    },
    /// A profile after its `until`.
    #[error("profile {profile} was documented until {until}; remove it when no sender uses it")]
    ProfileOutdated {
        /// The profile.
        profile: String,
        /// Its last day.
        until: Date,
    },
    /// A revocation list after its nextUpdate.
    #[error("the revocation list of {issuer} has expired: certificates of this issuer are refused; get a new list")]
    RevocationListExpired {
        /// The issuer of the list.
        issuer: String,
    },
    /// A verify depth that refuses the chains of a profile.
    #[error("depth {depth} is less than the {needed} that profile {profile} needs: chains of this profile are refused")]
    ShallowDepth {
        /// The configured depth.
        depth: u8,
        /// The depth of the profile.
        needed: u8,
        /// The profile.
        profile: String,
    },
    /// A key of a profile table that the provider has too.
    #[error(
        "{key} of this profile has no effect, because {key} of the [[provider]] replaces it in every profile; remove one of them"
    )]
    ReplacedKey {
        /// The key.
        key: &'static str,
    },
    /// A chain of the server in which a certificate is not followed by its issuer.
    #[error("out of order: certificate {position} did not issue the one before it; some senders refuse such a chain")]
    ChainOutOfOrder {
        /// The number, from 1, of the certificate that did not issue the one before it.
        position: usize,
    },
    /// A chain of the server without the issuer of its end entity, which is no public root either.
    #[error(
        "{path} lacks the certificate of {issuer}, which issued the server certificate and is no public root; senders refuse such a chain; append \
         that certificate to the file, also if it is a root of your own{}",
        published_at(.url.as_deref())
    )]
    MissingIntermediate {
        /// The file of the chain.
        path: PathBuf,
        /// The issuer of the end entity.
        issuer: String,
        /// Where the end entity says that its issuer's certificate is published.
        url: Option<String>,
    },
    /// A chain of the server with many bytes.
    #[error("the chain is large: {bytes} bytes; some senders read at most 65535; use certificates with fewer names")]
    LargeChain {
        /// Its length.
        bytes: usize,
    },
    /// A certificate of the server's chain that some senders cannot read.
    #[error(
        "certificate {position} of the chain {cause}; some senders cannot read it and refuse the handshake; request another"
    )]
    UnusualCertificate {
        /// Its number in the chain, from 1.
        position: usize,
        /// What is unusual, as a clause whose subject is the certificate.
        cause: String,
    },
    /// A self-signed certificate of the server.
    #[error("the certificate is self-signed; senders refuse it")]
    SelfSigned,
    /// A certificate of the server before its notBefore.
    #[error("the certificate is not valid before {not_before}; senders refuse it")]
    NotYetValid {
        /// Its first day.
        not_before: Date,
    },
    /// A certificate of the server's chain after its notAfter.
    #[error("certificate {position} of the chain expired on {not_after}; senders refuse it")]
    Expired {
        /// Its number in the chain, from 1.
        position: usize,
        /// Its last day.
        not_after: Date,
    },
    /// A certificate of the server's chain shortly before its notAfter.
    #[error(
        "certificate {position} of the chain expires on {not_after}, in {days} {}",
        if *.days == 1 { "day" } else { "days" }
    )]
    ExpiresSoon {
        /// Its number in the chain, from 1.
        position: usize,
        /// Its last day.
        not_after: Date,
        /// The whole days until then.
        days: u64,
    },
    /// An exact path that ends with a slash.
    #[error(
        "only the path {path} matches, with its last slash, and not {}; write the path as the sender has it, or {path}* for every path below",
        .path.trim_end_matches('/')
    )]
    SlashedPath {
        /// The path.
        path: String,
    },
    /// An asterisk in a common name, which is compared literally.
    #[error(
        "the * is compared literally: only a certificate whose common name is the text {name} matches; write the whole name, or san_dns = \
         \"{name}\" for every DNS name of this form"
    )]
    LiteralAsterisk {
        /// The common name.
        name: String,
    },
    /// A name of an identity that is almost the documented one of the preset that it replaces.
    #[error(
        "almost the name that the preset \"{preset}\" documents; did you mean \"{documented}\"? This key replaces the names of the preset; remove \
         it to accept these"
    )]
    NearIdentity {
        /// The documented name.
        documented: String,
        /// The preset.
        preset: String,
    },
    /// No proof beside a certificate that many accounts share.
    #[error(
        "no proof is demanded beside the certificate, and that of the preset \"{preset}\" is shared by {shared_by}: each of them can send requests \
         here; demand a proof (`hookgate providers {preset}` shows which)"
    )]
    SharedCertificate {
        /// The preset.
        preset: String,
        /// Who shares the certificate.
        shared_by: String,
    },
    /// Something about the revocation lists of profiles.
    #[error(transparent)]
    List(#[from] ListWarning),
    /// A time-out that is longer than the one of a sender.
    #[error(
        "a handler may take {handler_ms} ms, and the sender of the provider \"{provider}\" waits {sender_ms} ms for the answer: then it takes the \
         webhook for failed while the handler still works on it; write at most {sender_ms}"
    )]
    SlowerThanSender {
        /// The provider.
        provider: String,
        /// The time-out of the route or of `[limits]`, in milliseconds.
        handler_ms: u128,
        /// That of the sender, in milliseconds.
        sender_ms: u128,
    },
    /// The same by the default of hookgate.
    #[error(
        "this sender waits {sender_ms} ms for the answer, and without handler_timeout_ms in [limits], a handler may take {handler_ms} ms; write \
         handler_timeout_ms = {sender_ms} there or in the route if its handler can be slow"
    )]
    DefaultSlowerThanSender {
        /// The default, in milliseconds.
        handler_ms: u128,
        /// The time-out of the sender, in milliseconds.
        sender_ms: u128,
    },
    /// A sender that has no version of TLS in which a handshake can succeed here.
    #[error(
        "the sender of the provider \"{provider}\" has {} alone, and {key} in [tls] allows no handshake of this version: every handshake with this \
         sender fails; {}",
        tls_versions(.versions),
        with_this_version(.key)
    )]
    SenderWithoutVersion {
        /// The provider.
        provider: String,
        /// The versions that the sender has.
        versions: Vec<&'static str>,
        /// The key of `[tls]` that rules them out.
        key: &'static str,
    },
    /// A sender that offers no cipher suite of the policy.
    #[error(
        "the sender of the provider \"{provider}\" offers none of the cipher suites of this policy in [tls], as its preset documents them: every \
         handshake with this sender fails; write policy = \"intermediate\", or ask the sender for a suite with ECDHE and AES-GCM or \
         ChaCha20-Poly1305"
    )]
    SenderWithoutSuite {
        /// The provider.
        provider: String,
    },
    /// What hookgate asks an authority for when it runs.
    #[error(
        "hookgate asks {directory} for a certificate for {names} when it runs, unless it has one; the authority connects to port 443 of each name \
         to verify it, and that must lead to hookgate without another end of TLS before it"
    )]
    AsksAuthority {
        /// The names.
        names: String,
        /// The directory of the authority.
        directory: String,
    },
    /// A filter that drops the connections by which an authority verifies a name.
    #[error(
        "the filter enforces its ranges, and the authority verifies a name from addresses that it does not publish: its connections are dropped, so \
         that no certificate is issued; write mode = \"monitor\" in [filter], add the addresses of a private authority to allow, or get the \
         certificate with a client that proves names over DNS, and write chain and key"
    )]
    AuthorityKeptOut,
    /// A certificate of the server without a DNS name.
    #[error("the certificate has no DNS name (subjectAltName); senders refuse it")]
    NoNames,
    /// A certificate of the server for the host of no route.
    #[error(
        "no route has a name of this certificate as its host ({names}), so senders to these names reach no route; write one of them as host of a \
         route, or remove this [[certificate]]"
    )]
    NamesWithoutRoute {
        /// The names of the certificate.
        names: String,
    },
    /// A host of a route without a certificate.
    #[error(
        "no certificate has the name {host}: senders refuse the default certificate; correct host, or add a [[certificate]] with this name"
    )]
    HostWithoutCertificate {
        /// The host.
        host: String,
    },
    /// Something about the hosts of routes.
    #[error(transparent)]
    Route(#[from] RouteWarning),
    /// More names of authorities than a CertificateRequest can list.
    #[error(
        "the trust anchors for {} have more names than a TLS message can list, so no names are sent, and a sender with several certificates may \
         choose the wrong one; use fewer anchors, or give providers hosts of their own",
        .host.as_deref().unwrap_or("clients without a server name")
    )]
    ManyAuthorityNames {
        /// The host; `None` for clients that send no server name.
        host: Option<String>,
    },
    /// A private key or secret that every user of this host can read or write.
    #[error("{path} {} by every user of this host; chmod 0600 or 0640", done_by_others(*.access))]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// What they can do.
        access: OpenToOthers,
    },
    /// A secret in the configuration file.
    #[error(
        "everyone who can read this file can read the secret; write it to a file of mode 0600, and file = \"…\" here"
    )]
    SecretInConfiguration,
    /// A secret that is probably not the sender's, or can be guessed.
    #[error(transparent)]
    OddSecret(SecretOddity),
    /// A key source that no token or signature uses.
    #[error("no token or signature uses the key source \"{name}\"; remove it, or name it in key_source of one")]
    UnusedKeySource {
        /// The key source.
        name: String,
    },
    /// A key of a key set that cannot verify signatures.
    #[error("{path}: skipped {reason}")]
    KeySkipped {
        /// The file.
        path: PathBuf,
        /// The key, and why it cannot.
        reason: String,
    },
    /// A token with neither emails nor subjects to check.
    #[error(
        "every token of the issuer for this audience passes; write emails or subjects, unless the issuer is your own"
    )]
    AnySubject,
    /// A file of a preset with an error. No provider uses this preset.
    #[error("{error} (no provider uses this preset, so hookgate runs without it)")]
    UnusablePreset {
        /// The first error.
        error: String,
    },
    /// A preset that replaces a newer one.
    #[error(
        "version {version} of this preset ({origin}) replaces the newer version {newer} ({newer_origin}); remove or renew the older one"
    )]
    OlderPreset {
        /// The version in use.
        version: Date,
        /// Where it is from.
        origin: String,
        /// The version that it replaces.
        newer: Date,
        /// Where that one is from.
        newer_origin: String,
    },
    /// A trust anchor that is not the one that the preset knows.
    #[error(
        "the trust anchor {subject} (SHA-256 {fingerprint}), beside those that the preset knows, is one that it does not know; compare it with \
         {page}, because hookgate trusts it"
    )]
    UnknownAnchor {
        /// The subject of the anchor.
        subject: String,
        /// The SHA-256 of its DER, in hex.
        fingerprint: String,
        /// The page to compare it with.
        page: String,
    },
}

impl WarningKind {
    /// Whether it is about a date. `control/rotation.rs` warns of these from the start on, again and again.
    pub fn is_repeated_by_rotation(&self) -> bool {
        matches!(
            self,
            Self::AnchorExpired { .. }
                | Self::RevocationListExpired { .. }
                | Self::Expired { .. }
                | Self::ExpiresSoon { .. }
        )
    }
}

/// The end of a message about a certificate whose authority may say where it is.
fn published_at(url: Option<&str>) -> String {
    url.map(|url| format!(" (its authority publishes it at {url})")).unwrap_or_default()
}

fn tls_versions(numbers: &[&str]) -> String {
    numbers.iter().map(|number| format!("TLS {number}")).collect::<Vec<_>>().join(" and ")
}

/// What to write so that this key of `[tls]` allows the version of a sender.
fn with_this_version(key: &str) -> &'static str {
    match key {
        "key_exchange" => "add X25519 and P-256 to key_exchange, or leave the key out",
        _ => "write policy = \"intermediate\", or leave the key out",
    }
}

fn done_by_others(access: OpenToOthers) -> &'static str {
    match access {
        OpenToOthers::Read => "is readable",
        OpenToOthers::Write => "can be changed",
    }
}
