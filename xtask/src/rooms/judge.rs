//! Compares the files of a crate with its table: which room names which, the room of each file, and the size of each room.

use std::collections::{BTreeMap, BTreeSet};

use super::scan::{Reference, Source, Target};
use super::table::{DOCUMENT, NameRule, Room, Table};

/// A size in the table may differ from the real one by this many lines, or by this part of itself, whichever is more.
const SLACK_LINES: usize = 60;
const SLACK_PERCENT: usize = 25;

const ADVICE: &str = "Move what is named, pass it in as an argument, or add it to the row if that makes no circle";

/// A room as it is in the source.
#[derive(Debug, Default)]
pub(super) struct Actual {
    /// Lines without tests.
    pub(super) lines: usize,
    /// The rooms that it names, each with the place of the first mention.
    pub(super) names: BTreeMap<String, String>,
}

/// Returns everything that contradicts `table`. `sources` are the files of all crates.
pub(super) fn rooms(table: &Table, sources: &[Source]) -> Vec<String> {
    let scope = Scope::of(table);
    let mut problems = Vec::new();
    for source in sources.iter().filter(|source| scope.has(source)) {
        let path = &source.place.path;
        let Some(room) = scope.room(source, &source.place.module) else {
            // The root is above the rooms and may name all of them.
            if source.place.module == scope.base {
                continue;
            }
            let (folder, line) = (&table.folder, table.rooms.first().map_or(0, |room| room.line));
            problems.push(format!("{path}: belongs to no room: add a row to the table of {folder}, {DOCUMENT}:{line}"));
            continue;
        };
        let arrows = source.references.iter().filter_map(|reference| {
            let (from, to) = scope.arrow(source, reference, room)?;
            (!from.allowed.iter().any(|allowed| allowed == to)).then_some(((from.line, &from.name, to), reference))
        });
        for ((row, from, to), mentions) in grouped(arrows) {
            let place = mentions.place(path);
            problems.push(format!("{place}: `{from}` must not name `{to}` ({DOCUMENT}:{row}). {ADVICE}"));
        }
    }
    let actual = actual(table, sources);
    problems.extend(table.rooms.iter().filter_map(|room| size(room, &actual)));
    problems
}

/// The rooms of `table` as they are in the source.
pub(super) fn actual(table: &Table, sources: &[Source]) -> BTreeMap<String, Actual> {
    let scope = Scope::of(table);
    let mut rooms: BTreeMap<String, Actual> = BTreeMap::new();
    for source in sources.iter().filter(|source| scope.has(source)) {
        let Some(room) = scope.room(source, &source.place.module) else { continue };
        rooms.entry(room.name.clone()).or_default().lines += source.lines;
        for reference in &source.references {
            if let Some((from, to)) = scope.arrow(source, reference, room) {
                let place = format!("{}:{}", source.place.path, reference.line);
                rooms.entry(from.name.clone()).or_default().names.entry(to.to_owned()).or_insert(place);
            }
        }
    }
    rooms
}

fn size(room: &Room, actual: &BTreeMap<String, Actual>) -> Option<String> {
    let Room { line, name, size, .. } = room;
    let Some(Actual { lines, .. }) = actual.get(name) else {
        return Some(format!("{DOCUMENT}:{line}: `{name}` has no file: remove its row, or correct its name"));
    };
    let difference = lines.abs_diff(*size);
    let is_off = difference > SLACK_LINES && difference * 100 > size * SLACK_PERCENT;
    is_off.then(|| {
        format!("{DOCUMENT}:{line}: `{name}` has {lines} lines without tests, the row says {size}: write {lines}")
    })
}

/// The part of a crate that a table describes.
struct Scope<'t> {
    table: &'t Table,
    /// The crate's source folder.
    krate: String,
    /// The module that the table describes; empty for the whole crate.
    base: Vec<String>,
}

impl<'t> Scope<'t> {
    fn of(table: &'t Table) -> Self {
        let (krate, base) = match table.folder.split_once("/src/") {
            Some((krate, below)) => (format!("{krate}/src"), below.split('/').map(str::to_owned).collect()),
            None => (table.folder.clone(), Vec::new()),
        };
        Self { table, krate, base }
    }

    fn has(&self, source: &Source) -> bool {
        source.place.folder == self.krate && source.place.module.starts_with(&self.base)
    }

    /// The name of the root: everything in the folder that is in no room below it. It needs a row only if rooms may name it.
    fn root(&self) -> &str {
        self.base.last().map_or("lib", String::as_str)
    }

