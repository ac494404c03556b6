//! The problems of `[fleet]`, as a closed list with their messages.
//!
//! Owns these messages. Must not decide: the section finds the problems.

use std::path::PathBuf;

/// An error about what hosts share. The message says what to write instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FleetProblem {
    /// Not the address of a NATS server.
    #[error("\"{text}\" is no address of a NATS server; write \"tls://nats-1.example.com:4222\"")]
    Server {
        /// The text.
        text: String,
    },
    /// Without TLS, to another host.
    #[error(
        "\"{text}\" is without TLS, and who reads or changes what is sent there decides which deliveries are handled; write tls:// (nats:// is \
         for a server on this host, such as nats://127.0.0.1:4222)"
    )]
    Plain {
        /// The text.
        text: String,
    },
    /// Not a name.
    #[error(
        "\"{text}\" is no name of a fleet, which becomes the name of a bucket; write letters, digits, - and _, at most {maximum}"
    )]
    Name {
        /// The text.
        text: String,
        /// Most letters.
        maximum: usize,
    },
    /// A rule remembers for longer.
    #[error("the hosts remember for {keep} s, and a replay rule has window_s = {window}; write keep_s = {window}")]
    Keep {
        /// How long the hosts remember, in seconds.
        keep: u64,
        /// The longest window, in seconds.
        window: u64,
    },
    /// A fallback from the disk to the disk.
    #[error(
        "fallback is what takes over from the servers, and with spool = \"disk\" these store no deliveries; remove it"
    )]
    Fallback,
    /// Not a file of credentials.
    #[error(
        "{} has no user JWT and no NKEY seed; write the path of the file that `nsc generate creds` makes (-----BEGIN NATS USER JWT-----)",
        .path.display()
    )]
    Credentials {
        /// The file.
        path: PathBuf,
    },
}
