//! `cargo xtask docs`: the documentation as a book, with every link checked.
//!
//! Owns which pages are in the book, and how they are laid out for mdBook. The pages stay readable where they are: their links are relative in the
//! repository, and are rewritten for the book.

mod links;
mod page;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::command::{self, is_installed, root, target};
pub(crate) use links::check;
use page::Page;

/// The table of contents.
const SUMMARY: &str = "docs/SUMMARY.md";

/// The version of mdBook that is installed if there is none.
const MDBOOK_VERSION: &str = "0.5.4";

const BOOK: &str = r#"[book]
title = "hookgate"
description = "Receive webhooks over mutual TLS, and trust what arrives"
src = "pages"

[output.html]
preferred-dark-theme = "navy"
"#;

/// Builds the documentation as a book.
#[derive(Debug, clap::Args)]
pub(crate) struct Docs {
    /// Only check that every link of every page leads somewhere
    #[arg(long)]
    check: bool,
}

impl Docs {
    /// Checks the links, and builds the book in `target/book/html`.
    ///
    /// # Errors
    ///
    /// A link is broken, or mdBook cannot be installed or fails.
    pub(crate) fn run(&self) -> Result<()> {
        check()?;
        if self.check {
            return Ok(());
        }
        let directory = target()?.join("book");
        lay_out(&directory)?;
        command::run(mdbook()?.arg("build").arg(&directory).arg("--dest-dir").arg(directory.join("html")))?;
        println!("the book: {}", directory.join("html/index.html").display());
        Ok(())
    }
}

/// mdBook: the one in the path, or one that is built in the target directory.
fn mdbook() -> Result<Command> {
    if is_installed("mdbook") {
        return Ok(Command::new("mdbook"));
    }
    let tools = target()?.join("tools");
    let program = tools.join("bin/mdbook");
    if !program.is_file() {
        let mut install = command::cargo();
        install.args(["install", "--locked", "--no-default-features", "--version", MDBOOK_VERSION, "--root"]);
        command::run(install.arg(&tools).arg("mdbook"))?;
    }
    Ok(Command::new(program))
}

/// Writes the pages of the table of contents, and the files that they name, as a source of mdBook.
fn lay_out(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| format!("removing {}", directory.display()))?;
    }
    let write = |path: &str, bytes: &[u8]| {
        let path = directory.join(path);
        fs::create_dir_all(path.parent().context("a file has a directory")?)?;
        fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))
    };
    write("book.toml", BOOK.as_bytes())?;
    let summary = Page::read(SUMMARY)?;
    let mut pages: BTreeMap<String, Page> = BTreeMap::new();
    for path in summary.files()? {
        pages.insert(path.clone(), Page::read(&path)?);
    }
    let places: BTreeSet<String> = pages.keys().map(|path| place_of(path)).collect();
    write("pages/SUMMARY.md", summary.rewritten(place_of)?.as_bytes())?;
    for (path, page) in &pages {
        write(&format!("pages/{}", place_of(path)), page.rewritten(place_of)?.as_bytes())?;
        for file in page.files()?.into_iter().filter(|file| !places.contains(&place_of(file))) {
            let from = root().join(&file);
            ensure!(from.is_file(), "{path} links to {file}, which is no file: a page of the book names files");
            write(&format!("pages/{}", place_of(&file)), &fs::read(&from)?)?;
        }
    }
    Ok(())
}

/// The place of a file of the repository in the book.
fn place_of(path: &str) -> String {
    match path.strip_prefix("docs/") {
        // The first page; the README of the repository has no other place in the book.
        Some("README.md") => "index.md".to_owned(),
        None if path == "README.md" => "index.md".to_owned(),
        Some(page) => page.to_owned(),
        None if path.ends_with(".md") && !path.contains('/') => path.to_owned(),
        // Not a page: mdBook copies it as it is. A page of another folder (`.md`) would be left out.
        None => format!("source/{}", path.replace(".md", ".md.txt")),
    }
}

/// Every page of the repository that is for readers.
fn pages() -> Result<Vec<Page>> {
    let mut paths: Vec<PathBuf> = vec!["docs".into(), "docs/senders".into(), ".".into()];
    let mut found = Vec::new();
    while let Some(folder) = paths.pop() {
        for entry in fs::read_dir(root().join(&folder)).with_context(|| format!("reading {}", folder.display()))? {
            let path = folder.join(entry?.file_name());
            if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path.strip_prefix(".").unwrap_or(&path).to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found.iter().map(|path| Page::read(path)).collect()
}
