//! What can be found wrong with a receiver: one closed enum, one table.
//!
//! Owns id, severity, consequence and remedy of each finding. Must not look for one: `chain` and `probe` do.

use std::fmt;

use serde::Serialize;

use crate::sender::Sender;

/// How bad a finding is for the sender in question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know. Needs no action.
    Note,
    /// Works now, and may not later, or not with each sender.
    Warning,
    /// The sender's webhooks do not arrive, or anybody's do.
    Fault,
}

impl fmt::Display for Severity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Fault => "fault",
        })
    }
}

/// Which of the sender's documented reactions ([`After`](crate::sender::After)) a finding brings about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reaction {
    Handshake,
    Expired,
    Refused,
    Failed,
    /// The sender notices nothing.
    None,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident => $id:literal, $severity:ident, $reaction:ident, $mend:literal;)+) => {
        /// What was found. The doc of each says when it is reported.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind { $($(#[$doc])* $name,)+ }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            fn row(self) -> (&'static str, Severity, Reaction, &'static str) {
                match self { $(Self::$name => ($id, Severity::$severity, Reaction::$reaction, $mend),)+ }
            }
        }
    };
}

kinds! {
    /// The name does not resolve, or nothing accepts connections.
    NoConnection => "no_connection", Fault, Failed,
        "Correct the host in the URL or its DNS entry, start the server, and let the firewall pass the sender's addresses.";
    /// What answers does not speak TLS.
    NotTls => "not_tls", Fault, Handshake,
        "Let this port speak TLS, or correct the port in the URL.";
    /// The receiver has no version of TLS that the sender has.
    TlsVersion => "tls_version", Fault, Handshake,
        "Turn on a version of TLS that the sender has (nginx: ssl_protocols, Apache: SSLProtocol, hookgate: policy in [tls]).";
    /// The versions agree, and no cipher suite does.
    CipherSuite => "cipher_suite", Fault, Handshake,
        "Turn on one of the sender's suites (nginx: ssl_ciphers, Apache: SSLCipherSuite, hookgate: policy in [tls]). Suites with ECDSA need an ECDSA key, suites with RSA an RSA key.";
    /// The receiver has no group of key exchange for the sender's versions.
    KeyExchange => "key_exchange", Fault, Handshake,
        "Turn on a group that TLS 1.2 has too, such as X25519 or P-256 (nginx: ssl_ecdh_curve, Apache: SSLOpenSSLConfCmd Groups, hookgate: key_exchange in [tls]). X25519MLKEM768 is for TLS 1.3 alone.";
    /// The handshake fails before the receiver shows its certificate, or for another reason than a certificate.
    HandshakeFailed => "handshake_failed", Fault, Handshake,
        "Look into the receiver's log for the handshake of this moment.";
    /// The sender can connect, and this program cannot: it has none of the suites that both have.
    NotSeen => "not_seen", Warning, None,
        "Turn on a suite with ECDHE and AES-GCM beside the others: they are also the ones that RFC 9325 recommends.";
    /// TLS 1.0 or 1.1 is turned on.
    OldTls => "old_tls", Note, None,
        "Turn TLS 1.0 and 1.1 off (RFC 8996), unless an old client needs them.";
    /// A certificate cannot be parsed.
    ChainMalformed => "chain_malformed", Fault, Handshake,
        "Replace the certificate: its authority issues one that follows RFC 5280.";
    /// The end entity signed itself.
    SelfSigned => "self_signed", Fault, Handshake,
        "Get a certificate of a public authority, such as Let's Encrypt, for this host.";
    /// The issuer of the end entity is neither sent nor a root.
    ChainIncomplete => "chain_incomplete", Fault, Handshake,
        "Append the intermediate certificates to the file of the certificate, in order (certbot: fullchain.pem and not cert.pem).";
    /// The chain ends at an authority that is in no list of roots.
    UnknownRoot => "unknown_root", Fault, Handshake,
        "Get a certificate of an authority in Mozilla's list. If this is a public authority, an intermediate is missing: append it. If the sender takes an authority of yours, give it to the sender, and name it here by --root.";
    /// A certificate did not issue the one before it.
    ChainOutOfOrder => "chain_out_of_order", Warning, Handshake,
        "Sort the file: the certificate of the host first, then the one that issued it, and so on.";
    /// Certificates that are not on the path follow it.
    ChainExtra => "chain_extra", Warning, None,
        "Remove the certificates that are not on the path.";
    /// The root is sent along.
    ChainHasRoot => "chain_has_root", Note, None,
        "Remove the root: senders have it, or do not trust it.";
    /// A certificate has expired.
    Expired => "expired", Fault, Expired,
        "Renew the certificate, and reload the server: renewed files are not in use before.";
    /// A certificate is not valid yet.
    NotYetValid => "not_yet_valid", Fault, Handshake,
        "Wait for its first day, or get another one. Check the clock of the host that issued it.";
    /// The end entity expires within 30 days.
    ExpiresSoon => "expires_soon", Warning, None,
        "Renew the certificate. ACME clients renew 30 days ahead, so look why none did.";
    /// The certificate is for other names.
    WrongName => "wrong_name", Fault, Handshake,
        "Get a certificate with this host as a DNS name in its subject alternative name, or correct the URL at the sender.";
    /// The key usage or the extended key usage does not allow a TLS server.
    KeyUsage => "key_usage", Fault, Handshake,
        "Get a certificate for TLS servers: key usage digitalSignature, extended key usage serverAuth.";
    /// A signature on the path is not accepted: SHA-1, a short RSA key, a curve that is not in use, or a signature that does not verify.
    ChainSignature => "chain_signature", Fault, Handshake,
        "Get a certificate whose path is signed with SHA-256 or better by RSA keys of 2048 bits or more, or by ECDSA.";
    /// The path violates a constraint of RFC 5280.
    PathConstraint => "path_constraint", Fault, Handshake,
        "Get a certificate of another authority, or ask this one.";
    /// No client certificate is asked for.
    NoCertificateRequest => "no_client_certificate_asked", Warning, None,
        "Turn client certificates on (nginx: ssl_verify_client, Apache: SSLVerifyClient, hookgate: a provider with a certificate in a route of this host). Until then anybody can send what this sender sends.";
    /// The CertificateRequest names no authority.
    NoCaNames => "no_ca_names", Note, None,
        "Send the names of the sender's authorities (nginx: ssl_client_certificate and not ssl_trusted_certificate, Apache: SSLCACertificateFile).";
    /// It names authorities, and none of the sender's.
    ForeignCaNames => "foreign_ca_names", Warning, None,
        "Add the sender's trust anchors to the receiver's: a sender with several certificates chooses by these names, and may present none.";
    /// A request without a client certificate succeeds.
    AbsentAccepted => "absent_certificate_accepted", Fault, None,
        "Refuse requests without a verified certificate (nginx: ssl_verify_client on, or a check of $ssl_client_verify).";
    /// A request with a certificate of an unknown authority succeeds.
    ForeignAccepted => "foreign_certificate_accepted", Fault, None,
        "Verify the chain up to the sender's trust anchors (nginx: ssl_verify_client on and not optional_no_ca; its subject alone proves nothing).";
    /// A request without signature, token or secret succeeds, and the sender has no certificate that could have proven it.
    UnprovenAccepted => "unproven_request_accepted", Fault, None,
        "Check the sender's signature, token or secret, and refuse requests without it.";
    /// The given certificate is refused in the handshake.
    OwnRefusedByAlert => "own_certificate_alert", Fault, Handshake,
        "Compare the receiver's trust anchors, depth and identity with this certificate; its log names what failed.";
    /// The request with the given certificate is answered with a status 4xx.
    OwnRefused => "own_certificate_refused", Warning, Refused,
        "Read the answer and the receiver's log. A refusal for lack of a signature or token is right: this request has none. `hookgate send` sends one that has.";
    /// The request with the given certificate is refused for lack of its proof alone, which the probe has not.
    OwnUnproven => "own_request_unproven", Note, None,
        "Nothing: the certificate is accepted, and the probe has no signature, token or secret. `hookgate send` sends a request that has one.";
    /// The sender has no certificate, and is refused for lack of one.
    CertificateDemanded => "certificate_demanded", Fault, Refused,
        "Compare host and path of the URL with the receiver's routes, letter by letter. If they agree, let the receiver take requests without a certificate here (nginx: ssl_verify_client optional or off, hookgate: a provider with client_certificate = \"none\" in this route).";
    /// The sender has no certificate, and is refused for another reason than the lack of its proof.
    Refused => "request_refused", Warning, Refused,
        "Read the answer and the receiver's log. A refusal for the source address is right, unless you probe from an address of the sender.";
    /// A status 404 or 410.
    NotFound => "not_found", Warning, Refused,
        "Compare the path of the URL with the receiver's routes, letter by letter. Some receivers hide a path from those that they refuse.";
    /// A redirection, which senders do not follow.
    Redirected => "redirected", Warning, Refused,
        "Answer at the URL itself, or give the sender the URL that it leads to.";
    /// A status 5xx.
    ServerError => "server_error", Warning, Failed,
        "Look into the receiver's log: a proxy answers so if the program behind it is down.";
    /// What is answered is not HTTP, or the connection ends without an answer.
    NoAnswer => "no_answer", Fault, Failed,
        "Look into the receiver's log. If it refuses a certificate by closing the connection, let it send an alert or a status.";
    /// No first byte within the sender's time-out.
    Slow => "slow", Fault, Failed,
        "Answer first and work afterwards: put the webhook into a queue, and answer 202.";
    /// The first byte takes more than half of the sender's time-out.
    NearlySlow => "nearly_slow", Warning, Failed,
        "Answer first and work afterwards: under load, the sender's time-out will pass.";
}

