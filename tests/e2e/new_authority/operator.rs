//! An operator who does what `hookgate trust show` prints, word by word.
//!
//! Owns that: the command that it names, and its lines at the places that it names. Must not know what the lines say.

use std::fs;
use std::path::Path;

use crate::command::hookgate;
use crate::test_gateway::TestGateway;

/// The output of `hookgate trust …` for the configuration of `gateway`.
#[track_caller]
pub(super) fn trust(gateway: &TestGateway, arguments: &[&str]) -> String {
    let path = gateway.daemon.configuration_path();
    let finished = hookgate(&[&["trust"], arguments, &["--config", path.to_str().unwrap()]].concat());
    assert!(finished.success(), "{}", finished.stderr_text());
    finished.stdout_text()
}

/// The configuration `text` after an operator did what was `shown`.
#[track_caller]
pub(super) fn follow(gateway: &TestGateway, shown: &str, text: &str) -> String {
    let mut text = text.to_owned();
    let mut place = None;
    for line in shown.lines() {
        if let Some(command) = line.strip_prefix("# hookgate trust ") {
            let (arguments, file) = command.split_once(" > ").unwrap();
            let printed = trust(gateway, &arguments.split(' ').collect::<Vec<_>>());
            fs::write(gateway.daemon.directory().join(Path::new(file)), printed).unwrap();
        } else if let Some(named) = line.strip_prefix("# Then write, ") {
            place = Some((named.trim_end_matches(':'), String::new()));
        } else if let Some((_, lines)) = place.as_mut().filter(|_| !line.starts_with('#')) {
            lines.push_str(line);
            lines.push('\n');
            continue;
        } else {
            continue;
        }
        // A command or another place ends the lines before.
        if let Some((named, lines)) = &mut place
            && !lines.is_empty()
        {
            text = written(&text, named, lines);
            lines.clear();
        }
    }
    match place {
        Some((named, lines)) => written(&text, named, &lines),
        None => text,
    }
}

/// `text` with these lines at the place.
#[track_caller]
fn written(text: &str, place: &str, lines: &str) -> String {
    let name = place.split('"').nth(1).unwrap();
    let start = text.find(&format!("[[provider]]\nname = \"{name}\"")).unwrap();
    let is_end = |section: &&str| !section.starts_with("[provider.") && !section.starts_with("[[provider.");
    let mut sections = text[start + 1..].match_indices("\n[").map(|(at, _)| start + 2 + at);
    let end = sections.find(|at| is_end(&&text[*at..])).unwrap();
    if place.starts_with("at the end of the [[provider]]") {
        return [&text[..end], lines, "\n", &text[end..]].concat();
    }
    assert!(
        place.starts_with("in the [[provider]]") && place.ends_with("in place of the keys of these names"),
        "{place}"
    );
    let mut provider = text[start..end].to_owned();
    for line in lines.lines() {
        let key = line.split_inclusive('=').next().unwrap();
        let without: Vec<&str> = provider.lines().filter(|other| !other.starts_with(key)).collect();
        let (header, rest) = without.split_first().unwrap();
        provider = [&[*header, line], rest].concat().join("\n");
    }
    [&text[..start], &provider, "\n\n", &text[end..]].concat()
}
