//! Target `revocation_list`: a document in the place of a revocation list, as anyone on the path of a fetch can send it.

use std::sync::OnceLock;

use hookgate::config::parse_fetched;
use hookgate_core::identity::{ListSigner, Provenance, RevocationList, RevocationLists, RevocationScope};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// The committed list, and those who may have signed it.
fn known() -> &'static (RevocationList, Vec<ListSigner>) {
    static KNOWN: OnceLock<(RevocationList, Vec<ListSigner>)> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let list = parse_fetched(include_bytes!("../list.pem")).expect("the committed list is well-formed");
        let certificates = [include_bytes!("../certificates.pem").as_slice(), include_bytes!("../root.pem")];
        let certificates = certificates.into_iter().flat_map(CertificateDer::pem_slice_iter);
        let signers = certificates.filter_map(|certificate| ListSigner::of_certificate(&certificate.ok()?)).collect();
        (list, signers)
    })
}

/// Reads the document, and compares the list with the committed one. No other list than that may be found to be signed.
pub fn judge(input: &[u8]) {
    let (committed, signers) = known();
    let list = match parse_fetched(input) {
        Ok(list) => list,
        Err(error) => return assert!(error.len() < 1024 && !error.contains('\n'), "{error}"),
    };
    if list.provenance(signers) == Provenance::Signed {
        let contents = |list: &RevocationList| (list.issuer(), list.entries(), list.this_update(), list.next_update());
        assert_eq!(contents(&list), contents(committed), "a list that nobody signed");
    }
    assert!(!list.is_older_than(&list) && list.has_issuer_of(&list));
    let lists = |list: &RevocationList| RevocationLists::new(vec![list.clone()], RevocationScope::Chain);
    let again = RevocationList::from_der(list.der()).expect("it was read before");
    assert!(!lists(&again).may_revoke_more_than(&lists(&list)), "than itself");
}
