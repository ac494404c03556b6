//! The tables of ARCHITECTURE.md: which room may name which, and what may be named only in some folders.
//!
//! A table is between `<!-- rooms: FOLDER -->` or `<!-- names -->` and `<!-- end -->`. Its first row is the head. Owns the format, and finds
//! contradictions within a table. Must not look at source files.

use std::collections::BTreeMap;

/// The document with the tables.
pub(super) const DOCUMENT: &str = "ARCHITECTURE.md";

const END: &str = "<!-- end -->";

/// One table of rooms.
#[derive(Debug)]
pub(super) struct Table {
    /// The folder of the rooms: a crate's source folder, or a module's folder in it.
    pub(super) folder: String,
    pub(super) rooms: Vec<Room>,
}

/// ``| `worker` | `accept`, `http` | 600 | one sentence |``
#[derive(Debug)]
pub(super) struct Room {
    /// Of [`DOCUMENT`].
    pub(super) line: usize,
    /// A module path that starts in the folder, such as `control::jwks`.
    pub(super) name: String,
    /// The rooms that it may name.
    pub(super) allowed: Vec<String>,
    /// Lines without tests.
    pub(super) size: usize,
}

/// ``| `aya` | only in `gateway/filter/src` | why |`` or ``| `aya` | not in `gateway/core/src` | why |``
#[derive(Debug)]
pub(super) struct NameRule {
    /// Of [`DOCUMENT`].
    pub(super) line: usize,
    /// A path prefix such as `rustls::crypto::ring`, or `unsafe`.
    pub(super) name: String,
    pub(super) is_only: bool,
    /// Folders or files, from the root of the repository.
    pub(super) places: Vec<String>,
}

/// All tables, and their errors.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) rooms: Vec<Table>,
    /// `None` if the document has no such table.
    pub(super) names: Option<Vec<NameRule>>,
    pub(super) problems: Vec<String>,
}

impl Tables {
    /// Reads `document`.
    pub(super) fn parse(document: &str) -> Self {
        let mut tables = Self::default();
        let mut lines = document.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
        while let Some((number, line)) = lines.next() {
            let Some(marker) = line.strip_prefix("<!-- ").and_then(|line| line.strip_suffix(" -->")) else { continue };
            let folder = marker.strip_prefix("rooms: ");
            if folder.is_none() && marker != "names" {
                continue;
            }
            let inside: Vec<(usize, &str)> = lines.by_ref().take_while(|(_, line)| *line != END).collect();
            let rows = inside.into_iter().filter(|(_, line)| line.starts_with('|')).skip(2);
            let rows: Vec<(usize, Vec<&str>)> = rows.map(|(number, line)| (number, cells(line))).collect();
            if rows.is_empty() {
                tables.problems.push(format!("{DOCUMENT}:{number}: no row between {line} and {END}"));
            }
            match folder {
                Some(folder) => tables.add_rooms(folder, &rows),
                None => tables.add_names(&rows),
            }
        }
        tables
    }

    fn add_rooms(&mut self, folder: &str, rows: &[(usize, Vec<&str>)]) {
        let mut rooms = Vec::new();
        for (line, cells) in rows {
            let room = match cells.as_slice() {
                [name, allowed, size, purpose] if !purpose.is_empty() => room(*line, name, allowed, size),
                _ => None,
            };
            match room {
                Some(room) => rooms.push(room),
                None => self.problems.push(format!(
                    "{DOCUMENT}:{line}: a row must be | `room` | `room`, `room` | lines | what it owns |, with an empty cell for no room"
                )),
            }
        }
        let table = Table { folder: folder.to_owned(), rooms };
        self.problems.extend(table.problems());
        self.rooms.push(table);
    }

