//! A file of every form of function, and mutants in it.

use super::super::list::{Mutant, Place, Span};
use super::{replaced, selectable, weave};

/// A file with an ordinary function, a constant one, one with an opaque type, and a constant.
const TEXT: &str = "\
const LIMIT: u8 = 2 * 3;

impl Size {
    // Größe: columns count characters.
    fn is_large(&self) -> bool { /* ä */ self.0 > LIMIT // a comment
    }

    const fn half(&self) -> u8 { self.0 / 2 }

    fn all(&self) -> impl Iterator<Item = u8> { 0..self.0 + 1 }
}
";

fn mutant(line: usize, columns: std::ops::Range<usize>, replacement: &str) -> Mutant {
    Mutant {
        name: String::new(),
        package: String::new(),
        file: String::new(),
        span: Span { start: Place { line, column: columns.start }, end: Place { line, column: columns.end } },
        replacement: replacement.to_owned(),
    }
}

#[test]
fn a_function_becomes_a_match_with_an_arm_for_each_mutant() {
    let mutants = [mutant(5, 42..56, "true"), mutant(5, 49..50, "<")];
    let woven = weave(TEXT, mutants.iter().enumerate()).expect("Rust");
    let expected = "fn is_large(&self) -> bool { match crate::mutant_in_use() { \
        0 => { /* ä */ true // a comment\n    \n} \
        1 => { /* ä */ self.0 < LIMIT // a comment\n    \n} \
        _ => { /* ä */ self.0 > LIMIT // a comment\n    \n} }}";
    assert!(woven.text.contains(expected), "{}", woven.text);
    assert!(woven.text.ends_with("0..self.0 + 1 }\n}\n"), "{}", woven.text);
    let arms: Vec<_> = woven.arms.iter().map(|(arm, number)| (woven.text[arm.clone()].trim(), *number)).collect();
    assert_eq!(arms, [("/* ä */ true // a comment", 0), ("/* ä */ self.0 < LIMIT // a comment", 1)]);
}

#[test]
fn what_cannot_be_selected_at_run_time_needs_a_build_of_its_own() {
    let mutants = [mutant(1, 21..22, "+"), mutant(5, 49..50, "<"), mutant(8, 41..42, "*"), mutant(10, 59..60, "-")];
    assert_eq!(selectable(TEXT, mutants.iter().enumerate()).expect("Rust"), [1]);
    let texts: Vec<_> = mutants.iter().map(|mutant| replaced(TEXT, mutant)).collect();
    for (text, part) in texts.iter().zip(["2 + 3", "self.0 < LIMIT", "self.0 * 2", "self.0 - 1"]) {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_file_without_mutants_stays_as_it_is() {
    assert_eq!(weave(TEXT, std::iter::empty()).expect("Rust").text, TEXT);
}
