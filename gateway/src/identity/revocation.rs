//! Revocation lists.
/// Placeholder until written.
#[derive(Clone, Debug)]
pub struct RevocationLists;
