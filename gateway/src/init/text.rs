//! The text of a first configuration.
//!
//! Owns how values become TOML, and the comments beside them. Must not choose a value.

use std::fmt::Write as _;

use toml::Value;

use super::answers::Answers;
use super::page;
use crate::config::preset::Preset;
use crate::config::{Addition, AdditionForm};
use hookgate_core::limits::Limits;

/// Longest line of a comment.
const WIDTH: usize = 140;

/// A configuration, and what each of its files is.
pub(super) struct Draft {
    pub(super) text: String,
    /// By the end of the key, without indexes.
    files: Vec<(String, String)>,
}

impl Draft {
    /// The configuration of one provider with `preset`.
    pub(super) fn new(preset: &Preset, answers: &Answers) -> Self {
        let mut files = vec![
            ("certificate.chain".to_owned(), "the server certificate, then its intermediates, as PEM".to_owned()),
            ("certificate.key".to_owned(), "its private key, as PEM".to_owned()),
        ];
        for (addition, _) in answers.additions.iter().filter(|(addition, _)| is_file(addition)) {
            let key = if addition.key == "basic.secrets" { "basic.users.secrets" } else { addition.key };
            files.push((format!("provider.{key}"), addition.what.clone()));
        }
        Self { text: text(preset, answers), files }
    }

    /// What the file is that the configuration names by `key`, such as `provider[0].signature.secrets[0].file`.
    pub(super) fn what(&self, key: &str) -> &str {
        let mut is_index = false;
        let plain: String = key
            .chars()
            .filter(|character| {
                let is_left_out = is_index || *character == '[';
                is_index = is_left_out && *character != ']';
                !is_left_out
            })
            .collect();
        let found = self.files.iter().find(|(known, _)| plain.starts_with(known.as_str()));
        found.map_or("a file that you bring", |(_, what)| what)
    }
}

fn is_file(addition: &Addition) -> bool {
    matches!(addition.form, AdditionForm::File(_))
}

fn text(preset: &Preset, answers: &Answers) -> String {
    let Answers { name, host, path, handler, chain, key, listen, .. } = answers;
    let listen: Vec<String> = listen.iter().map(|address| quoted(address)).collect();
    let mut text = format!(
        "# Written by `hookgate init`. hookgate.toml(5) describes every key; `hookgate check` says what is wrong or missing. Relative paths \
         start\n# at the directory of this file.\n\n[listen]\naddresses = [{}]\n\n# What senders see.\n[[certificate]]\nchain = {}\nkey = \
         {}\n\n",
        listen.join(", "),
        quoted(chain),
        quoted(key)
    );
    // Writing to a String cannot fail, here and below.
    if let Some(source) = answers.additions.iter().find(|(addition, _)| addition.key == "key_source.url") {
        comment(&mut text, &source.0.what);
        let _ = writeln!(text, "[[key_source]]\nname = {}\nurl = {}\n", quoted(name), quoted(&source.1));
    }
    comment(&mut text, &format!("{}: {}", preset.title(), preset.documentation()));
    let _ = writeln!(text, "[[provider]]\nname = {}\npreset = {}", quoted(name), quoted(preset.name()));
    if let Some(page) = page::of(preset.name()).filter(|_| !answers.additions.is_empty()) {
        comment(&mut text, &page::paragraph(page, page::OPERATOR).replace('\n', " "));
    }
    additions(&mut text, name, &answers.additions);
    let _ = writeln!(
        text,
        "\n[[route]]\nhost = {}\npath = {}\nproviders = [{}]\nhandler = {}",
        quoted(host),
        quoted(path),
        quoted(name),
        quoted(&format!("unix:{handler}"))
    );
    comment(
        &mut text,
        "The unit of the package names a state directory. To run hookgate by hand, write one of your own (mode 0700): without it, hookgate \
         explain reaches no daemon, and a restart forgets.",
    );
    text.push_str("# [state]\n# directory = \"/path/of/a/directory\"\n");
    if let Some(timeout) = preset.answer_timeout().filter(|timeout| *timeout < Limits::default().handler_timeout) {
        let milliseconds = timeout.as_millis();
        let _ = write!(
            text,
            "\n[limits]\n# As long as the sender waits for an answer.\nhandler_timeout_ms = {milliseconds}\n"
        );
    }
    text
}

/// The lines of the additions in `[[provider]]`.
fn additions(text: &mut String, name: &str, additions: &[(Addition, String)]) {
    let value_of =
        |key: &str| additions.iter().find(|(addition, _)| addition.key == key).map(|(_, value)| quoted(value));
    for (addition, value) in additions {
        let value = quoted(value);
        let _ = match addition.key {
            "identity.subject_cn" => writeln!(text, "identity = [{{ subject_cn = {value} }}]"),
            "trust_anchors" => writeln!(text, "trust_anchors = [{value}]"),
            "token.audiences" | "token.emails" | "token.issuers" => writeln!(text, "{} = [{value}]", addition.key),
            "unsafe_static_secret_suffices" => writeln!(text, "{} = true", addition.key),
            "key_source.url" => {
                let proof = if additions.iter().any(|(addition, _)| addition.key.starts_with("token.")) {
                    "token"
                } else {
                    "signature"
                };
                writeln!(text, "{proof}.key_source = {}", quoted(name))
            }
            "basic.name" => Ok(()),
            "basic.secrets" => {
                let user = value_of("basic.name").unwrap_or_default();
                writeln!(text, "basic.users = [{{ name = {user}, secrets = [{{ file = {value} }}] }}]")
            }
            key if is_file(addition) => writeln!(text, "{key} = [{{ file = {value} }}]"),
            key => writeln!(text, "{key} = {value}"),
        };
    }
}

/// A text as a TOML string.
fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

/// A comment, in lines of at most [`WIDTH`] characters unless a word is longer.
fn comment(text: &mut String, words: &str) {
    let mut line = String::from("#");
    // A control character could end the comment.
    for word in words
        .split(|character: char| character.is_whitespace() || character.is_control())
        .filter(|word| !word.is_empty())
    {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(text, "{line}");
            line = String::from("#");
        }
        let _ = write!(line, " {word}");
    }
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_which_file_it_names() {
        let files = vec![("provider.signature.secrets".to_owned(), "a secret".to_owned())];
        let draft = Draft { text: String::new(), files };
        assert_eq!(draft.what("provider[0].signature.secrets[0].file"), "a secret");
        assert_eq!(draft.what("provider[0].trust_anchors[0]"), "a file that you bring");
    }

    #[test]
    fn values_stay_within_their_strings() {
        for value in ["a\"b", "a\nb = 1", "back\\slash", "[x]"] {
            let parsed: toml::Table = toml::from_str(&format!("key = {}", quoted(value))).unwrap_or_default();
            assert_eq!(parsed.get("key").and_then(Value::as_str), Some(value));
        }
        let mut text = String::new();
        comment(&mut text, &format!("{} end\nb = 1", "word ".repeat(60)));
        assert!(text.lines().all(|line| line.starts_with('#') && line.len() <= WIDTH), "{text}");
    }
}
