//! Our certificates, chosen by server name (SNI, RFC 6066 section 3) and by what the client can verify.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// Our certificates by the DNS names in them. Names are lower case; a wildcard covers one label.
#[derive(Debug)]
pub struct Certificates {
    all: Vec<Arc<CertifiedKey>>,
    exact: HashMap<Box<str>, Vec<usize>>,
    /// By what follows the `*.`.
    wildcard: HashMap<Box<str>, Vec<usize>>,
}

impl Certificates {
    /// From each certificate with its DNS names. The first certificate is the default.
    pub fn new(certificates: Vec<(Arc<CertifiedKey>, Vec<String>)>) -> Self {
        let mut this = Self { all: Vec::new(), exact: HashMap::new(), wildcard: HashMap::new() };
        for (index, (key, names)) in certificates.into_iter().enumerate() {
            this.all.push(key);
            for name in names {
                let (table, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut this.wildcard, parent),
                    None => (&mut this.exact, name.as_str()),
                };
                table.entry(name.into()).or_default().push(index);
            }
        }
        this
    }

    /// The certificate for a lower-case `server_name`: the first, of those that name it exactly or else by a wildcard, whose key the
    /// client can verify (if none, the first of them); without any, the default.
    fn choose(
        &self,
        server_name: Option<&str>,
        verifiable: impl Fn(&CertifiedKey) -> bool,
    ) -> Option<Arc<CertifiedKey>> {
        let named = server_name.and_then(|name| {
            self.exact.get(name).or_else(|| name.split_once('.').and_then(|(_, parent)| self.wildcard.get(parent)))
        });
        let by_name = named.and_then(|indices| {
            let keys = || indices.iter().filter_map(|index| self.all.get(*index));
            keys().find(|key| verifiable(key)).or_else(|| keys().next())
        });
        by_name.or_else(|| self.all.first()).cloned()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let server_name = client_hello.server_name().map(str::to_ascii_lowercase);
        self.choose(server_name.as_deref(), |key| key.key.choose_scheme(client_hello.signature_schemes()).is_some())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

    use super::*;
    use crate::crypto::signing_key;

    fn key() -> Arc<CertifiedKey> {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec![]).unwrap().self_signed(&key).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Arc::new(CertifiedKey::new(vec![certificate.der().clone()], signing_key(&key).unwrap()))
    }

    #[test]
    fn names_choose_exact_before_wildcard_before_default() {
        let (default, exact, wildcard) = (key(), key(), key());
        let certificates = Certificates::new(vec![
            (Arc::clone(&default), vec!["hooks.example.org".into()]),
            (Arc::clone(&wildcard), vec!["*.example.com".into()]),
            (Arc::clone(&exact), vec!["hooks.example.com".into()]),
        ]);
        let check = |name: Option<&str>, expected: &Arc<CertifiedKey>| {
            let chosen = certificates.choose(name, |_| true).unwrap();
            assert!(Arc::ptr_eq(&chosen, expected), "{name:?}");
        };
        check(Some("hooks.example.com"), &exact);
        check(Some("other.example.com"), &wildcard);
        check(Some("two.labels.example.com"), &default);
        check(Some("example.com"), &default);
        check(Some("hooks.example.org"), &default);
        check(None, &default);
    }

    #[test]
    fn of_two_certificates_for_a_name_the_verifiable_one_is_chosen() {
        let (first, second) = (key(), key());
        let names = || vec!["hooks.example.com".to_owned()];
        let certificates = Certificates::new(vec![(Arc::clone(&first), names()), (Arc::clone(&second), names())]);
        let by = |wanted: &Arc<CertifiedKey>| {
            let wanted = Arc::as_ptr(wanted);
            certificates.choose(Some("hooks.example.com"), |key| std::ptr::eq(key, wanted)).unwrap()
        };
        assert!(Arc::ptr_eq(&by(&second), &second));
        assert!(Arc::ptr_eq(&by(&first), &first));
        assert!(Arc::ptr_eq(&by(&key()), &first), "an unverifiable certificate is better than none");
    }
}
