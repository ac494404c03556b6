//! The presets that are compiled in.
//!
//! Owns the list of their texts. Must not say anything about a preset: its text does.

use std::sync::{Arc, LazyLock};

use super::{Origin, Preset};
use crate::config::file::FileVersions;

/// The presets, name and text, in the order of `hookgate providers`.
const TEXTS: [(&str, &str); 26] = [
    ("alertmanager", include_str!("../../../presets/alertmanager.toml")),
    ("cloudflare-origin-pull", include_str!("../../../presets/cloudflare-origin-pull.toml")),
    ("dialogflow-cx", include_str!("../../../presets/dialogflow-cx.toml")),
    ("dialogflow-es", include_str!("../../../presets/dialogflow-es.toml")),
    ("discord", include_str!("../../../presets/discord.toml")),
    ("docusign", include_str!("../../../presets/docusign.toml")),
    ("fireblocks", include_str!("../../../presets/fireblocks.toml")),
    ("github", include_str!("../../../presets/github.toml")),
    ("gitlab", include_str!("../../../presets/gitlab.toml")),
    ("linear", include_str!("../../../presets/linear.toml")),
    ("meta", include_str!("../../../presets/meta.toml")),
    ("own-ca", include_str!("../../../presets/own-ca.toml")),
    ("pagerduty", include_str!("../../../presets/pagerduty.toml")),
    ("percolate", include_str!("../../../presets/percolate.toml")),
    ("pubsub-push", include_str!("../../../presets/pubsub-push.toml")),
    ("sendgrid", include_str!("../../../presets/sendgrid.toml")),
    ("shopify", include_str!("../../../presets/shopify.toml")),
    ("slack", include_str!("../../../presets/slack.toml")),
    ("slack-mtls", include_str!("../../../presets/slack-mtls.toml")),
    ("square", include_str!("../../../presets/square.toml")),
    ("standard-webhooks", include_str!("../../../presets/standard-webhooks.toml")),
    ("stripe", include_str!("../../../presets/stripe.toml")),
    ("svix", include_str!("../../../presets/svix.toml")),
    ("svix-mtls", include_str!("../../../presets/svix-mtls.toml")),
    ("wise", include_str!("../../../presets/wise.toml")),
    ("zoom", include_str!("../../../presets/zoom.toml")),
];

static PRESETS: LazyLock<Vec<Arc<Preset>>> = LazyLock::new(|| {
    let parse = |(name, text): &(&str, &str)| {
        // They name no file.
        let mut files = FileVersions::default();
        Preset::parse((*name).to_owned(), (*text).to_owned(), Origin::CompiledIn, &mut files).map(Arc::new)
    };
    let parsed = TEXTS.iter().map(parse);
    parsed.collect::<Result<_, _>>().expect("the presets are compiled in, and a test parses each")
});

/// Every preset that is compiled in.
pub(super) fn all() -> &'static [Arc<Preset>] {
    &PRESETS
}
