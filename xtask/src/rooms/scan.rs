//! Finds what a Rust file names: every path in its tokens, resolved by `use`, `mod` and path prefixes.
//!
//! Works on tokens, so comments and strings do not count. Knows no types, so a method call names nothing. Must not judge.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

use super::layout::Place;

/// How many aliases are followed before a name is external.
const ALIAS_DEPTH: usize = 8;

/// A file without its test code.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) place: Place,
    /// Lines without test code, with comments and empty lines.
    pub(super) lines: usize,
    /// In the order of the file.
    pub(super) references: Vec<Reference>,
    /// Modules of test code that are in other files.
    pub(super) test_modules: Vec<Vec<String>>,
}

/// A path that a file names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) line: usize,
    /// The module that contains it.
    pub(super) module: Vec<String>,
    pub(super) target: Target,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A path from the root of the same crate.
    Local(Vec<String>),
    /// A path that begins with another crate, or with a name that only a compiler could resolve.
    External(Vec<String>),
    /// The keyword `unsafe`.
    Unsafe,
}

/// Reads the tokens of `text`. `library` is the name by which a binary names the library beside it.
///
/// # Errors
///
/// The text is not Rust.
pub(super) fn scan(place: Place, text: &str, library: Option<&str>) -> Result<Source> {
    let tokens: TokenStream = text.parse().map_err(|error| anyhow!("{}: {error}", place.path))?;
    let mut scanner = Scanner { module: place.module.clone(), ..Scanner::default() };
    scanner.walk(tokens);
    let lines = text.lines().count().saturating_sub(scanner.test_lines);
    let (aliases, library) = (&scanner.aliases, library.unwrap_or_default());
    let mut references = Vec::new();
    for Named { line, module, segments } in scanner.named {
        let target = match segments.as_slice() {
            [only] if only == "unsafe" => Some(Target::Unsafe),
            _ => resolve(&module, &segments, aliases, library, ALIAS_DEPTH),
        };
        references.extend(target.map(|target| Reference { line, module, target }));
    }
    references.dedup();
    Ok(Source { place, lines, references, test_modules: scanner.test_modules })
}

/// Names and the paths that they stand for, by the module that declares them.
type Aliases = BTreeMap<Vec<String>, BTreeMap<String, Vec<String>>>;

/// The path from the root of the crate, or the external path. `None` if `super` leads out of the crate.
fn resolve(module: &[String], segments: &[String], aliases: &Aliases, library: &str, depth: usize) -> Option<Target> {
    let (first, rest) = segments.split_first()?;
    let mut base = match first.as_str() {
        "crate" => Vec::new(),
        "self" | "super" => module.to_vec(),
        name if name == library => Vec::new(),
        name => {
            let alias = aliases.get(module).and_then(|names| names.get(name));
            // `use time::time;` does not stand for itself.
            let alias = alias.filter(|path| depth > 0 && path.first() != Some(first));
            let Some(alias) = alias else { return Some(Target::External(segments.to_vec())) };
            return resolve(module, &[alias, rest].concat(), aliases, library, depth - 1);
        }
    };
    if first == "super" {
        base.pop()?;
    }
    let mut rest = rest;
    while let Some((_, after)) = rest.split_first().filter(|(segment, _)| *segment == "super") {
        base.pop()?;
        rest = after;
    }
    base.extend_from_slice(rest);
    Some(Target::Local(base))
}

/// A path as it is written.
#[derive(Debug)]
struct Named {
    line: usize,
    module: Vec<String>,
    segments: Vec<String>,
}

#[derive(Debug, Default)]
struct Scanner {
    module: Vec<String>,
    named: Vec<Named>,
    aliases: Aliases,
    test_modules: Vec<Vec<String>>,
    test_lines: usize,
}

