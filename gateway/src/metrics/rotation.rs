//! The metrics of certificates and revocation lists: when they end, and which client chains were seen.
//!
//! Owns their labels. Must not read certificates.

use metrics::{Counter, counter, gauge};

use super::table::{CERTIFICATE, CLIENT_CERTIFICATE, CLIENT_CHAINS, REVOCATION_LIST, SUSPECTED};
use hookgate_core::identity::ChainSighting;

/// Publishes how many refused chains claim this provider and may be genuine.
pub fn suspected(provider: &str, chains: usize) {
    #[expect(clippy::cast_precision_loss, reason = "a few chains")]
    gauge!(SUSPECTED, "provider" => provider.to_owned()).set(chains as f64);
}

/// One series of a date. Its label values come from the configuration only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DateSeries {
    /// A certificate of the gateway, by its first name.
    Server {
        /// The name.
        name: String,
    },
    /// A trust anchor of a provider.
    TrustAnchor {
        /// The provider.
        provider: String,
        /// The anchor's label.
        name: String,
    },
    /// A revocation list of a provider.
    RevocationList {
        /// The provider.
        provider: String,
        /// The issuer's subject.
        issuer: String,
    },
    /// The client certificate that was seen last from a provider.
    Client {
        /// The provider.
        provider: String,
    },
}

/// Publishes the date of a series, in seconds since 1970. `None` sets it to NaN: the recorder cannot remove a series, and
/// [`super::retirement`] leaves series without a value out.
pub fn date(series: &DateSeries, seconds: Option<u64>) {
    let gauge = match series.clone() {
        DateSeries::Server { name } => gauge!(CERTIFICATE, "kind" => "server", "provider" => "", "name" => name),
        DateSeries::TrustAnchor { provider, name } => {
            gauge!(CERTIFICATE, "kind" => "trust_anchor", "provider" => provider, "name" => name)
        }
        DateSeries::RevocationList { provider, issuer } => {
            gauge!(REVOCATION_LIST, "provider" => provider, "issuer" => issuer)
        }
        DateSeries::Client { provider } => gauge!(CLIENT_CERTIFICATE, "provider" => provider),
    };
    #[expect(clippy::cast_precision_loss, reason = "a time in seconds stays far below 2^53")]
    gauge.set(seconds.map_or(f64::NAN, |seconds| seconds as f64));
}

/// The counter of chains with the provider, profile and anchor of `sighting`.
pub fn chains(sighting: &ChainSighting) -> Counter {
    let label = |text: &std::sync::Arc<str>| text.to_string();
    counter!(
        CLIENT_CHAINS,
        "provider" => label(&sighting.provider),
        "profile" => label(&sighting.profile),
        "anchor" => label(&sighting.trust_anchor)
    )
}