impl Kind {
    /// The stable name: in reports, and in the documentation. Never renamed.
    #[must_use]
    pub fn id(self) -> &'static str {
        self.row().0
    }

    /// The severity, unless something about the sender raises or lowers it.
    #[must_use]
    pub fn severity(self) -> Severity {
        self.row().1
    }

    /// How to mend it.
    #[must_use]
    pub fn mend(self) -> &'static str {
        self.row().3
    }

    /// What `sender` does about it, as a sentence.
    #[must_use]
    pub fn consequence(self, sender: &Sender) -> String {
        let after = &sender.facts.after;
        let (documented, event) = match self.row().2 {
            Reaction::Handshake => (after.handshake.as_ref(), "a handshake fails"),
            Reaction::Expired => (after.expired.as_ref().or(after.handshake.as_ref()), "a certificate has expired"),
            Reaction::Refused => (after.refused.as_ref(), "a webhook is refused"),
            Reaction::Failed => (after.failed.as_ref(), "no answer or a status 5xx comes"),
            Reaction::None => return format!("{} does not notice.", sender.name),
        };
        match documented {
            Some(words) => format!("{} {words}.", sender.name),
            None => format!("{} does not document what it does when {event}; count on a lost webhook.", sender.name),
        }
    }
}

/// One finding about one receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was found.
    pub kind: Kind,
    /// How bad it is for the sender.
    pub severity: Severity,
    /// What exactly: names, dates, numbers.
    pub detail: String,
}

impl Finding {
    /// A finding with the severity of its kind.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, severity: kind.severity(), detail: detail.into() }
    }

    /// The same with another severity.
    #[must_use]
    pub fn with(self, severity: Severity) -> Self {
        Self { severity, ..self }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_differ_and_remedies_are_sentences() {
        let ids: HashSet<&str> = Kind::ALL.iter().map(|kind| kind.id()).collect();
        assert_eq!(ids.len(), Kind::ALL.len());
        assert!(Kind::ALL.iter().all(|kind| kind.mend().ends_with('.')));
    }

    #[test]
    fn the_page_has_every_finding_with_its_severity() {
        let page = include_str!("../../../docs/probe.md");
        for kind in Kind::ALL {
            let row = format!("| `{}` | {} | ", kind.id(), kind.severity());
            assert_eq!(page.matches(&row).count(), 1, "{row}");
        }
    }
}
