//! Whether a chain of this server ends where senders know its authority.
//!
//! Owns what is said about that. A root of one's own may be what the senders trust, so it is a note and no warning.

use hookgate_core::identity::comparable_name;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::Finding;
use crate::config::{Certificate, ChainEnd, Config, NamedPlaces};

/// Notes each chain that ends neither at a public root nor at one of this host.
pub(super) fn private_ends(places: &NamedPlaces, config: &Config) -> Vec<Finding> {
    let finding = |certificate: &crate::config::ServerCertificate| {
        let end = certificate.private_end()?;
        let (location, _) = places.files.iter().find(|(_, path)| *path == certificate.chain_path)?;
        (!is_known(&end)).then(|| Finding { location: location.clone(), text: text(&end) })
    };
    config.certificates.iter().filter_map(Certificate::of_files).filter_map(finding).collect()
}

/// Whether this host trusts it.
fn is_known(end: &ChainEnd) -> bool {
    let wanted = comparable_name(&end.name);
    let is_wanted = |der: &[u8]| {
        X509Certificate::from_der(der).is_ok_and(|(_, parsed)| comparable_name(parsed.subject().as_raw()) == wanted)
    };
    rustls_native_certs::load_native_certs().certs.iter().any(|certificate| is_wanted(certificate))
}

fn text(end: &ChainEnd) -> String {
    let ChainEnd { printed, url, is_sent, .. } = end;
    let at = url.as_ref().map(|url| format!(" (its authority publishes it at {url})")).unwrap_or_default();
    let what = match is_sent {
        true => format!("the chain ends at its own root {printed}"),
        false => format!(
            "the chain ends at {printed}, whose certificate is not in the file; if that is an intermediate, append its certificate{at}"
        ),
    };
    format!(
        "{what}. It is neither a public root nor one of this host: a sender that trusts public roots alone, as the preset of PagerDuty documents, \
         ends the handshake (hookgate probe shows it)"
    )
}
