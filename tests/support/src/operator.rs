//! An operator who does what `hookgate trust show` prints, word by word.
//!
//! Owns that: the command that it names, and its lines at the places that it names. Must not know what the lines say.

use std::fs;
use std::mem;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

/// What the first line of lines to write begins with; the place follows, and a colon.
const PLACE: &str = "# Then write, ";

/// What a command to run begins with; its arguments follow, and where its output belongs.
const COMMAND: &str = "# hookgate trust ";

/// The configuration `text` after an operator did what was `shown`. Files are written to `directory`, that of the configuration; `trust` runs
/// `hookgate trust` with these arguments and returns its output.
///
/// # Errors
///
/// `trust` fails, a file cannot be written, or `text` has no place that is named.
pub fn follow(
    shown: &str,
    text: &str,
    directory: &Path,
    trust: &mut dyn FnMut(&[&str]) -> Result<String>,
) -> Result<String> {
    let mut text = text.to_owned();
    let (mut place, mut lines) = ("", String::new());
    for line in shown.lines().chain(["# the end"]) {
        if let Some(removed) = line.strip_prefix("#- ") {
            text = text.replacen(&format!("{removed}\n"), "", 1);
            continue;
        }
        if !line.starts_with('#') {
            lines.push_str(line);
            lines.push('\n');
            continue;
        }
        let complete = mem::take(&mut lines);
        if !place.is_empty() {
            text = written(&text, place, &complete)?;
        }
        place = line.strip_prefix(PLACE).map_or("", |place| place.trim_end_matches(':'));
        if let Some((arguments, file)) = line.strip_prefix(COMMAND).and_then(|rest| rest.split_once(" > ")) {
            let printed = trust(&arguments.split(' ').collect::<Vec<_>>())?;
            fs::write(directory.join(file), printed).with_context(|| format!("cannot write {file}"))?;
        }
    }
    Ok(text)
}

/// `text` with these lines at the place.
fn written(text: &str, place: &str, lines: &str) -> Result<String> {
    let name = place.split('"').nth(1).context("the place names no provider")?;
    let start = text.find(&format!("[[provider]]\nname = \"{name}\"")).context("no such provider")?;
    let is_other = |section: &str| !section.starts_with("[provider.") && !section.starts_with("[[provider.");
    let sections = text[start + 1..].match_indices("\n[").map(|(at, _)| start + 2 + at);
    let end = sections.into_iter().find(|at| is_other(&text[*at..])).unwrap_or(text.len());
    if place.starts_with("at the end of the [[provider]]") {
        return Ok([&text[..end], lines, "\n", &text[end..]].concat());
    }
    let is_known = place.starts_with("in the [[provider]]") && place.ends_with("in place of the keys of these names");
    ensure!(is_known, "an unknown place: {place}");
    let keys: Vec<&str> = lines.lines().filter_map(|line| line.split_inclusive('=').next()).collect();
    let kept = text[start..end].lines().filter(|line| !keys.iter().any(|key| line.starts_with(key)));
    let kept: Vec<&str> = kept.collect();
    // After the header and the name.
    let (head, rest) = kept.split_at(kept.len().min(2));
    Ok(format!("{}{}\n{lines}{}\n\n{}", &text[..start], head.join("\n"), rest.join("\n"), &text[end..]))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

    use super::*;

    const TEXT: &str = "[[provider]]\nname = \"a\"\ntrust_anchors = [\"old\"]\nproof = \"x\"\n[provider.replay]\nwindow_s = 1\n\n[[route]]\npath = \"/\"\n";

    #[test]
    fn the_lines_stand_where_they_were_told_to() {
        let directory = tempfile::tempdir().unwrap();
        let shown = "# hookgate trust show 1 --anchor > a-1.pem\n-----BEGIN\n\
                     # Then write, in the [[provider]] \"a\", in place of the keys of these names:\ntrust_anchors = [\"new\"]\n\
                     # Then write, at the end of the [[provider]] \"a\", after all:\n[[provider.profile]]\nname = \"b\"\n# Done.\n";
        let mut run = |arguments: &[&str]| Ok(arguments.join("+"));
        let text = follow(shown, TEXT, directory.path(), &mut run).unwrap();
        assert!(!text.contains("old") && text.matches("trust_anchors").count() == 1, "{text}");
        assert!(text.starts_with("[[provider]]\nname = \"a\"\ntrust_anchors = [\"new\"]\n"), "{text}");
        let place = |words: &str| text.find(words).unwrap();
        let profile = place("[[provider.profile]]\nname = \"b\"\n");
        assert!(place("window_s = 1") < profile && profile < place("[[route]]"), "{text}");
        assert_eq!(fs::read_to_string(directory.path().join("a-1.pem")).unwrap(), "show+1+--anchor");
        assert!(follow("# Then write, below \"a\":\nb = 1\n", TEXT, directory.path(), &mut run).is_err());
    }
}
