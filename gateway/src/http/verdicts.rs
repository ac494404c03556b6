//! The refusals that host, method and address decide alone.
//!
//! Pure, but for the count of addresses outside of ranges. Must not look at the certificate or at the body.

use std::net::IpAddr;

use hyper::Method;

use crate::metrics;
use hookgate_core::ranges::{SourceCheck, Sources};
use hookgate_core::reject::{Refusal, Reject};
use hookgate_core::route::Miss;

/// The most characters of a host or method in a refusal: the longest host name (RFC 1035, section 2.3.4).
const MAXIMUM_SHOWN_CHARACTERS: usize = 255;

/// The refusal of a request without a route. Names host and method. Not the path, which may hold a secret of the sender; the log has it in a
/// field of its own, unless `[log] path` says otherwise.
pub fn missed(miss: &Miss, host: &str, method: &Method) -> Refusal {
    let shown = |text: &str| text.chars().take(MAXIMUM_SHOWN_CHARACTERS).collect::<String>();
    match miss {
        Miss::NoRoute => {
            let detail = format!(
                "No route is configured for the host \"{}\" and this path; correct the URL of the webhook, in which also a last slash counts.",
                shown(host)
            );
            Refusal::new(Reject::NoRoute, detail)
        }
        Miss::Path(fault) => Refusal::new(Reject::MalformedRequest, fault.to_string()),
        Miss::MethodNotAllowed(_) => {
            let detail = format!(
                "The route for this path does not take the method {}; send one of those that the field Allow of this answer lists.",
                shown(method.as_str())
            );
            Refusal::new(Reject::MethodNotAllowed, detail)
        }
    }
}

/// If the provider of a request has ranges, the address must be in one of them.
///
/// # Errors
///
/// `source_not_in_ranges`, or `ranges_unavailable` if they were not fetched yet.
pub fn check_source(sources: Option<&Sources>, address: IpAddr, provider: &str) -> Result<(), Refusal> {
    let Some(sources) = sources.filter(|sources| sources.misses(address)) else { return Ok(()) };
    metrics::source_missed(provider);
    match sources.check {
        SourceCheck::Off | SourceCheck::Count => Ok(()),
        SourceCheck::Refuse if !sources.is_complete => {
            let detail = format!("The ranges of {provider} were not fetched yet.");
            Err(Refusal::new(Reject::RangesUnavailable, detail))
        }
        SourceCheck::Refuse => {
            let address = address.to_canonical();
            let detail = format!("{address} is in none of the ranges that {provider} sends from.");
            Err(Refusal::new(Reject::SourceNotInRanges, detail))
        }
    }
}
