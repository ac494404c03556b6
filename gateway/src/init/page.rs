//! The pages of docs/senders, of which `hookgate init` prints what to do at the sender.
//!
//! Owns the list of their texts. Must not say anything about a sender: its page does.

/// The section about the sender's side.
pub(super) const SENDER: &str = "On the sender's side";

/// The section about the operator's part.
pub(super) const OPERATOR: &str = "What you add";

/// Each page by the name of its preset.
const PAGES: [(&str, &str); 26] = [
    ("alertmanager", include_str!("../../../docs/senders/alertmanager.md")),
    ("cloudflare-origin-pull", include_str!("../../../docs/senders/cloudflare-origin-pull.md")),
    ("dialogflow-cx", include_str!("../../../docs/senders/dialogflow-cx.md")),
    ("dialogflow-es", include_str!("../../../docs/senders/dialogflow-es.md")),
    ("discord", include_str!("../../../docs/senders/discord.md")),
    ("docusign", include_str!("../../../docs/senders/docusign.md")),
    ("fireblocks", include_str!("../../../docs/senders/fireblocks.md")),
    ("github", include_str!("../../../docs/senders/github.md")),
    ("gitlab", include_str!("../../../docs/senders/gitlab.md")),
    ("linear", include_str!("../../../docs/senders/linear.md")),
    ("meta", include_str!("../../../docs/senders/meta.md")),
    ("own-ca", include_str!("../../../docs/senders/own-ca.md")),
    ("pagerduty", include_str!("../../../docs/senders/pagerduty.md")),
    ("percolate", include_str!("../../../docs/senders/percolate.md")),
    ("pubsub-push", include_str!("../../../docs/senders/pubsub-push.md")),
    ("sendgrid", include_str!("../../../docs/senders/sendgrid.md")),
    ("shopify", include_str!("../../../docs/senders/shopify.md")),
    ("slack", include_str!("../../../docs/senders/slack.md")),
    ("slack-mtls", include_str!("../../../docs/senders/slack-mtls.md")),
    ("square", include_str!("../../../docs/senders/square.md")),
    ("standard-webhooks", include_str!("../../../docs/senders/standard-webhooks.md")),
    ("stripe", include_str!("../../../docs/senders/stripe.md")),
    ("svix", include_str!("../../../docs/senders/svix.md")),
    ("svix-mtls", include_str!("../../../docs/senders/svix-mtls.md")),
    ("wise", include_str!("../../../docs/senders/wise.md")),
    ("zoom", include_str!("../../../docs/senders/zoom.md")),
];

/// The page of the preset with this name. A preset that the operator made has none.
pub(super) fn of(preset: &str) -> Option<&'static str> {
    PAGES.iter().find(|(name, _)| *name == preset).map(|(_, page)| *page)
}

/// The text of a section, without its heading, code and links' brackets.
pub(super) fn section(page: &str, heading: &str) -> String {
    let start = format!("## {heading}\n");
    let Some((_, rest)) = page.split_once(&start) else { return String::new() };
    let section = rest.split("\n## ").next().unwrap_or_default();
    plain(section)
}

/// The first paragraph of a section.
pub(super) fn paragraph(page: &str, heading: &str) -> String {
    let section = section(page, heading);
    section.split("\n\n").next().unwrap_or_default().to_owned()
}

/// Markdown without the marks that a terminal does not need.
fn plain(text: &str) -> String {
    let mut is_code = false;
    let lines = text.trim().lines().filter(|line| {
        let is_fence = line.starts_with("```");
        is_code ^= is_fence;
        !is_fence && !is_code
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    text.replace(['`', '*'], "").replace(['<', '>'], "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::preset::Presets;

    #[test]
    fn every_preset_has_a_page_with_both_sections() {
        let presets = Presets::compiled_in();
        assert_eq!(presets.names().collect::<Vec<_>>(), PAGES.map(|(name, _)| name));
        for (name, page) in PAGES {
            for heading in [SENDER, OPERATOR] {
                assert!(!paragraph(page, heading).is_empty(), "{name}: {heading}");
                assert!(!section(page, heading).contains("```"), "{name}: {heading}");
            }
        }
    }

    #[test]
    fn a_section_is_plain_text_up_to_the_next_heading() {
        let page = "# A\n\n## What you add\n\nThe `secret`.\n\n```toml\nx = 1\n```\n\nMore: <https://a/>.\n\n## On the sender's side\n\nTurn *it* on.\n";
        assert_eq!(section(page, OPERATOR), "The secret.\n\n\nMore: https://a/.");
        assert_eq!(paragraph(page, OPERATOR), "The secret.");
        assert_eq!(section(page, SENDER), "Turn it on.");
        assert_eq!(section(page, "What it sends"), "");
    }
}
