//! `cargo xtask rooms`: which room of the daemon may name which, checked against the tables of ARCHITECTURE.md.
//!
//! A room is a module of one of the daemon's crates, with everything below it. The tables list the rooms that each room may name, without a
//! circle. The check reads them from the document, so that document and check cannot differ. Needs no build.

mod dependencies;
mod judge;
mod layout;
mod scan;
mod table;
#[cfg(test)]
mod tests;

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::command::root;
use layout::{File, Place};
use scan::Source;
use table::{DOCUMENT, Tables};

/// Checks the rooms.
#[derive(Debug, clap::Args)]
pub(crate) struct Rooms {
    /// Also print the size of each room, and the rooms that it names, with the place of the first mention
    #[arg(long)]
    print: bool,
}

impl Rooms {
    /// Prints if wanted, and checks.
    ///
    /// # Errors
    ///
    /// As for [`check`].
    pub(crate) fn run(&self) -> Result<()> {
        if self.print {
            let (files, document) = read()?;
            let sources = sources(&files)?;
            for table in &Tables::parse(&document).rooms {
                println!("{}", table.folder);
                for (room, actual) in judge::actual(table, &sources) {
                    println!("  {room}: {} lines", actual.lines);
                    actual.names.iter().for_each(|(named, place)| println!("    {named:<20} {place}"));
                }
            }
        }
        check()
    }
}

/// Checks rooms, names and dependencies.
///
/// # Errors
///
/// Every violation, with its file and line, and what to do.
pub(crate) fn check() -> Result<()> {
    let (files, document) = read()?;
    let outcome = judge_all(&files, &document, true)?;
    for problem in &outcome.problems {
        eprintln!("{problem}");
    }
    let count = outcome.problems.len();
    ensure!(
        count == 0,
        "{count} violations of the tables in {DOCUMENT}; `cargo xtask rooms --print` shows which room names which"
    );
    println!("rooms: {}", outcome.summary);
    Ok(())
}

fn read() -> Result<(Vec<File>, String)> {
    let path = root().join(DOCUMENT);
    let document = fs::read_to_string(&path).with_context(|| format!("reading {DOCUMENT}"))?;
    Ok((layout::read(root())?, document))
}

/// What the check found.
#[derive(Debug)]
struct Outcome {
    problems: Vec<String>,
    summary: String,
}

/// The whole check, on files in memory.
fn judge_all(files: &[File], document: &str, is_required: bool) -> Result<Outcome> {
    let tables = Tables::parse(document);
    let sources = sources(files)?;
    let mut problems = tables.problems;
    for table in &tables.rooms {
        problems.extend(judge::rooms(table, &sources));
    }
    problems.extend(judge::names(tables.names.as_deref().unwrap_or_default(), &sources));
    problems.extend(dependencies::check(files, is_required)?);
    let mut crates: Vec<&str> = sources.iter().map(|source| source.place.folder.as_str()).collect();
    crates.retain(|folder| folder.starts_with("gateway/"));
    crates.dedup();
    crates.retain(|folder| tables.rooms.iter().all(|table| table.folder != *folder));
    if is_required {
        let missing = crates.into_iter().map(|folder| format!("rooms: {folder}"));
        let missing = missing.chain(tables.names.is_none().then(|| "names".to_owned()));
        problems.extend(missing.map(|marker| format!("{DOCUMENT} has no table behind <!-- {marker} -->")));
    }
    let rooms: usize = tables.rooms.iter().map(|table| table.rooms.len()).sum();
    let summary = match (rooms, tables.names.as_ref().map_or(0, Vec::len)) {
        (0, 0) => format!("nothing was checked, {DOCUMENT} has no table of rooms"),
        (rooms, names) => format!("{rooms} rooms in {} files, and the places of {names} names", sources.len()),
    };
    Ok(Outcome { problems, summary })
}

/// Every file that is no test.
fn sources(files: &[File]) -> Result<Vec<Source>> {
    let rust =
        files.iter().filter_map(|file| Some((file, Place::of(&file.path).filter(|_| file.path.ends_with(".rs"))?)));
    let scan = |(file, place): (&File, Place)| {
        let library = library(files, &place.folder);
        scan::scan(place, &file.text, library.as_deref())
    };
    let mut sources = rust.map(scan).collect::<Result<Vec<_>>>()?;
    let tests: Vec<(String, Vec<String>)> = sources
        .iter()
        .flat_map(|source| source.test_modules.iter().map(|module| (source.place.folder.clone(), module.clone())))
        .collect();
    let is_test = |place: &Place| {
        tests.iter().any(|(folder, module)| place.folder == *folder && place.module.starts_with(module))
    };
    sources.retain(|source| !is_test(&source.place));
    Ok(sources)
}

/// How a binary in `folder` names the library beside it.
fn library(files: &[File], folder: &str) -> Option<String> {
    let path = format!("{}/Cargo.toml", folder.strip_suffix("/src")?);
    let manifest: toml::Table = files.iter().find(|file| file.path == path)?.text.parse().ok()?;
    let name = |key: &str| Some(manifest.get(key)?.get("name")?.as_str()?.replace('-', "_"));
    name("lib").or_else(|| name("package"))
}
