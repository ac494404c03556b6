//! The status page: HTML that is made on this side, without scripts, for light and dark.
//!
//! Owns its form. Every text is escaped by maud, also what a stranger sent. The style sheet stands in the page, and the policy of the page
//! admits it by its digest and nothing else. Must not collect: [`super::facts`] has everything.

mod sections;
mod words;

use std::sync::LazyLock;

use data_encoding::BASE64;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use ring::digest::{SHA256, digest};

use self::words::{ago, counted, moment};
use super::facts::{Facts, HandlerHealth};

/// The style sheet.
const STYLE: &str = include_str!("page/style.css");

/// What a browser may do with the page: show it with its style sheet.
pub(super) fn content_security_policy() -> String {
    static POLICY: LazyLock<String> = LazyLock::new(|| {
        let hash = BASE64.encode(digest(&SHA256, STYLE.as_bytes()).as_ref());
        format!(
            "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
    });
    POLICY.clone()
}

/// The sections: anchor and heading.
const SECTIONS: [(&str, &str); 9] = [
    ("attention", "Attention"),
    ("traffic", "Traffic"),
    ("handlers", "Handlers"),
    ("providers", "Providers"),
    ("routes", "Routes"),
    ("spool", "Stored deliveries"),
    ("dates", "Certificates and lists"),
    ("filter", "Filter"),
    // The longest comes last, so that it hides no other.
    ("refusals", "Recent refusals"),
];

/// The page.
pub(super) fn page(facts: &Facts) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "hookgate: " (facts.process.phase) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                a class="skip" href="#attention" { "Skip to the content" }
                (header(facts))
                nav aria-label="Sections" {
                    @for (anchor, heading) in SECTIONS { a href=(format!("#{anchor}")) { (heading) } }
                    a href="/status.json" { "JSON" }
                    a href="/metrics" { "Metrics" }
                }
                main {
                    @for (anchor, heading) in SECTIONS {
                        section id=(anchor) aria-labelledby=(format!("{anchor}-heading")) {
                            h2 id=(format!("{anchor}-heading")) { (heading) }
                            (sections::section(anchor, facts))
                        }
                    }
                }
                footer {
                    "hookgate " (facts.process.version) ", " (facts.process.backend) ", " (facts.process.crypto) ". "
                    "Times are in UTC. The page does not refresh itself."
                }
            }
        }
    }
}

fn header(facts: &Facts) -> Markup {
    let open: usize = facts.workers.iter().map(|worker| worker.connections).sum();
    let down = facts.handlers.iter().filter(|handler| handler.health == HandlerHealth::Down).count();
    let serving = facts.process.phase == "serving";
    html! {
        header {
            h1 { "hookgate" }
            p { (moment(facts.now)) }
            dl {
                dt { "State" } dd { (mark(if serving { "good" } else { "bad" }, facts.process.phase)) }
                dt { "Running since" } dd { (ago(facts.now, facts.process.started)) }
                dt { "Configuration" }
                dd { "generation " (facts.configuration.generation) ", loaded " (ago(facts.now, facts.configuration.loaded)) }
                dt { "Connections" } dd { (open) " of " (facts.connections_limit) }
                dt { "Handlers" }
                dd {
                    @if down == 0 { (counted(facts.handlers.len(), "handler")) ", none down" }
                    @else { (mark("bad", &format!("{down} of {} down", facts.handlers.len()))) }
                }
            }
        }
    }
}

/// A word that stands out. It says by itself what its colour says.
fn mark(class: &str, text: &str) -> Markup {
    html! { span class=(format!("mark {class}")) { (text) } }
}

/// A table that scrolls by itself if it is wider than the page; the keyboard can scroll it too. A column whose name begins with `#` has numbers.
fn table(caption: &str, columns: &[&str], rows: &Markup) -> Markup {
    html! {
        div class="scroll" tabindex="0" role="region" aria-label=(caption) {
            table {
                caption { (caption) }
                thead { tr { @for column in columns {
                            @match column.strip_prefix('#') {
                                Some(column) => { th scope="col" class="number" { (column) } },
                                None => { th scope="col" { (column) } },
                            }
                        } } }
                tbody { (rows) }
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
