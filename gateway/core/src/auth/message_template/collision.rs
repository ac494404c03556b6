//! The search for two different requests that a template gives one signed text.
//!
//! Owns what a piece of a message can contain, and the search. Pure. Must not parse templates.
//!
//! A template is compiled to an automaton that reads a signed text and tells which piece each byte belongs to. The search runs two
//! of them side by side: if both accept the same text with different pieces, a signature for one request is valid for another. The
//! search is exact: it finds a pair if and only if there is one.

use std::collections::{HashMap, VecDeque};

use super::{FIXED_DIGITS, Piece};

/// Two different requests with the same signed text: their variable pieces, in the order of the template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Collision(pub(super) Vec<Pair>);

/// The bytes of one piece in both requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) name: &'static str,
    pub(super) one: Vec<u8>,
    pub(super) other: Vec<u8>,
}

impl Collision {
    /// The pieces of each request, of those that differ.
    pub(super) fn describe(&self) -> (String, String) {
        let list = |value: fn(&Pair) -> &[u8]| {
            let differing = self.0.iter().filter(|pair| pair.one != pair.other);
            let pieces = differing.map(|pair| format!("{} \"{}\"", pair.name, value(pair).escape_ascii()));
            pieces.collect::<Vec<_>>().join(" with ")
        };
        (list(|pair| &pair.one), list(|pair| &pair.other))
    }
}

/// A set of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bytes([u64; 4]);

impl Bytes {
    const EMPTY: Self = Self([0; 4]);

    fn of(contains: impl Fn(u8) -> bool) -> Self {
        (0..=u8::MAX).filter(|byte| contains(*byte)).fold(Self::EMPTY, Self::with)
    }

    fn with(mut self, byte: u8) -> Self {
        self.0[usize::from(byte / 64)] |= 1 << (byte % 64);
        self
    }

    fn contains(self, byte: u8) -> bool {
        self.0[usize::from(byte / 64)] & (1 << (byte % 64)) != 0
    }

    /// A byte of both sets, the most legible one: the reader of an error sees it.
    fn common(self, other: Self) -> Option<u8> {
        if (0..4).all(|word| self.0[word] & other.0[word] == 0) {
            return None;
        }
        let both = |byte: &u8| self.contains(*byte) && other.contains(*byte);
        (b'a'..=b'z').chain(b'0'..=b'9').chain(b'!'..=b'~').chain(0..=u8::MAX).find(both)
    }
}

/// A field value without the white space around it (RFC 9110, section 5.5): its first and last byte.
fn is_field_visible(byte: u8) -> bool {
    byte.is_ascii_graphic() || byte >= 0x80
}

/// A byte within a field value.
fn is_field_byte(byte: u8) -> bool {
    is_field_visible(byte) || byte == b' ' || byte == b'\t'
}

/// A token (RFC 9110, section 5.6.2).
fn is_method_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Path and query as `http` accepts them, which is more than RFC 3986 does.
fn is_path_byte(byte: u8) -> bool {
    is_field_visible(byte) && !b"#<>".contains(&byte)
}

/// Reads the byte, as a part of `piece`.
#[derive(Clone, Copy, Debug)]
struct Edge {
    bytes: Bytes,
    piece: usize,
    to: usize,
}

/// What may follow at some place of the text.
#[derive(Clone, Debug)]
struct Place {
    edges: Vec<Edge>,
    /// The text may end here.
    is_end: bool,
}

/// The automaton of a template.
struct Automaton {
    places: Vec<Place>,
    start: usize,
}

impl Automaton {
    fn of(template: &[Piece]) -> Self {
        let body = template.iter().position(|piece| *piece == Piece::Body);
        let mut automaton = Self { places: Vec::new(), start: 0 };
        let mut rest = Place { edges: Vec::new(), is_end: true };
        let mut index = template.len();
        while index > 0 {
            index -= 1;
            rest = match (&template[index], index.checked_sub(1).map(|before| &template[before])) {
                (Piece::Literal(end), Some(Piece::Id)) if Some(index) < body => {
                    index -= 1;
                    automaton.up_to(end, index, rest)
                }
                (piece, _) => automaton.piece(piece, index, rest),
            };
        }
        automaton.start = automaton.add(rest);
        automaton
    }

    fn add(&mut self, place: Place) -> usize {
        self.places.push(place);
        self.places.len() - 1
    }

