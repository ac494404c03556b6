//! The handshake itself: versions, suites, names, certificates, tickets, and peers that do it wrong.