    fn add_names(&mut self, rows: &[(usize, Vec<&str>)]) {
        let rules = self.names.get_or_insert_default();
        for (line, cells) in rows {
            let parsed = match cells.as_slice() {
                [name, places, why] if !why.is_empty() => name_rules(*line, name, places),
                _ => Vec::new(),
            };
            if parsed.is_empty() {
                self.problems.push(format!(
                    "{DOCUMENT}:{line}: a row must be | `name`, `name` | only in `folder`, `folder` | why |, or begin its second \
                     cell with `not in`"
                ));
            }
            rules.extend(parsed);
        }
    }
}

impl Table {
    /// Contradictions between rows.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut lines: BTreeMap<&str, usize> = BTreeMap::new();
        for room in &self.rooms {
            if let Some(before) = lines.insert(&room.name, room.line) {
                problems.push(format!("{DOCUMENT}:{}: `{}` has a row already, line {before}", room.line, room.name));
            }
        }
        for room in &self.rooms {
            for allowed in &room.allowed {
                let (line, name) = (room.line, &room.name);
                if allowed == name {
                    problems.push(format!("{DOCUMENT}:{line}: `{name}` is in its own row: remove it there"));
                } else if !lines.contains_key(allowed.as_str()) {
                    problems.push(format!("{DOCUMENT}:{line}: `{name}` may name `{allowed}`, which has no row"));
                }
            }
        }
        if let Some(circle) = self.circle() {
            let (line, path) = (lines.get(circle[0]).copied().unwrap_or_default(), circle.join(" → "));
            problems.push(format!("{DOCUMENT}:{line}: rooms in {} name each other in a circle: {path}", self.folder));
        }
        problems
    }

    /// Rooms of which each names the next, and the last is the first.
    fn circle(&self) -> Option<Vec<&str>> {
        let mut finished = Vec::new();
        self.rooms.iter().find_map(|room| self.circle_from(&room.name, &mut Vec::new(), &mut finished))
    }

    fn circle_from<'a>(
        &'a self,
        name: &'a str,
        path: &mut Vec<&'a str>,
        finished: &mut Vec<&'a str>,
    ) -> Option<Vec<&'a str>> {
        if let Some(start) = path.iter().position(|before| *before == name) {
            return Some([&path[start..], &[name]].concat());
        }
        if finished.contains(&name) {
            return None;
        }
        path.push(name);
        let room = self.rooms.iter().find(|room| room.name == name);
        let allowed = room.into_iter().flat_map(|room| &room.allowed).filter(|allowed| *allowed != name);
        let circle = allowed.into_iter().find_map(|allowed| self.circle_from(allowed, path, finished));
        path.pop();
        finished.push(name);
        circle
    }
}

fn cells(line: &str) -> Vec<&str> {
    line.trim_matches('|').split('|').map(str::trim).collect()
}

fn room(line: usize, name: &str, allowed: &str, size: &str) -> Option<Room> {
    let [name] = quoted(name)?.try_into().ok()?;
    let allowed = if ["", "–", "-"].contains(&allowed) { Vec::new() } else { quoted(allowed)? };
    Some(Room { line, name, allowed, size: size.replace(',', "").parse().ok()? })
}

fn name_rules(line: usize, names: &str, places: &str) -> Vec<NameRule> {
    let (is_only, places) = match (places.strip_prefix("only in "), places.strip_prefix("not in ")) {
        (Some(places), _) => (true, places),
        (None, Some(places)) => (false, places),
        (None, None) => return Vec::new(),
    };
    let (Some(names), Some(places)) = (quoted(names), quoted(places)) else { return Vec::new() };
    names.into_iter().map(|name| NameRule { line, name, is_only, places: places.clone() }).collect()
}

/// `` `one`, `other` `` as a list; `None` if the cell has another form.
fn quoted(cell: &str) -> Option<Vec<String>> {
    let name = |part: &str| {
        let name = part.trim().strip_prefix('`')?.strip_suffix('`')?;
        (!name.is_empty() && !name.contains('`')).then(|| name.to_owned())
    };
    cell.split(',').map(name).collect()
}
