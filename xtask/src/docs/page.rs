//! One page of Markdown: its headings, and its links within the repository.
//!
//! Owns how a page is read. Must not judge: `links` does.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use crate::command::root;

/// A page, by its path from the root of the repository.
pub(super) struct Page {
    pub(super) path: String,
    text: String,
}

/// A link of a page to a file of the repository, or to a heading.
pub(super) struct Link {
    /// As written.
    pub(super) written: String,
    /// Where it stands in the text.
    range: Range<usize>,
}

impl Page {
    /// Reads the page at `path`.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub(super) fn read(path: &str) -> Result<Self> {
        let text = fs::read_to_string(root().join(path)).with_context(|| format!("reading {path}"))?;
        Ok(Self { path: path.to_owned(), text })
    }

    #[cfg(test)]
    pub(super) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    fn events(&self) -> impl Iterator<Item = (Event<'_>, Range<usize>)> {
        Parser::new_ext(&self.text, Options::ENABLE_TABLES).into_offset_iter()
    }

    /// The links and pictures that do not lead out of the repository.
    pub(super) fn links(&self) -> Vec<Link> {
        let destinations = self.events().filter_map(|(event, range)| match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => Some((dest_url, range)),
            _ => None,
        });
        let inside = destinations.filter(|(to, _)| !to.contains("://") && !to.starts_with("mailto:"));
        inside.map(|(to, range)| Link { written: to.into_string(), range }).collect()
    }

    /// The anchors of the headings, as GitHub and mdBook make them.
    pub(super) fn anchors(&self) -> BTreeSet<String> {
        let mut anchors = BTreeSet::new();
        let mut heading: Option<String> = None;
        for (event, _) in self.events() {
            match event {
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::Text(text) | Event::Code(text) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&text);
                    }
                }
                Event::End(TagEnd::Heading(_)) => {
                    let anchor = anchor(&heading.take().unwrap_or_default());
                    let again = (1..).map(|number| format!("{anchor}-{number}"));
                    let free = std::iter::once(anchor.clone()).chain(again).find(|name| !anchors.contains(name));
                    anchors.extend(free);
                }
                _ => {}
            }
        }
        anchors
    }

    /// The file of the repository that `link` leads to, and its anchor. The file is the page itself for an anchor alone.
    ///
    /// # Errors
    ///
    /// The link leads out of the repository.
    pub(super) fn resolve(&self, link: &str) -> Result<(String, Option<String>)> {
        let (file, anchor) =
            link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor.to_owned())));
        if file.is_empty() {
            return Ok((self.path.clone(), anchor));
        }
        let mut path = PathBuf::new();
        let directory = Path::new(&self.path).parent().unwrap_or(Path::new(""));
        for component in directory.join(file).components() {
            match component {
                Component::ParentDir if !path.pop() => bail!("{}: {link} leads out of the repository", self.path),
                Component::Normal(name) => path.push(name),
                _ => {}
            }
        }
        Ok((path.to_string_lossy().into_owned(), anchor))
    }

    /// The files that the page links to, without itself.
    ///
    /// # Errors
    ///
    /// As [`Self::resolve`].
    pub(super) fn files(&self) -> Result<Vec<String>> {
        let files = self.links().into_iter().map(|link| Ok(self.resolve(&link.written)?.0));
        let files: BTreeSet<String> = files.collect::<Result<_>>()?;
        Ok(files.into_iter().filter(|file| *file != self.path).collect())
    }

    /// The text with each link to a file leading to the place of the file, as the page itself is at its place.
    ///
    /// # Errors
    ///
    /// As [`Self::resolve`].
    pub(super) fn rewritten(&self, place_of: fn(&str) -> String) -> Result<String> {
        let own = place_of(&self.path);
        let up = "../".repeat(own.matches('/').count());
        let mut text = self.text.clone();
        let mut links = self.links();
        // From the end, so that the ranges before stay right.
        links.sort_by_key(|link| std::cmp::Reverse(link.range.start));
        for link in links {
            let (file, anchor) = self.resolve(&link.written)?;
            if file == self.path {
                continue;
            }
            let anchor = anchor.map(|anchor| format!("#{anchor}")).unwrap_or_default();
            let new = format!("({up}{}{anchor})", place_of(&file));
            let old = text[link.range.clone()].replace(&format!("({})", link.written), &new);
            text.replace_range(link.range, &old);
        }
        Ok(text)
    }
}

/// The anchor of a heading: lower case, without punctuation, spaces as `-`.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}
