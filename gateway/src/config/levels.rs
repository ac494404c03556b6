//! Levels of the log: the syntax of `[log] level`, `--log` and `HOOKGATE_LOG`.
//!
//! Owns the accepted words, and the errors about others. Must not know which of the three places decides.

use std::fmt;
use std::str::FromStr;

use tracing::level_filters::LevelFilter;

/// The accepted levels, from the least to the most.
const LEVELS: [(&str, LevelFilter); 6] = [
    ("off", LevelFilter::OFF),
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

/// What is logged: a level, and other levels for some modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Levels {
    /// The level of modules that are not named.
    pub default: LevelFilter,
    /// Modules, such as `hookgate::tls` or `rustls`, and their levels. The longest that fits an event decides.
    pub modules: Vec<(String, LevelFilter)>,
}

impl Default for Levels {
    /// `info`
    fn default() -> Self {
        Self { default: LevelFilter::INFO, modules: Vec::new() }
    }
}

/// Why a text says nothing about levels.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LevelsError {
    /// A word that is no level.
    #[error(
        "\"{word}\" is no level; write off, error, warn, info, debug or trace, and for the level of a module a list such as \
         info,hookgate::tls=debug"
    )]
    UnknownLevel {
        /// The word.
        word: String,
    },
    /// A name that no module has.
    #[error("\"{name}\" is no name of a module; write one such as hookgate::tls or rustls before =")]
    UnknownModule {
        /// The name.
        name: String,
    },
    /// Two levels without a module.
    #[error("there are two levels without a module, \"{first}\" and \"{second}\"; write one of them")]
    TwoLevels {
        /// The first.
        first: String,
        /// The other.
        second: String,
    },
}

impl FromStr for Levels {
    type Err = LevelsError;

    /// Parses a list such as `info,hookgate::tls=debug`. Spaces around its elements do not count.
    fn from_str(text: &str) -> Result<Self, LevelsError> {
        let mut levels = Self::default();
        let mut stated: Option<&str> = None;
        for element in text.split(',').map(str::trim) {
            let Some((name, word)) = element.split_once('=') else {
                levels.default = level(element)?;
                if let Some(first) = stated.replace(element) {
                    let (first, second) = (first.to_owned(), element.to_owned());
                    return Err(LevelsError::TwoLevels { first, second });
                }
                continue;
            };
            let (name, word) = (name.trim(), word.trim());
            if !is_module(name) {
                return Err(LevelsError::UnknownModule { name: shown(name) });
            }
            levels.modules.push((name.to_owned(), level(word)?));
        }
        Ok(levels)
    }
}

impl fmt::Display for Levels {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.default)?;
        self.modules.iter().try_for_each(|(name, level)| write!(formatter, ",{name}={level}"))
    }
}

fn level(word: &str) -> Result<LevelFilter, LevelsError> {
    let found = LEVELS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
    found.map(|(_, level)| *level).ok_or_else(|| LevelsError::UnknownLevel { word: shown(word) })
}

/// Whether this could be the path of a Rust module.
fn is_module(name: &str) -> bool {
    let is_identifier = |part: &str| {
        let letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
        part.bytes().next().is_some_and(letter) && part.bytes().all(|byte| letter(byte) || byte.is_ascii_digit())
    };
    name.split("::").all(is_identifier)
}

/// The first characters of a text, for a message of one line.
fn shown(text: &str) -> String {
    text.chars().take(60).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

    use super::*;

    #[test]
    fn levels_are_read_and_shown_alike() {
        let check =
            |text: &str, expected: &str| assert_eq!(text.parse::<Levels>().unwrap().to_string(), expected, "{text}");
        for (word, _) in LEVELS {
            check(word, word);
        }
        check("WARN", "warn");
        check("debug,hookgate=trace", "debug,hookgate=trace");
        check("hookgate::tls=debug", "info,hookgate::tls=debug");
        check(" warn , rustls = error ", "warn,rustls=error");
    }

    #[test]
    fn what_is_no_level_is_an_error_that_names_the_levels() {
        let check = |text: &str, part: &str| {
            let error = text.parse::<Levels>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        };
        let levels = "write off, error, warn, info, debug or trace";
        for text in ["verbose", "", " ", "info,", "3", "hookgate", "hookgate=verbose", "info,,warn", "warn\n"] {
            if text.trim() != "warn" {
                check(text, levels);
            }
        }
        check("verbose", "\"verbose\" is no level");
        check("hookgate=", "\"\" is no level");
        check("a b=info", "\"a b\" is no name of a module");
        check("=info", "\"\" is no name of a module");
        check("hookgate:tls=info", "no name of a module");
        check("[span]=info", "no name of a module");
        check("info,warn", "two levels without a module, \"info\" and \"warn\"");
        check(&"x".repeat(9999), &format!("\"{}\" is no level", "x".repeat(60)));
    }
}
