//! The values of a first configuration: options of the command line, answers on a terminal, and usual values.
//!
//! Owns the questions, and which values have a usual one. Without a terminal nothing is asked, and everything that is missing is named at
//! once.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::cli::Init;
use crate::config::preset::{Found, Preset, Presets};
use crate::config::{Addition, AdditionForm, FileKind, Usual};

/// Directory of files that the operator brings, beside the configuration, as the package makes it.
const DIRECTORY: &str = "certificates";
/// Directory of the sockets of handlers, as the package makes it.
const HANDLERS: &str = "/run/hookgate-handlers";
/// The addresses of a gateway.
const LISTEN: [&str; 2] = ["0.0.0.0:443", "[::]:443"];
/// The port of a URL without one.
const HTTPS: u16 = 443;

/// How often a question is put that gets no usable answer.
const ATTEMPTS: usize = 3;
/// The most bytes of an answer: as many as a long path.
const MAXIMUM_ANSWER_BYTES: u64 = 4096;

/// The values of a configuration.
#[derive(Debug)]
pub(super) struct Answers {
    pub(super) preset: String,
    pub(super) name: String,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) handler: String,
    pub(super) chain: String,
    pub(super) key: String,
    pub(super) listen: Vec<String>,
    /// What the operator adds to the preset, each with its value, in the order of the preset.
    pub(super) additions: Vec<(Addition, String)>,
}

/// A terminal that answers questions.
pub(super) struct Terminal {
    input: Box<dyn BufRead>,
    output: Box<dyn Write>,
}

impl Terminal {
    pub(super) fn new(input: impl BufRead + 'static, output: impl Write + 'static) -> Self {
        Self { input: Box::new(input), output: Box::new(output) }
    }

    /// The answer to a question; without an answer, `usual`. `judge` says what is wrong with an answer.
    fn ask(&mut self, what: &str, usual: Option<&str>, judge: &dyn Fn(&str) -> Option<String>) -> Result<String> {
        for _ in 0..ATTEMPTS {
            match usual {
                Some(usual) => write!(self.output, "{what} [{usual}]: ")?,
                None => write!(self.output, "{what}: ")?,
            }
            self.output.flush()?;
            let mut line = Vec::new();
            let bytes = std::io::Read::take(&mut self.input, MAXIMUM_ANSWER_BYTES).read_until(b'\n', &mut line)?;
            if bytes == 0 {
                writeln!(self.output)?;
                bail!("the input ended; nothing was written");
            }
            let line = String::from_utf8(line).context("the answer is not UTF-8; nothing was written")?;
            let answer = match line.trim() {
                "" => usual.unwrap_or_default(),
                answer => answer,
            };
            match judge(answer) {
                None if !answer.is_empty() => return Ok(answer.to_owned()),
                None => writeln!(self.output, "An answer is needed here.")?,
                Some(wrong) => writeln!(self.output, "{wrong}")?,
            }
        }
        bail!("no usable answer after {ATTEMPTS} attempts; nothing was written")
    }
}

/// The values so far, and what is missing.
struct Collection<'a> {
    terminal: Option<&'a mut Terminal>,
    set: BTreeMap<String, String>,
    missing: Vec<String>,
}

impl Collection<'_> {
    /// A value: the given one, or an answer, or the usual one. `option` is how to give it on the command line. Empty if it is missing.
    fn value(&mut self, given: Option<&str>, option: &str, what: &str, usual: Option<&str>) -> Result<String> {
        self.judged(given, option, what, usual, &|_| None)
    }

    fn judged(
        &mut self,
        given: Option<&str>,
        option: &str,
        what: &str,
        usual: Option<&str>,
        judge: &dyn Fn(&str) -> Option<String>,
    ) -> Result<String> {
        match (given, &mut self.terminal, usual) {
            (Some(given), ..) => match judge(given) {
                Some(wrong) => bail!("{wrong}"),
                None => Ok(given.to_owned()),
            },
            (None, Some(terminal), usual) => terminal.ask(&capitalized(what), usual, judge),
            (None, None, Some(usual)) => Ok(usual.to_owned()),
            (None, None, None) => {
                self.missing.push(format!("{option}: {what}"));
                Ok(String::new())
            }
        }
    }

    fn addition(&mut self, addition: &Addition, name: &str, url: &str) -> Result<String> {
        let given = self.set.remove(addition.key);
        let option = format!("--set {}=…", addition.key);
        let usual = match &addition.form {
            AdditionForm::File(kind) => Some(format!("{DIRECTORY}/{}", usual_file(kind, name))),
            AdditionForm::Text(usual) => usual.map(|usual| usual_text(usual, name, url)),
            AdditionForm::Consent => {
                let is_consent = |answer: &str| {
                    (!matches!(answer, "yes" | "true")).then(|| {
                        format!(
                            "{} is written on purpose or not at all: answer yes, or end this with Ctrl-C",
                            addition.key
                        )
                    })
                };
                let option = format!("--set {}=true", addition.key);
                self.judged(given.as_deref(), &option, &format!("{} (yes)", addition.what), None, &is_consent)?;
                return Ok("true".to_owned());
            }
        };
        self.value(given.as_deref(), &option, &addition.what, usual.as_deref())
    }
}

