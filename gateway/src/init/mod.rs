//! `hookgate init`: a first configuration for one sender.
//!
//! Owns its output, exit code and the one file that it writes. Must not know a sender by name: presets say what an operator adds, and the
//! pages of docs/senders what to do at the sender. Must not judge a value: what it writes is parsed as `hookgate check` parses it.

mod answers;
mod page;
mod text;

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use self::answers::{Answers, Terminal};
use self::text::Draft;
use crate::cli::Init;
use crate::config::preset::{Found, Preset, Presets};
use crate::config::{Certificate, Config, ConfigError, ConfigErrors, ServerCertificate};

/// Writes the configuration that `arguments` and the answers on the terminal describe. Exit code 0 if it is written, also if files that it
/// names are still missing, which it names; else 1.
pub fn init(arguments: &Init) -> ExitCode {
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Init) -> Result<()> {
    let path = &arguments.config;
    if !arguments.print {
        refuse_to_overwrite(path)?;
    }
    let presets = Presets::for_configuration(&without_file(path))?;
    let is_asked = io::stdin().is_terminal() && io::stderr().is_terminal();
    let mut terminal = is_asked.then(|| Terminal::new(io::stdin().lock(), io::stderr()));
    let answers = Answers::collect(arguments, &presets, terminal.as_mut())?;
    let Found::Preset(preset) = presets.find(&answers.preset) else {
        bail!("there is no preset \"{}\"", answers.preset)
    };
    let draft = Draft::new(preset, &answers);
    let (missing, private_root) = match Config::parse_draft(&draft.text, path) {
        Ok((config, warnings)) => {
            warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
            (
                Vec::new(),
                config.certificates.first().and_then(Certificate::of_files).and_then(ServerCertificate::private_root),
            )
        }
        Err(errors) => (missing_files(errors)?, None),
    };
    let found = Outcome { missing, private_root };
    if arguments.print {
        print!("{}", draft.text);
        eprint!("{}", outcome(&answers, preset, &draft, &found, path));
        return Ok(());
    }
    write_new(path, &draft.text)?;
    println!("wrote {}", path.display());
    print!("{}", outcome(&answers, preset, &draft, &found, path));
    Ok(())
}

/// The presets are those of a configuration that names no directories, whatever is at `path`.
fn without_file(path: &Path) -> PathBuf {
    path.with_file_name(".hookgate.toml.absent")
}

/// A file that the configuration names and that does not exist: where it is named, and its path.
struct Missing {
    place: String,
    key: String,
    path: PathBuf,
}

/// The files that do not exist, if nothing else is wrong.
///
/// # Errors
///
/// All other errors: a value is wrong, or a file is.
fn missing_files(errors: ConfigErrors) -> Result<Vec<Missing>> {
    let others: Vec<String> =
        errors.errors().iter().filter(|error| error.missing_file().is_none()).map(named_by_option).collect();
    if !others.is_empty() {
        bail!(
            "{}\nnothing was written; correct these values (--set KEY=VALUE) or files, and run this again",
            others.join("\n")
        );
    }
    let missing = errors.errors().iter().filter_map(|error| {
        let line = error.location.line.map(|line| format!("line {line}, ")).unwrap_or_default();
        let key = error.location.key.clone();
        Some(Missing { place: format!("{line}{key}"), key, path: error.missing_file()?.to_owned() })
    });
    Ok(missing.collect())
}

/// The options, and the keys whose values they are.
const OPTIONS: [(&str, &str); 7] = [
    ("route[0].host", "--host"),
    ("route[0].path", "--path"),
    ("route[0].handler", "--handler"),
    ("listen.addresses", "--listen"),
    ("provider[0].name", "--name"),
    ("certificate[0].chain", "--chain"),
    ("certificate[0].key", "--key"),
];

/// An error about a value of the draft, with the option that gave it: the file is not written.
fn named_by_option(error: &ConfigError) -> String {
    let option = OPTIONS.iter().find(|(key, _)| error.location.key.starts_with(key));
    option.map_or_else(|| error.to_string(), |(_, option)| format!("{option}: {}", error.problem))
}

fn refuse_to_overwrite(path: &Path) -> Result<()> {
    // A symbolic link counts, wherever it leads.
    if path.symlink_metadata().is_ok() {
        bail!(
            "{} exists, and init overwrites nothing; write another file with --config FILE, move this one away, or print the sections with \
             --print and add them to it",
            path.display()
        );
    }
    Ok(())
}

/// Writes a file that must not exist.
fn write_new(path: &Path, text: &str) -> Result<()> {
    let created = File::create_new(path).with_context(|| match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() && !directory.is_dir() => {
            format!("{} cannot be written: its directory does not exist", path.display())
        }
        _ => format!("{} cannot be written", path.display()),
    });
    let mut file = created?;
    file.write_all(text.as_bytes()).with_context(|| format!("{} cannot be written", path.display()))
}

/// What the parser says of the draft.
struct Outcome {
    missing: Vec<Missing>,
    /// The root of the server certificate, if no sender has it.
    private_root: Option<String>,
}

/// What to do next.
fn outcome(answers: &Answers, preset: &Preset, draft: &Draft, found: &Outcome, path: &Path) -> String {
    let Outcome { missing, private_root } = found;
    let (shown, url) = (path.display(), answers.url());
    // Writing to a String cannot fail, here and below.
    let mut text = format!("\nAt the sender ({}), enter the URL {url}\n", preset.title());
    if let Some(page) = page::of(&answers.preset) {
        let _ = writeln!(text, "{}", page::section(page, page::SENDER));
    }
    let _ = writeln!(text, "\nGood to know ({}):", preset.documentation());
    preset.notes().iter().for_each(|note| {
        let _ = writeln!(text, "- {note}");
    });
    if !missing.is_empty() {
        let _ = writeln!(text, "\nStill missing, {} that the configuration names:", files(missing.len()));
        for Missing { place, key, path } in missing {
            let _ = writeln!(text, "- {} ({place}): {}", path.display(), draft.what(key));
        }
        text.push_str(
            "Let only root write them, and only root and the group of hookgate read keys and secrets (chmod 0640).\n",
        );
    }
    let (as_preset, port) = (&answers.preset, answers.port());
    let root = if private_root.is_some() { " --root ROOT.pem" } else { "" };
    let _ = writeln!(
        text,
        "\nThen:\n  hookgate check --config {shown}\n  hookgate run --config {shown}    (with the package: systemctl enable --now \
         hookgate.service)\n  hookgate probe {url} --as {as_preset} --connect 127.0.0.1:{port}{root}"
    );
    if let Some(root) = private_root {
        let _ = writeln!(
            text,
            "The server certificate is of a private authority: ROOT.pem is the certificate of {root}. A sender that does not have it drops the \
             webhook."
        );
    }
    text
}

fn files(count: usize) -> String {
    if count == 1 { "one file".to_owned() } else { format!("{count} files") }
}