impl Scanner {
    fn walk(&mut self, stream: TokenStream) {
        let tokens: Vec<TokenTree> = stream.into_iter().collect();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            at = match token {
                TokenTree::Punct(punct) if punct.as_char() == '#' => self.attribute(&tokens, at),
                TokenTree::Ident(_) => self.word(&tokens, at),
                TokenTree::Group(group) => {
                    self.walk(group.stream());
                    at + 1
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => at + 1,
            };
        }
    }

    /// An attribute. If it marks test code, the item is skipped.
    fn attribute(&mut self, tokens: &[TokenTree], at: usize) -> usize {
        let inner = is_punct(tokens.get(at + 1), '!');
        let Some(TokenTree::Group(group)) = tokens.get(at + 1 + usize::from(inner)) else { return at + 1 };
        let after = at + 2 + usize::from(inner);
        if !marks_test(group) {
            self.walk(group.stream());
            return after;
        }
        // An inner attribute marks everything after it.
        let end = if inner { tokens.len() } else { item_end(tokens, after) };
        if let (Some(first), Some(last)) = (tokens.get(at), tokens.get(end - 1)) {
            self.test_lines += last.span().end().line + 1 - first.span().start().line;
        }
        self.test_modules.extend(declared_module(&tokens[after..end]).map(|name| [&self.module[..], &[name]].concat()));
        end
    }

    fn word(&mut self, tokens: &[TokenTree], at: usize) -> usize {
        let word = text(&tokens[at]);
        let line = tokens[at].span().start().line;
        match (word.as_str(), tokens.get(at + 1)) {
            // `pub(in crate::config)` names nothing.
            ("pub", Some(TokenTree::Group(group))) if group.delimiter() == Delimiter::Parenthesis => at + 2,
            ("mod", Some(TokenTree::Ident(name))) => self.module(&name.to_string(), tokens, at),
            // `impl Trait + use<'a>` imports nothing.
            ("use", Some(next)) if !is_punct(Some(next), '<') => {
                let end = (at..tokens.len()).find(|index| is_punct(tokens.get(*index), ';')).unwrap_or(tokens.len());
                self.import(&[], &tokens[at + 1..end]);
                end
            }
            ("unsafe", _) => {
                self.name(line, vec![word]);
                at + 1
            }
            _ => {
                let (segments, after) = path(tokens, at);
                if segments.len() > 1 && !is_rest(tokens, at) {
                    self.name(line, segments);
                }
                after
            }
        }
    }

    /// `mod name { … }` or `mod name;`
    fn module(&mut self, name: &str, tokens: &[TokenTree], at: usize) -> usize {
        let path = vec!["self".to_owned(), name.to_owned()];
        self.aliases.entry(self.module.clone()).or_default().insert(name.to_owned(), path);
        let Some(TokenTree::Group(group)) = tokens.get(at + 2) else { return at + 2 };
        self.module.push(name.to_owned());
        self.walk(group.stream());
        self.module.pop();
        at + 3
    }

    /// The tree of a `use`, whose paths all begin with `prefix`.
    fn import(&mut self, prefix: &[String], tokens: &[TokenTree]) {
        for tree in tokens.split(|token| is_punct(Some(token), ',')) {
            let Some(first) = tree.first() else { continue };
            let line = first.span().start().line;
            let mut segments = prefix.to_vec();
            let mut alias = None;
            let mut group = None;
            for (index, token) in tree.iter().enumerate() {
                match token {
                    TokenTree::Ident(ident) if ident == "as" => {
                        alias = tree.get(index + 1).map(text);
                        break;
                    }
                    // `a::{self}` is `a`.
                    TokenTree::Ident(ident) if ident == "self" && !segments.is_empty() => {}
                    TokenTree::Ident(_) => segments.push(text(token)),
                    TokenTree::Group(inside) => group = Some(inside),
                    TokenTree::Punct(_) | TokenTree::Literal(_) => {}
                }
            }
            if let Some(group) = group {
                let inside: Vec<TokenTree> = group.stream().into_iter().collect();
                self.import(&segments, &inside);
                continue;
            }
            let is_glob = is_punct(tree.last(), '*');
            if let Some(alias) = alias.or_else(|| segments.last().cloned()).filter(|_| !is_glob) {
                self.aliases.entry(self.module.clone()).or_default().insert(alias, segments.clone());
            }
            self.name(line, segments);
        }
    }