impl Answers {
    /// All values. With a terminal, asks for what the arguments leave open.
    ///
    /// # Errors
    ///
    /// Everything that is missing, or a name that does not exist.
    pub(super) fn collect(arguments: &Init, presets: &Presets, terminal: Option<&mut Terminal>) -> Result<Self> {
        let set = keys(&arguments.set)?;
        let mut values = Collection { terminal, set, missing: Vec::new() };
        let known = |name: &str| match presets.find(name) {
            Found::Preset(_) => None,
            Found::Unusable(unusable) => Some(unusable.errors()),
            Found::Unknown => Some(format!(
                "there is no preset \"{name}\"; the presets are {}",
                presets.names().collect::<Vec<_>>().join(", ")
            )),
        };
        let what = "the sender, as the name of a preset (`hookgate providers` lists them)";
        let preset_name = values.judged(arguments.preset.as_deref(), "PRESET", what, None, &known)?;
        if preset_name.is_empty() {
            bail!("missing: PRESET, {what}, such as `hookgate init pagerduty --host hooks.example.com`");
        }
        let Found::Preset(preset) = presets.find(&preset_name) else { bail!(known(&preset_name).unwrap_or_default()) };
        let proof = proof(preset, arguments.proof.as_deref())?;
        let name = arguments.name.clone().unwrap_or_else(|| preset_name.clone());
        let what = "the host of the webhook's URL, such as hooks.example.com";
        let host = values.value(arguments.host.as_deref(), "--host", what, None)?;
        let path = values.value(arguments.path.as_deref(), "--path", "its path", Some(&format!("/{name}")))?;
        let handler = arguments.handler.as_deref().map(shown);
        let usual = format!("{HANDLERS}/{name}.sock");
        let handler = values.value(handler.as_deref(), "--handler", "the socket of the handler", Some(&usual))?;
        let mut file = |given: Option<&Path>, option, what, usual: &str| {
            values.value(given.map(shown).as_deref(), option, what, Some(&format!("{DIRECTORY}/{usual}")))
        };
        let what = "a PEM file with the server certificate, then its intermediates";
        let chain = file(arguments.chain.as_deref(), "--chain", what, "fullchain.pem")?;
        let key = file(arguments.key.as_deref(), "--key", "a PEM file with its private key", "privkey.pem")?;
        let listen = match arguments.listen.as_slice() {
            [] => LISTEN.map(str::to_owned).to_vec(),
            given => given.to_vec(),
        };
        let handler = handler.strip_prefix("unix:").map(str::to_owned).unwrap_or(handler);
        let mut answers =
            Self { preset: preset_name, name, host, path, handler, chain, key, listen, additions: Vec::new() };
        let url = answers.url();
        for addition in preset.additions(proof) {
            let value = values.addition(&addition, &answers.name, &url)?;
            answers.additions.push((addition, value));
        }
        finish(values, preset, &answers)?;
        Ok(answers)
    }

    /// The URL of the webhook, as the sender gets it.
    pub(super) fn url(&self) -> String {
        let Self { host, path, .. } = self;
        match self.port() {
            HTTPS => format!("https://{host}{path}"),
            port => format!("https://{host}:{port}{path}"),
        }
    }

    /// The first port that is listened on.
    pub(super) fn port(&self) -> u16 {
        let port =
            self.listen.first().and_then(|address| address.rsplit(':').next()).and_then(|port| port.parse().ok());
        port.unwrap_or(HTTPS)
    }
}

/// Refuses to leave out what is missing, and what was given in vain.
fn finish(values: Collection<'_>, preset: &Preset, answers: &Answers) -> Result<()> {
    if let Some(key) = values.set.keys().next() {
        let known: Vec<&str> = answers.additions.iter().map(|(addition, _)| addition.key).collect();
        let known = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
        bail!("--set {key}: the preset \"{}\" has no such value; here you can set {known}", preset.name());
    }
    if !values.missing.is_empty() {
        bail!("missing:\n  {}\nnothing was written", values.missing.join("\n  "));
    }
    Ok(())
}

/// The values of `--set` by key.
fn keys(set: &[(String, String)]) -> Result<BTreeMap<String, String>> {
    let mut keys = BTreeMap::new();
    for (key, value) in set {
        if keys.insert(key.clone(), value.clone()).is_some() {
            bail!("--set {key} is there twice; give it once");
        }
    }
    Ok(keys)
}

/// The chosen proof, if the preset leaves a choice.
fn proof<'a>(preset: &Preset, chosen: Option<&'a str>) -> Result<Option<&'a str>> {
    let alternatives = preset.alternatives();
    match chosen {
        Some(chosen) if !alternatives.contains(&chosen) => {
            let choice = match alternatives.len() {
                0 => "it leaves no choice; remove --proof".to_owned(),
                _ => format!("write --proof with one of {}", alternatives.join(", ")),
            };
            bail!("--proof {chosen}: not a proof of the preset \"{}\"; {choice}", preset.name())
        }
        chosen => Ok(chosen),
    }
}

fn usual_file(kind: &FileKind, name: &str) -> String {
    match kind {
        FileKind::Secret => format!("{name}.secret"),
        FileKind::PublicKey(Some(file)) | FileKind::TrustAnchors(Some(file)) => file.clone(),
        FileKind::PublicKey(None) => format!("{name}.pem"),
        FileKind::TrustAnchors(None) => format!("{name}-ca.pem"),
    }
}

fn usual_text(usual: Usual, name: &str, url: &str) -> String {
    match usual {
        Usual::WebhookUrl => url.to_owned(),
        Usual::ProviderName => name.to_owned(),
        Usual::Text(text) => text.to_owned(),
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn capitalized(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}