    /// The room of the module `path`, which is `source` or a module in it.
    fn room(&self, source: &Source, path: &[String]) -> Option<&'t Room> {
        let is_main = self.base.is_empty() && source.place.path.ends_with("/main.rs");
        self.longest(path, if is_main { "main" } else { self.root() })
    }

    /// The room that contains the reference, and the other room (or the root) that it names. `room` is the room of the file.
    fn arrow(&self, source: &Source, reference: &Reference, room: &'t Room) -> Option<(&'t Room, &str)> {
        let Target::Local(target) = &reference.target else { return None };
        if !target.starts_with(&self.base) {
            return None;
        }
        let from = self.room(source, &reference.module).unwrap_or(room);
        let to = self.longest(target, self.root()).map_or(self.root(), |room| &room.name);
        (from.name != to).then_some((from, to))
    }

    /// The room with the longest name that `path` begins with, or the room `root`.
    fn longest(&self, path: &[String], root: &str) -> Option<&'t Room> {
        let inside = &path[self.base.len().min(path.len())..];
        let begins = |room: &&Room| {
            let mut parts = inside.iter();
            room.name.split("::").all(|part| parts.next().is_some_and(|inside| inside == part))
        };
        let found = self.table.rooms.iter().filter(begins).max_by_key(|room| room.name.split("::").count());
        found.or_else(|| self.table.rooms.iter().find(|room| room.name == root))
    }
}

/// The lines of a file that name the same.
#[derive(Debug)]
struct Mentions<'s> {
    first: &'s Reference,
    lines: BTreeSet<usize>,
}

impl Mentions<'_> {
    /// The first line with what it names, and the number of further lines.
    fn place(&self, path: &str) -> String {
        let (line, named) = (self.first.line, written(&self.first.target));
        match self.lines.len() - 1 {
            0 => format!("{path}:{line}, {named}"),
            more => format!("{path}:{line}, {named} (and {more} more)"),
        }
    }
}

fn grouped<'s, K: Ord>(all: impl Iterator<Item = (K, &'s Reference)>) -> BTreeMap<K, Mentions<'s>> {
    let mut groups: BTreeMap<K, Mentions<'s>> = BTreeMap::new();
    for (key, reference) in all {
        let group = groups.entry(key).or_insert_with(|| Mentions { first: reference, lines: BTreeSet::new() });
        group.lines.insert(reference.line);
    }
    groups
}

fn written(target: &Target) -> String {
    match target {
        Target::Local(path) => {
            ["crate"].into_iter().chain(path.iter().map(String::as_str)).collect::<Vec<_>>().join("::")
        }
        Target::External(path) => path.join("::"),
        Target::Unsafe => "unsafe".to_owned(),
    }
}

/// Returns everything that contradicts `rules`, and places that do not exist.
pub(super) fn names(rules: &[NameRule], sources: &[Source]) -> Vec<String> {
    let mut problems = Vec::new();
    for rule in rules {
        let NameRule { line: row, name, is_only, places } = rule;
        let is_listed = |path: &str| places.iter().any(|place| path == place || path.starts_with(&format!("{place}/")));
        for source in sources.iter().filter(|source| is_listed(&source.place.path) != *is_only) {
            let named = source.references.iter().filter(|reference| is_name(&reference.target, name));
            for ((), mentions) in grouped(named.map(|reference| ((), reference))) {
                let (place, list) = (mentions.place(&source.place.path), places.join(", "));
                let advice = match is_only {
                    true => format!("only {list} may name {name}: move this there, or use what is there"),
                    false => format!("nothing in {list} may name {name}: take the result as an argument"),
                };
                problems.push(format!("{place}: {advice} ({DOCUMENT}:{row})"));
            }
        }
        let is_there = |place: &str| {
            let below = format!("{place}/");
            sources.iter().any(|source| source.place.path == place || source.place.path.starts_with(&below))
        };
        problems.extend(
            places
                .iter()
                .filter(|place| !is_there(place))
                .map(|place| format!("{DOCUMENT}:{row}: there is no {place}")),
        );
    }
    problems
}

fn is_name(target: &Target, name: &str) -> bool {
    match target {
        Target::Unsafe => name == "unsafe",
        Target::External(path) => {
            let mut parts = path.iter();
            name.split("::").all(|part| parts.next().is_some_and(|segment| segment == part))
        }
        Target::Local(_) => false,
    }
}
