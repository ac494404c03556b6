//! The policy as a whole, with certificates made for the purpose.
