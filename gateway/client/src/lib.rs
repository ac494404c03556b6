//! The sender's side of hookgate. `probe` looks at a receiver as a sender would; `send` sends what a sender sends.
//!
//! Works against any receiver. Knows nothing of the daemon, and no sender by name: [`sender::Sender`] is filled from a preset by the
//! caller, which also chooses the cryptographic library. A stranger's server is at the other end, so everything that it sends is
//! bounded, and printed in printable ASCII only.

#![forbid(unsafe_code)]

pub mod attempt;
pub mod chain;
pub mod delivery;
pub mod exchange;
pub mod finding;
pub mod hello;
pub mod pki;
pub mod probe;
pub mod proof;
pub mod roots;
pub mod send;
pub mod sender;
pub mod suite;
pub mod target;
pub mod tls;
pub mod wrong;
