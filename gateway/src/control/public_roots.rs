//! The roots that this host trusts for servers of the web, as evidence that a refused chain may be genuine.
//!
//! Owns where they come from. Must not make them trust anchors: no peer is admitted by them.

use std::sync::{Arc, OnceLock};

use hookgate_core::identity::PublicRoots;

/// The roots, read once in the life of the process: a host changes them with its packages. `SSL_CERT_FILE` and `SSL_CERT_DIR` name others.
pub(super) fn public_roots() -> Arc<PublicRoots> {
    static ROOTS: OnceLock<Arc<PublicRoots>> = OnceLock::new();
    let read = || {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::debug!(%error, "a public root of this host cannot be read");
        }
        let roots = PublicRoots::new(found.certs);
        if roots.is_empty() {
            tracing::info!(
                "this host has no public roots, so none vouches for a chain that is refused; install ca-certificates"
            );
        }
        Arc::new(roots)
    };
    Arc::clone(ROOTS.get_or_init(read))
}
