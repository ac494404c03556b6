//! A complete configuration of the daemon for the four providers of the documents, with the throwaway PKI.
//!
//! Holds placeholders for what only [`crate::gateway::Gateway::start`] knows, which replaces them: [`LISTEN_PORT`],
//! [`METRICS_PORT`], [`IO`]. Tests append to the text, or replace parts of it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::documents;
use crate::pki::{Pki, Sender, ServerIdentity};

/// Placeholder for the port to accept on.
pub const LISTEN_PORT: &str = "@LISTEN_PORT@";

/// Placeholder for the port of the metrics endpoint.
pub const METRICS_PORT: &str = "@METRICS_PORT@";

/// Placeholder for the I/O backend: `auto`, `io_uring`, `io_uring_direct` or `epoll`.
pub const IO: &str = "@IO@";

/// The host of the routes of [`FourProviders`]. The server certificate should be for it.
pub const HOST: &str = "hooks.example.com";

/// What the configuration is made of. Each provider has the path of its document ([`documents::ALL`]).
#[derive(Clone, Debug)]
pub struct FourProviders<'a> {
    /// The PKI whose roots are trusted.
    pub pki: &'a Pki,
    /// The server certificates; the first is the default.
    pub certificates: Vec<&'a ServerIdentity>,
    /// Socket of the handler for PagerDuty and Percolate.
    pub events_handler: &'a Path,
    /// Socket of the handler for Dialogflow CX and ES.
    pub dialogflow_handler: &'a Path,
    /// `respond` or `abort`, for every provider.
    pub on_failure: &'a str,
    /// Revocation lists by sender. For the other senders none are checked.
    pub revocation_lists: Vec<(Sender, Vec<PathBuf>)>,
    /// Lines about proofs by provider, such as `signature = { secrets = […] }`. For the other providers the certificate suffices.
    pub proofs: Vec<(&'a str, String)>,
    /// Lines for `[listen]`, such as `workers = 1`.
    pub listen: &'a str,
    /// Lines for `[limits]`.
    pub limits: &'a str,
}

impl<'a> FourProviders<'a> {
    /// A configuration that responds to refusals, checks no revocation list, demands no proof, and keeps the default limits.
    pub fn new(
        pki: &'a Pki,
        certificate: &'a ServerIdentity,
        events_handler: &'a Path,
        dialogflow_handler: &'a Path,
    ) -> Self {
        Self {
            pki,
            certificates: vec![certificate],
            events_handler,
            dialogflow_handler,
            on_failure: "respond",
            revocation_lists: Vec::new(),
            proofs: Vec::new(),
            listen: "",
            limits: "",
        }
    }

    /// The configuration file, placeholders included.
    pub fn toml(&self) -> String {
        let mut text =
            format!("[listen]\naddresses = [\"127.0.0.1:{LISTEN_PORT}\"]\nio = \"{IO}\"\n{}\n\n", self.listen);
        for certificate in &self.certificates {
            let (chain, key) = (quoted(&certificate.chain_path), quoted(&certificate.key_path));
            push(&mut text, format_args!("[[certificate]]\nchain = {chain}\nkey = {key}\n\n"));
        }
        for document in documents::ALL {
            let name = document.provider;
            push(&mut text, format_args!("[[provider]]\nname = \"{name}\"\npreset = \"{name}\"\n"));
            push(&mut text, format_args!("trust_anchors = [{}]\n", list(&self.anchors(document.sender))));
            push(&mut text, format_args!("on_failure = \"{}\"\n", self.on_failure));
            let proof = self.proofs.iter().find(|(provider, _)| *provider == name);
            let proof = proof.map_or("proof = \"certificate\"", |(_, lines)| lines);
            push(&mut text, format_args!("{proof}\n"));
            if let Some((_, lists)) = self.revocation_lists.iter().find(|(sender, _)| *sender == document.sender) {
                push(&mut text, format_args!("crls = [{}]\n", list(lists)));
            }
            text.push('\n');
        }
        for document in documents::ALL {
            let (name, path) = (document.provider, document.path);
            let handler = match document.sender {
                Sender::Dialogflow | Sender::DialogflowNewer => self.dialogflow_handler,
                Sender::PagerDuty | Sender::Percolate => self.events_handler,
            };
            let handler = quoted(Path::new(&format!("unix:{}", handler.display())));
            push(&mut text, format_args!("[[route]]\nname = \"{name}\"\nhost = \"{HOST}\"\npath = \"{path}\"\n"));
            push(&mut text, format_args!("methods = [\"POST\"]\nproviders = [\"{name}\"]\nhandler = {handler}\n\n"));
        }
        text + &format!("[limits]\n{}\n\n[metrics]\nlisten = \"127.0.0.1:{METRICS_PORT}\"\n", self.limits)
    }

    /// The roots of `sender`. The older and the newer chain of Dialogflow end in different ones.
    fn anchors(&self, sender: Sender) -> Vec<PathBuf> {
        let mut anchors = vec![self.pki.sender(sender).root.path().to_owned()];
        if sender == Sender::Dialogflow {
            anchors.push(self.pki.sender(Sender::DialogflowNewer).root.path().to_owned());
        }
        anchors
    }
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("writing to a String cannot fail");
}

/// `path` as a TOML basic string.
fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display().to_string().replace('\\', "\\\\").replace('"', "\\\""))
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| quoted(path)).collect::<Vec<_>>().join(", ")
}