    /// Puts `piece` before `rest`.
    fn piece(&mut self, piece: &Piece, index: usize, rest: Place) -> Place {
        let edge = |bytes, to| Edge { bytes, piece: index, to };
        let only = |edge| Place { edges: vec![edge], is_end: false };
        match piece {
            Piece::Literal(text) => text.iter().rev().fold(rest, |rest, byte| {
                let to = self.add(rest);
                only(edge(Bytes::EMPTY.with(*byte), to))
            }),
            Piece::Body => {
                let repeated = self.repeated(Bytes::of(|_| true), index, rest);
                self.places[repeated].clone()
            }
            Piece::Timestamp => {
                let digits = Bytes::of(|byte| byte.is_ascii_digit());
                only(edge(digits, self.repeated(digits, index, rest)))
            }
            Piece::FixedTimestamp => {
                let digits = Bytes::of(|byte| byte.is_ascii_digit());
                (0..FIXED_DIGITS).fold(rest, |rest, _| {
                    let to = self.add(rest);
                    only(edge(digits, to))
                })
            }
            Piece::Method => {
                let token = Bytes::of(is_method_byte);
                only(edge(token, self.repeated(token, index, rest)))
            }
            Piece::Path => {
                // An absolute-form target can have a query without a path.
                let first = Bytes::of(|byte| byte == b'/' || byte == b'?');
                only(edge(first, self.repeated(Bytes::of(is_path_byte), index, rest)))
            }
            Piece::Id => {
                let visible = Bytes::of(is_field_visible);
                let last = self.add(rest.clone());
                let within = self.repeated(Bytes::of(is_field_byte), index, only(edge(visible, last)));
                let mut first = self.places[within].clone();
                first.edges.extend_from_slice(&rest.edges);
                first.is_end = rest.is_end;
                let first = self.add(first);
                let mut maybe = rest;
                maybe.edges.push(edge(visible, first));
                maybe
            }
        }
    }

    /// A place at which `bytes` repeat before `rest`.
    fn repeated(&mut self, bytes: Bytes, piece: usize, rest: Place) -> usize {
        let to = self.add(rest);
        self.places[to].edges.push(Edge { bytes, piece, to });
        to
    }

    /// An id that ends at the first `end`, and `end`, before `rest`. All of it counts as the id, since the id tells how it divides.
    fn up_to(&mut self, end: &[u8], piece: usize, rest: Place) -> Place {
        let first = self.places.len();
        let mut matched: Vec<[usize; 256]> = Vec::with_capacity(end.len());
        let mut fallback = 0;
        // The automaton of Knuth, Morris and Pratt: how many bytes of `end` are matched after each byte.
        for (length, byte) in end.iter().enumerate() {
            let mut next = matched.get(fallback).copied().unwrap_or([0; 256]);
            if length > 0 {
                fallback = next[usize::from(*byte)];
            }
            next[usize::from(*byte)] = length + 1;
            matched.push(next);
        }
        for before in [Before::Nothing, Before::Visible, Before::Space] {
            for (length, next) in matched.iter().enumerate() {
                let mut edges: Vec<Edge> = Vec::new();
                for byte in 0..=u8::MAX {
                    let next = next[usize::from(byte)];
                    let Some(to) = before.after(end, length, byte, next) else { continue };
                    let to = first + to;
                    match edges.iter_mut().find(|edge| edge.to == to) {
                        Some(edge) => edge.bytes = edge.bytes.with(byte),
                        None => edges.push(Edge { bytes: Bytes::EMPTY.with(byte), piece, to }),
                    }
                }
                self.add(Place { edges, is_end: false });
            }
        }
        self.add(rest);
        self.places[first].clone()
    }
}

/// What of an id stands before the bytes that match its end so far: an id neither begins nor ends with white space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Nothing,
    Visible,
    Space,
}

impl Before {
    /// The place, counted from the first one of an id, after `byte`. `length` bytes of `end` matched before it, `next` match with it.
    /// `None` if no id is read so.
    fn after(self, end: &[u8], length: usize, byte: u8, next: usize) -> Option<usize> {
        if next == end.len() {
            return (self != Self::Space).then_some(3 * end.len());
        }
        if next == length + 1 {
            return Some(self as usize * end.len() + next);
        }
        // What no longer matches belongs to the id.
        let kept: Vec<u8> = end[..length].iter().copied().chain([byte]).collect();
        let id = &kept[..kept.len() - next];
        let begins_visibly = self != Self::Nothing || id.first().is_some_and(|byte| is_field_visible(*byte));
        if !begins_visibly || !id.iter().all(|byte| is_field_byte(*byte)) {
            return None;
        }
        let before = if id.last().is_some_and(|byte| is_field_visible(*byte)) { Self::Visible } else { Self::Space };
        Some(before as usize * end.len() + next)
    }
}

