//! The manual pages: hookgate(8), made of the command line's definition, and hookgate.toml(5), made of `docs/configuration.md`.
//!
//! So neither can be out of date. What the definition does not contain (signals, files, …) is in `xtask/package/hookgate.8.md`.

use anyhow::Result;
use clap::{Arg, Command, CommandFactory as _};
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

use super::{roff, tree};
use crate::cli::Cli;

/// hookgate(8).
///
/// # Errors
///
/// `xtask/package/hookgate.8.md` cannot be read.
pub(super) fn command(version: &str) -> Result<String> {
    let mut cli = Cli::command();
    cli.build();
    let mut page = Roff::new();
    title(&mut page, "hookgate", "8", version);
    page.control("SH", ["NAME"]);
    page.text([roman("hookgate - gateway that receives webhooks over mutual TLS")]);
    page.control("SH", ["SYNOPSIS"]);
    let commands = leaves(&cli);
    for command in &commands {
        page.control("PP", []).text(synopsis(command));
    }
    page.control("SH", ["COMMANDS"]);
    for command in &commands {
        page.control("SS", [name(command)]);
        page.text([roman(format!("{}.", command.get_about().map(ToString::to_string).unwrap_or_default()))]);
        for argument in arguments(command) {
            page.control("TP", []).text(spelling(argument));
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            let default = argument.get_default_values().iter().map(|value| value.to_string_lossy().into_owned());
            let default = default.map(|value| format!(" Default: {value}.")).collect::<String>();
            page.text([roman(format!("{help}.{default}"))]);
        }
    }
    roff::append(&mut page, &tree::read("xtask/package/hookgate.8.md")?);
    Ok(page.to_roff())
}

/// hookgate.toml(5).
///
/// # Errors
///
/// The documentation cannot be read.
pub(super) fn file(version: &str) -> Result<String> {
    let mut page = Roff::new();
    title(&mut page, "hookgate.toml", "5", version);
    page.control("SH", ["NAME"]).text([roman("hookgate.toml - configuration of hookgate")]);
    page.control("SH", ["DESCRIPTION"]);
    roff::append(&mut page, &tree::read("docs/configuration.md")?);
    page.control("SH", ["SEE ALSO"]).text([bold("hookgate"), roman("(8)")]);
    Ok(page.to_roff())
}

fn title(page: &mut Roff, title: &str, section: &str, version: &str) {
    page.control("TH", [title, section, "", &format!("hookgate {version}"), "System Administration"]);
}

/// The commands without subcommands, in order.
fn leaves(command: &Command) -> Vec<&Command> {
    let below: Vec<_> = command.get_subcommands().filter(|below| below.get_name() != "help").collect();
    if below.is_empty() { vec![command] } else { below.into_iter().flat_map(leaves).collect() }
}

/// The full name of a command: `hookgate filter status`.
fn name(command: &Command) -> &str {
    command.get_bin_name().unwrap_or_else(|| command.get_name())
}

fn arguments(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|argument| argument.get_id() != "help")
}

fn synopsis(command: &Command) -> Vec<Inline> {
    let mut line = vec![bold(name(command))];
    for argument in arguments(command) {
        line.push(roman(" ["));
        line.extend(spelling(argument));
        line.push(roman("]"));
    }
    line
}

/// The spelling of an argument: `-c, --config CONFIG`.
fn spelling(argument: &Arg) -> Vec<Inline> {
    let short = argument.get_short().map(|short| format!("-{short}"));
    let long = argument.get_long().map(|long| format!("--{long}"));
    let names: Vec<_> = short.into_iter().chain(long).collect();
    let value = argument.get_value_names().unwrap_or_default().first().map(ToString::to_string).unwrap_or_default();
    if names.is_empty() {
        return vec![italic(value)];
    }
    vec![bold(names.join(", ")), roman(" "), italic(value)]
}
