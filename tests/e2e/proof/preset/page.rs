//! The pages of docs/senders as configuration of one daemon: every `[[provider]]` of every page, with throwaway roots and keys.
//!
//! Owns the way from a page to sections. Must not know what a sender sends.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use hookgate_testkit::configuration::{HOST, IO, LISTEN_PORT, METRICS_PORT};
use hookgate_testkit::pki::Sender;

use super::{names, repository};
use crate::environment::{Environment, handler_socket, quoted};
use crate::lifecycle::preset::fingerprint;

/// Where Fireblocks publishes its keys. The test has them in a file.
const FIREBLOCKS_URL: &str = "url = \"https://keys.fireblocks.io/.well-known/jwks.json\"";

/// The sections of a page that are about its sender.
pub(super) struct Page {
    pub(super) preset: String,
    sections: String,
}

/// Every page, by the name of its preset.
pub(super) fn all() -> Vec<Page> {
    names("docs/senders", "md").into_iter().map(Page::read).collect()
}

impl Page {
    /// The first configuration without `[listen]` and `[[certificate]]`, and each other one, which is a provider, with a route of its own.
    fn read(preset: String) -> Self {
        let text = fs::read_to_string(repository(&format!("docs/senders/{preset}.md"))).unwrap();
        let mut blocks = text.split("```toml\n").skip(1).map(|block| block.split("```").next().unwrap());
        let first = blocks.next().unwrap();
        let starts = ["[[key_source]]", "[[provider]]"].into_iter().filter_map(|table| first.find(table));
        let mut sections = first[starts.min().unwrap()..].to_owned();
        for provider in blocks {
            let name = value(provider, "name");
            // Writing to a String cannot fail.
            let _ = write!(
                sections,
                "\n{provider}\n[[route]]\nhost = \"{HOST}\"\npath = \"/{name}\"\nproviders = [\"{name}\"]\n\
                 handler = \"unix:/run/app/hook.sock\"\n"
            );
        }
        Self { preset, sections }
    }

    /// The names of its providers.
    pub(super) fn providers(&self) -> impl Iterator<Item = &str> {
        self.sections.split("[[provider]]\n").skip(1).map(|provider| value(provider, "name"))
    }
}

/// The text of the first line `key = "…"`.
fn value<'a>(text: &'a str, key: &str) -> &'a str {
    let start = format!("{key} = \"");
    let line = text.lines().find_map(|line| line.strip_prefix(&start));
    line.and_then(|line| line.strip_suffix('"')).unwrap()
}

/// The roots that take the place of public ones.
fn public_roots(environment: &Environment, preset: &str) -> Option<String> {
    let senders: &[Sender] = match preset {
        "pagerduty" | "slack-mtls" => &[Sender::PagerDuty],
        "dialogflow-cx" | "dialogflow-es" => &[Sender::Dialogflow, Sender::DialogflowNewer],
        "percolate" => &[Sender::Percolate],
        _ => return None,
    };
    let roots: Vec<String> = senders.iter().map(|sender| quoted(environment.pki.sender(*sender).root.path())).collect();
    Some(format!("trust_anchors = [{}]\n", roots.join(", ")))
}

/// The configuration with all pages. Every file that a page names exists in the directory of `environment`, or is the root of the sender
/// with a certificate of the operator's authority.
pub(super) fn configuration(environment: &Environment, pages: &[Page]) -> String {
    let mut text = format!(
        "[listen]\naddresses = [\"127.0.0.1:{LISTEN_PORT}\"]\nio = \"{IO}\"\nworkers = 1\n\n[metrics]\n\
         listen = \"127.0.0.1:{METRICS_PORT}\"\n\n[[certificate]]\nchain = {}\nkey = {}\n\n\
         [[key_source]]\nname = \"google\"\nfile = {}\n\n",
        quoted(&environment.server.chain_path),
        quoted(&environment.server.key_path),
        quoted(&environment.path("google.json")),
    );
    for Page { preset, sections } in pages {
        let line = format!("preset = \"{preset}\"\n");
        let roots = public_roots(environment, preset).unwrap_or_default();
        text += &sections.replace(&line, &format!("{line}{roots}"));
        text += "\n";
    }
    let keys = format!("file = {}", quoted(&environment.path("fireblocks.json")));
    let text = text.replace(FIREBLOCKS_URL, &keys);
    let text = text.replace("\"unix:/run/app/hook.sock\"", &handler_socket(&environment.events));
    let pieces = text.split('"').map(|piece| match in_directory(environment, piece) {
        Some(path) => path.display().to_string(),
        None => piece.to_owned(),
    });
    pieces.collect::<Vec<_>>().join("\"") + &presets(environment)
}

/// The section of a directory with the preset that knows its root: here it knows the one that [`in_directory`] gives it.
fn presets(environment: &Environment) -> String {
    let text = include_str!("../../../../gateway/presets/cloudflare-origin-pull.toml");
    let (before, rest) = text.split_once("sha256 = [\"").unwrap();
    let (_, after) = rest.split_once('"').unwrap();
    let known = fingerprint(environment.pki.sender(Sender::PagerDuty).root.path());
    let directory = environment.path("presets");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("cloudflare-origin-pull.toml"), format!("{before}sha256 = [\"{known}\"{after}")).unwrap();
    format!("\n[presets]\ndirectories = [{}]\n", quoted(&directory))
}

/// The path of a file that a page names without a directory.
fn in_directory(environment: &Environment, piece: &str) -> Option<PathBuf> {
    let is_file = [".secret", ".whsec", ".key", ".pem"].iter().any(|end| piece.ends_with(end));
    if !is_file || piece.contains(['/', '\n']) {
        return None;
    }
    let path = environment.path(piece);
    if !path.exists() {
        assert!(piece.ends_with(".pem"), "a page names {piece}, which the test does not have");
        fs::copy(environment.pki.sender(Sender::PagerDuty).root.path(), &path).unwrap();
    }
    Some(path)
}
