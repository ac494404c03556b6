//! Our certificates, chosen by server name (SNI, RFC 6066 section 3) and by what the client can verify.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// One of our certificates.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its DNS names, in lower case.
    pub names: Vec<String>,
    /// `None` until an authority has issued it.
    pub key: Option<Arc<CertifiedKey>>,
}

/// Our certificates by the DNS names in them. Names are lower case; a wildcard covers one label.
#[derive(Debug)]
pub struct Certificates {
    all: Vec<Entry>,
    exact: HashMap<Box<str>, Vec<usize>>,
    /// By what follows the `*.`.
    wildcard: HashMap<Box<str>, Vec<usize>>,
    /// Whether all of them are there.
    is_complete: bool,
}

impl Certificates {
    /// The first certificate that is there is the default.
    pub fn new(all: Vec<Entry>) -> Self {
        let is_complete = all.iter().all(|entry| entry.key.is_some());
        let mut this = Self { all: Vec::new(), exact: HashMap::new(), wildcard: HashMap::new(), is_complete };
        for (index, entry) in all.iter().enumerate() {
            for name in &entry.names {
                let (table, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut this.wildcard, parent),
                    None => (&mut this.exact, name.as_str()),
                };
                table.entry(name.into()).or_default().push(index);
            }
        }
        this.all = all;
        this
    }

    /// The same with another certificate at `index`, which has the names of those that were awaited for them.
    #[must_use]
    pub fn with(&self, index: usize, issued: Entry) -> Self {
        let mut all = self.all.clone();
        let is_awaited =
            |entry: &Entry| entry.key.is_none() && entry.names.iter().all(|name| issued.names.contains(name));
        let mut number = 0..;
        // Those of one name stand after those with a place in the configuration.
        all.retain(|entry| number.next() == Some(index) || !is_awaited(entry));
        if let Some(entry) = all.get_mut(index) {
            *entry = issued;
        }
        Self::new(all)
    }

    /// Whether there is no certificate yet for clients with this server name, in any case. A name of a certificate that is still to be issued
    /// gets no other certificate.
    pub fn lacks(&self, server_name: Option<&str>) -> bool {
        !self.is_complete && self.choose(server_name.map(str::to_ascii_lowercase).as_deref(), |_| true).is_none()
    }

    /// The certificate for a lower-case `server_name`: of those that name it exactly, then those that do by a wildcard, the first
    /// whose key the client can verify. If it can verify none of them, the first of them. For a client without a server name, or with
    /// one that no certificate has, all certificates are candidates.
    fn choose(
        &self,
        server_name: Option<&str>,
        verifiable: impl Fn(&CertifiedKey) -> bool,
    ) -> Option<Arc<CertifiedKey>> {
        let parent = server_name.and_then(|name| name.split_once('.')).map(|(_, parent)| parent);
        let exact = server_name.and_then(|name| self.exact.get(name)).into_iter().flatten();
        let wildcard = parent.and_then(|parent| self.wildcard.get(parent)).into_iter().flatten();
        let mut is_named = false;
        let named = exact.chain(wildcard).filter_map(|index| self.all.get(*index)).inspect(|_| is_named = true);
        match best(named.filter_map(|entry| entry.key.as_ref()), &verifiable) {
            None if !is_named => best(self.all.iter().filter_map(|entry| entry.key.as_ref()), &verifiable),
            found => found,
        }
    }
}

