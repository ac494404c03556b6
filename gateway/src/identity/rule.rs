//! Identity rules.
/// Placeholder until written.
#[derive(Clone, Debug)]
pub struct IdentityRule;
