//! Writes mutants into the text of a file, so that one build has many of them.
//!
//! Owns the form of the text. A function with mutants becomes a `match` of the number of the mutant in use, with one arm for each mutant:
//! the whole body as the mutant has it. The last arm is the body as it was. Must not read or write files.

use std::ops::Range;

use anyhow::{Result, anyhow, ensure};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::list::{Mutant, Place};

/// The variable of the environment with the number of the mutant in use.
pub(super) const VARIABLE: &str = "HOOKGATE_MUTANT";

/// What the library of a package needs in addition, at its end.
pub(super) const SELECTION: &str = r#"
pub(crate) fn mutant_in_use() -> usize {
    static NUMBER: std::sync::LazyLock<usize> = std::sync::LazyLock::new(|| {
        std::env::var("HOOKGATE_MUTANT").ok().and_then(|number| number.parse().ok()).unwrap_or(usize::MAX)
    });
    *NUMBER
}
"#;

/// A file with mutants.
#[derive(Debug, Default)]
pub(super) struct Woven {
    pub(super) text: String,
    /// The bytes of the text that belong to one mutant alone, with its number.
    pub(super) arms: Vec<(Range<usize>, usize)>,
}

/// A function outside of every other one.
#[derive(Debug)]
struct Function {
    /// What is between the braces.
    body: Range<usize>,
    /// Whether the body may become a `match` at run time. A constant function must not read the environment, and arms cannot have
    /// opaque types that differ.
    can_select: bool,
}

/// The numbers of those of `mutants` that [`weave`] can write. The others stand outside of functions, or in one whose body cannot be
/// selected at run time.
///
/// # Errors
///
/// `text` is not Rust.
pub(super) fn selectable<'a>(text: &str, mutants: impl Iterator<Item = (usize, &'a Mutant)>) -> Result<Vec<usize>> {
    let functions = functions(text)?;
    let can_select =
        |mutant: &Mutant| enclosing(&functions, &range(text, mutant)).is_some_and(|function| function.can_select);
    Ok(mutants.filter(|(_, mutant)| can_select(mutant)).map(|(number, _)| number).collect())
}

/// `text` with all of `mutants`, each of which is [`selectable`].
///
/// # Errors
///
/// `text` is not Rust.
pub(super) fn weave<'a>(text: &str, mutants: impl Iterator<Item = (usize, &'a Mutant)>) -> Result<Woven> {
    let mutants: Vec<(usize, &Mutant)> = mutants.collect();
    let mut woven = Woven::default();
    let mut done = 0;
    for function in functions(text)? {
        let own = mutants.iter().filter(|(_, mutant)| contains(&function.body, &range(text, mutant)));
        let mut own = own.peekable();
        if own.peek().is_none() {
            continue;
        }
        woven.text += &text[done..function.body.start];
        woven.text += " match crate::mutant_in_use() {";
        for (number, mutant) in own {
            woven.text += &format!(" {number} => {{");
            let start = woven.text.len();
            let place = range(text, mutant);
            woven.text += &text[function.body.start..place.start];
            woven.text += &mutant.replacement;
            woven.text += &text[place.end..function.body.end];
            woven.arms.push((start..woven.text.len(), *number));
            // The body may end with a comment.
            woven.text += "\n}";
        }
        woven.text += &format!(" _ => {{{}\n}} }}", &text[function.body.clone()]);
        done = function.body.end;
    }
    woven.text += &text[done..];
    Ok(woven)
}

/// `text` with `mutant` instead of what it replaces.
pub(super) fn replaced(text: &str, mutant: &Mutant) -> String {
    let place = range(text, mutant);
    format!("{}{}{}", &text[..place.start], mutant.replacement, &text[place.end..])
}

/// The bytes that `mutant` replaces.
fn range(text: &str, mutant: &Mutant) -> Range<usize> {
    offset(text, mutant.span.start)..offset(text, mutant.span.end)
}

fn offset(text: &str, place: Place) -> usize {
    let line: usize = text.split_inclusive('\n').take(place.line - 1).map(str::len).sum();
    line + text[line..].chars().take(place.column - 1).map(char::len_utf8).sum::<usize>()
}

fn contains(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

fn enclosing<'a>(functions: &'a [Function], place: &Range<usize>) -> Option<&'a Function> {
    functions.iter().find(|function| contains(&function.body, place))
}

/// The functions of `text`, in its order.
fn functions(text: &str) -> Result<Vec<Function>> {
    let tokens: TokenStream = text.parse().map_err(|error| anyhow!("{error}"))?;
    let mut functions = Vec::new();
    collect(tokens, &mut functions);
    let are_in_order = functions.is_sorted_by(|one: &Function, other| one.body.end <= other.body.start);
    ensure!(are_in_order, "functions overlap");
    Ok(functions)
}

/// Finds `fn name … { body }`, and looks into every group but the body.
fn collect(tokens: TokenStream, functions: &mut Vec<Function>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let is = |at: usize, word: &str| matches!(tokens.get(at), Some(TokenTree::Ident(name)) if name == word);
    let mut at = 0;
    // Where the head of a function began, while its body has not come yet.
    let mut head: Option<usize> = None;
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Ident(name) if name == "fn" && matches!(tokens.get(at + 1), Some(TokenTree::Ident(_))) => {
                head = Some(at);
            }
            TokenTree::Punct(mark) if mark.as_char() == ';' => head = None,
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace && head.is_some() => {
                let start = head.take().unwrap_or(at);
                let is_const = (start.saturating_sub(3)..start).any(|before| is(before, "const"));
                let arrow =
                    (start..at).find(|&at| matches!(&tokens[at], TokenTree::Punct(mark) if mark.as_char() == '>'));
                let is_opaque = arrow.is_some_and(|arrow| (arrow..at).any(|at| is(at, "impl")));
                let whole = group.span().byte_range();
                let body = whole.start + 1..whole.end - 1;
                functions.push(Function { body, can_select: !is_const && !is_opaque });
            }
            TokenTree::Group(group) => collect(group.stream(), functions),
            _ => {}
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests;