/// The first of the candidates that is verifiable, or else the first of them.
fn best<'a>(
    mut candidates: impl Iterator<Item = &'a Arc<CertifiedKey>>,
    verifiable: &impl Fn(&CertifiedKey) -> bool,
) -> Option<Arc<CertifiedKey>> {
    let first = candidates.next()?;
    if verifiable(first) {
        return Some(Arc::clone(first));
    }
    Some(Arc::clone(candidates.find(|key| verifiable(key)).unwrap_or(first)))
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

    fn of(all: Vec<(Arc<CertifiedKey>, Vec<String>)>) -> Certificates {
        Certificates::new(all.into_iter().map(|(key, names)| Entry { names, key: Some(key) }).collect())
    }

    #[test]
    fn a_name_whose_certificate_is_still_to_be_issued_gets_no_other() {
        let (default, wildcard) = (key(), key());
        let hooks = "hooks.example.com".to_owned();
        let file =
            |names: &str, key: &Arc<CertifiedKey>| Entry { names: vec![names.into()], key: Some(Arc::clone(key)) };
        let awaited = Entry { names: vec![hooks.clone()], key: None };
        let without = Certificates::new(vec![file("a.example.org", &default), awaited.clone()]);
        for (name, lacks) in [(Some("Hooks.example.COM"), true), (Some("a.example.org"), false), (None, false)] {
            assert_eq!(without.lacks(name), lacks, "{name:?}");
        }
        let chosen = |certificates: &Certificates, name| certificates.choose(name, |_| true);
        assert!(chosen(&without, Some(&hooks)).is_none());
        let covered = Certificates::new(vec![awaited.clone(), file("*.example.com", &wildcard)]);
        assert!(!covered.lacks(Some(&hooks)), "a wildcard of a file has the name too");
        let alone = Certificates::new(vec![awaited]);
        assert!(alone.lacks(None) && alone.lacks(Some("other.example.net")), "there is no certificate at all");
        let issued = without.with(1, file(&hooks, &wildcard));
        assert!(!issued.lacks(Some(&hooks)));
        assert!(Arc::ptr_eq(&chosen(&issued, Some(&hooks)).unwrap(), &wildcard));
        // An older certificate without one of the names, until the new one is there.
        let more = || Entry { names: vec!["more.example.com".into()], key: None };
        let grown = Certificates::new(vec![file(&hooks, &default), more()]);
        assert!(grown.lacks(Some("more.example.com")) && !grown.lacks(Some(&hooks)));
        let both = Entry { names: vec![hooks.clone(), "more.example.com".into()], key: Some(Arc::clone(&wildcard)) };
        let renewed = grown.with(0, both);
        assert!(Arc::ptr_eq(&chosen(&renewed, Some("more.example.com")).unwrap(), &wildcard));
        assert_eq!(renewed.all.len(), 1);
    }

    #[test]
    fn names_choose_exact_before_wildcard_before_default() {
        let (default, exact, wildcard) = (key(), key(), key());
        let certificates = of(vec![
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
        let certificates = of(vec![(Arc::clone(&first), names()), (Arc::clone(&second), names())]);
        let by = |wanted: &Arc<CertifiedKey>| {
            let wanted = Arc::as_ptr(wanted);
            certificates.choose(Some("hooks.example.com"), |key| std::ptr::eq(key, wanted)).unwrap()
        };
        assert!(Arc::ptr_eq(&by(&second), &second));
        assert!(Arc::ptr_eq(&by(&first), &first));
        assert!(Arc::ptr_eq(&by(&key()), &first), "an unverifiable certificate is better than none");
    }

    #[test]
    fn a_verifiable_wildcard_is_better_than_an_unverifiable_exact_name() {
        let (default, exact, wildcard) = (key(), key(), key());
        let certificates = of(vec![
            (Arc::clone(&default), vec!["hooks.example.org".into()]),
            (Arc::clone(&exact), vec!["hooks.example.com".into()]),
            (Arc::clone(&wildcard), vec!["*.example.com".into()]),
        ]);
        let choose = |name: Option<&str>, wanted: &[&Arc<CertifiedKey>]| {
            let can = |key: &CertifiedKey| wanted.iter().any(|wanted| std::ptr::eq(key, Arc::as_ptr(wanted)));
            certificates.choose(name, can).unwrap()
        };
        let hooks = Some("hooks.example.com");
        assert!(Arc::ptr_eq(&choose(hooks, &[&default, &wildcard]), &wildcard));
        assert!(Arc::ptr_eq(&choose(hooks, &[&exact, &wildcard]), &exact));
        assert!(Arc::ptr_eq(&choose(hooks, &[&default]), &exact), "the right name is better than a verifiable key");
        assert!(Arc::ptr_eq(&choose(None, &[&wildcard]), &wildcard));
        assert!(Arc::ptr_eq(&choose(Some("unknown.example.net"), &[&exact]), &exact));
        assert!(Arc::ptr_eq(&choose(None, &[]), &default));
    }
}
