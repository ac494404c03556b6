//! Every link of every page leads to a file that exists, and to a heading of it; every page of `docs` is in the table of contents.
//!
//! Links out of the repository are not tried: the check needs no network.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};

use super::page::Page;
use super::{SUMMARY, pages};
use crate::command::root;

/// Checks all pages.
///
/// # Errors
///
/// The links that lead nowhere, and the pages that no table of contents lists.
pub(crate) fn check() -> Result<()> {
    let pages = pages()?;
    let faults = faults(&pages, |path| root().join(path).exists())?;
    ensure!(faults.is_empty(), "the documentation has broken links:\n{}", faults.join("\n"));
    println!(
        "docs: {} links of {} pages lead somewhere",
        pages.iter().map(|page| page.links().len()).sum::<usize>(),
        pages.len()
    );
    Ok(())
}

/// What is wrong with the links of `pages`, one line each.
fn faults(pages: &[Page], exists: impl Fn(&str) -> bool) -> Result<Vec<String>> {
    let anchors: BTreeMap<&str, BTreeSet<String>> =
        pages.iter().map(|page| (page.path.as_str(), page.anchors())).collect();
    let mut faults = Vec::new();
    let mut listed = BTreeSet::new();
    for page in pages {
        for link in page.links() {
            let (file, anchor) = page.resolve(&link.written)?;
            if !exists(&file) {
                faults.push(format!("{}: {}: there is no file {file}", page.path, link.written));
            } else if let Some((anchor, headings)) = anchor.as_ref().zip(anchors.get(file.as_str()))
                && !headings.contains(anchor)
            {
                faults.push(format!("{}: {}: {file} has no heading #{anchor}", page.path, link.written));
            }
            if page.path == SUMMARY {
                listed.insert(file);
            }
        }
    }
    let unlisted = pages.iter().map(|page| &page.path).filter(|path| path.starts_with("docs/") && *path != SUMMARY);
    faults.extend(unlisted.filter(|path| !listed.contains(*path)).map(|path| format!("{path} is not in {SUMMARY}")));
    Ok(faults)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pages: &[(&str, &str)]) -> Vec<String> {
        let pages: Vec<Page> = pages.iter().map(|(path, text)| Page::new(path, text)).collect();
        let paths: Vec<String> = pages.iter().map(|page| page.path.clone()).collect();
        faults(&pages, |path| path == "src/main.rs" || paths.iter().any(|known| known == path))
            .expect("no link leads out")
    }

    #[test]
    fn every_link_leads_to_a_file_and_a_heading() {
        let good = "# One\n\n## `[[route]]` and more\n\n[a](b.md#two) [b](#route-and-more) [c](../src/main.rs) [d](https://example.com/#x)\n";
        let summary = "[a](a.md) [b](b.md)";
        assert!(check(&[("docs/SUMMARY.md", summary), ("docs/a.md", good), ("docs/b.md", "# Two")]).is_empty());
        let faults =
            check(&[("docs/SUMMARY.md", summary), ("docs/a.md", good), ("docs/b.md", "# Three\n\n![p](no.svg)")]);
        assert_eq!(
            faults,
            ["docs/a.md: b.md#two: docs/b.md has no heading #two", "docs/b.md: no.svg: there is no file docs/no.svg"]
        );
    }

    #[test]
    fn every_page_of_the_documentation_is_listed() {
        assert_eq!(
            check(&[("docs/SUMMARY.md", ""), ("docs/a.md", ""), ("b.md", "")]),
            ["docs/a.md is not in docs/SUMMARY.md"]
        );
    }

    #[test]
    fn a_link_out_of_the_repository_is_an_error() {
        assert!(faults(&[Page::new("docs/a.md", "[x](../../y.md)")], |_| true).is_err());
    }

    #[test]
    fn links_are_rewritten_for_the_place_of_a_page() {
        let page = Page::new("docs/senders/a.md", "[x](../b.md#c) [y](../../ARCHITECTURE.md) [z](#d) [x](../b.md#c)\n");
        let place = |path: &str| path.strip_prefix("docs/").unwrap_or(path).to_owned();
        assert_eq!(
            page.rewritten(place).expect("no link leads out"),
            "[x](../b.md#c) [y](../ARCHITECTURE.md) [z](#d) [x](../b.md#c)\n"
        );
    }

    #[test]
    fn a_heading_that_stands_twice_has_two_anchors() {
        assert_eq!(Page::new("a.md", "# A, b\n# A b\n").anchors().into_iter().collect::<Vec<_>>(), ["a-b", "a-b-1"]);
    }
}