    fn name(&mut self, line: usize, segments: Vec<String>) {
        self.named.push(Named { line, module: self.module.clone(), segments });
    }
}

/// The segments of the path that begins at `at`, and its end.
fn path(tokens: &[TokenTree], at: usize) -> (Vec<String>, usize) {
    let mut segments = vec![text(&tokens[at])];
    let mut at = at + 1;
    while is_separator(tokens, at)
        && let Some(next @ TokenTree::Ident(_)) = tokens.get(at + 2)
    {
        segments.push(text(next));
        at += 3;
    }
    (segments, at)
}

/// Whether the path at `at` continues another, as after `<T as Trait>::` or a turbofish.
fn is_rest(tokens: &[TokenTree], at: usize) -> bool {
    let before = at.checked_sub(3).and_then(|before| tokens.get(before));
    at >= 2 && is_separator(tokens, at - 2) && (is_punct(before, '>') || matches!(before, Some(TokenTree::Ident(_))))
}

/// A raw identifier without its `r#`.
fn text(token: &TokenTree) -> String {
    let text = token.to_string();
    text.strip_prefix("r#").unwrap_or(&text).to_owned()
}

fn is_punct(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

/// Whether `::` stands at `at`.
fn is_separator(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens.get(at), ':') && is_punct(tokens.get(at + 1), ':')
}

/// `#[test]`, `#[cfg(test)]` and `#[cfg(all(test, …))]`.
fn marks_test(attribute: &Group) -> bool {
    let text = attribute.stream().to_string().replace(' ', "");
    text == "test" || text == "cfg(test)" || text.starts_with("cfg(all(test,")
}

/// The end of the item that begins at `at` with its attributes.
fn item_end(tokens: &[TokenTree], at: usize) -> usize {
    let mut at = at;
    while is_punct(tokens.get(at), '#') {
        at = tokens.len().min(at + 2);
    }
    let is_brace =
        |token: &TokenTree| matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace);
    let is_head = |token: &&TokenTree| !matches!(token, TokenTree::Punct(_)) && !is_brace(token);
    let head: Vec<String> = tokens[at..].iter().take_while(is_head).map(text).collect();
    let has_any = |words: &[&str]| head.iter().any(|word| words.contains(&word.as_str()));
    // Some items have braces before their end, such as `use a::{b};`. A field or a match arm ends with a comma.
    let (ending, has_body) = match () {
        () if has_any(&["use", "static", "type", "let"]) || (has_any(&["const"]) && !has_any(&["fn"])) => (';', false),
        () if has_any(&["mod", "fn", "struct", "enum", "union", "impl", "trait", "extern", "macro_rules"]) => {
            (';', true)
        }
        () => (',', false),
    };
    let ends = |token: &TokenTree| match token {
        TokenTree::Punct(punct) => punct.as_char() == ending,
        TokenTree::Group(_) => has_body && is_brace(token),
        TokenTree::Ident(_) | TokenTree::Literal(_) => false,
    };
    (at..tokens.len()).find(|index| ends(&tokens[*index])).map_or(tokens.len(), |index| index + 1)
}

/// The name in `mod name;`, with optional attributes and visibility.
fn declared_module(item: &[TokenTree]) -> Option<String> {
    let [before @ .., keyword, name, end] = item else { return None };
    let is_declaration = text(keyword) == "mod" && is_punct(Some(end), ';');
    let is_plain = before.iter().all(|token| !matches!(token, TokenTree::Ident(ident) if ident != "pub"));
    (is_declaration && is_plain).then(|| text(name))
}