/// Two readings of one text: the place of each, and whether they have put a byte into different pieces.
type Readings = (usize, usize, bool);

/// How [`find`] came to two readings: from which, and the byte as a part of which pieces.
type Step = (Readings, u8, usize, usize);

/// Two requests to which `template` gives one text; `None` if there are none. Of several pairs, one with the shortest text.
pub(super) fn find(template: &[Piece]) -> Option<Collision> {
    let automaton = Automaton::of(template);
    let start = (automaton.start, automaton.start, false);
    let mut steps: HashMap<Readings, Option<Step>> = HashMap::from([(start, None)]);
    let mut queue = VecDeque::from([start]);
    while let Some(readings) = queue.pop_front() {
        let (one, other, differ) = readings;
        let places = (&automaton.places[one], &automaton.places[other]);
        if differ && places.0.is_end && places.1.is_end {
            return Some(collision(template, &steps, readings));
        }
        for one in &places.0.edges {
            for other in &places.1.edges {
                let Some(byte) = one.bytes.common(other.bytes) else { continue };
                let next = (one.to, other.to, differ || one.piece != other.piece);
                steps.entry(next).or_insert_with(|| {
                    queue.push_back(next);
                    Some((readings, byte, one.piece, other.piece))
                });
            }
        }
    }
    None
}

/// The requests of the two readings that ended at `end`.
fn collision(template: &[Piece], steps: &HashMap<Readings, Option<Step>>, end: Readings) -> Collision {
    let (mut one, mut other) = (vec![Vec::new(); template.len()], vec![Vec::new(); template.len()]);
    let mut at = end;
    while let Some(Some((before, byte, in_one, in_other))) = steps.get(&at) {
        one[*in_one].push(*byte);
        other[*in_other].push(*byte);
        at = *before;
    }
    let body = template.iter().position(|piece| *piece == Piece::Body);
    let pieces = template.iter().enumerate().filter_map(|(index, piece)| {
        // The text that ends an id was counted as the id.
        let end = match template.get(index + 1) {
            Some(Piece::Literal(end)) if *piece == Piece::Id && Some(index) < body => end.len(),
            _ => 0,
        };
        // The bytes were noted from the last one to the first.
        let value = |bytes: &[u8]| bytes.iter().skip(end).rev().copied().collect();
        Some(Pair { name: piece.name()?, one: value(&one[index]), other: value(&other[index]) })
    });
    Collision(pieces.collect())
}

#[cfg(test)]
mod tests {
    use super::{Automaton, Piece};

    /// Whether `text` is the message of a request.
    fn is_message(automaton: &Automaton, text: &[u8]) -> bool {
        let mut places = vec![automaton.start];
        for byte in text {
            let edges = places.iter().flat_map(|place| &automaton.places[*place].edges);
            let mut next: Vec<usize> = edges.filter(|edge| edge.bytes.contains(*byte)).map(|edge| edge.to).collect();
            next.sort_unstable();
            next.dedup();
            places = next;
        }
        places.iter().any(|place| automaton.places[*place].is_end)
    }

    #[test]
    fn an_id_ends_at_the_first_text_that_ends_it_and_has_no_space_around_it() {
        for end in ["..x", ".x.x", "..", ".x", "x"] {
            let template = [Piece::Id, Piece::Literal(end.as_bytes().into()), Piece::Body];
            let automaton = Automaton::of(&template);
            for number in 0..3_usize.pow(7) {
                let digits = (0..7).map(|place| number / 3_usize.pow(place) % 3);
                let text: String = digits.map(|digit| ['.', 'x', ' '][digit]).collect();
                let id = text.find(end).map(|at| &text[..at]);
                let expected = id.is_some_and(|id| id == id.trim());
                assert_eq!(is_message(&automaton, text.as_bytes()), expected, "{text:?} {end}");
            }
        }
    }
}
