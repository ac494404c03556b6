//! Who causes a log event.
//!
//! Owns the values of the field `cause`, by which the log bounds events per second (`control::log`). Must not log, nor know the bounds.

use hookgate_core::reject::{Blame, Reject};

/// The value of the field `cause` of a log event that a peer can bring about. An event of the data plane without this field counts as a
/// stranger's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A peer that has not proven a provider: it needs nothing but the port.
    Stranger,
    /// A peer whose certificate proves a provider.
    Sender,
    /// A handler that fails to answer a request of a proven sender.
    Handler,
    /// hookgate or its host: no descriptors, no memory, no keys of an issuer.
    Gateway,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 4] = [Self::Stranger, Self::Sender, Self::Handler, Self::Gateway];

    /// The cause of a refusal of a request whose peer has `proven` a provider, or has not. Whatever a stranger gets, the stranger
    /// causes it, whichever side has to act.
    pub fn of(reject: Reject, proven: bool) -> Self {
        match reject.row().blame {
            _ if !proven => Self::Stranger,
            Blame::Peer => Self::Sender,
            Blame::Handler => Self::Handler,
            Blame::Gateway => Self::Gateway,
        }
    }

    /// The value of the field, and of the metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Stranger => "stranger",
            Self::Sender => "sender",
            Self::Handler => "handler",
            Self::Gateway => "gateway",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_causes_every_refusal_that_it_gets() {
        for reject in Reject::ALL {
            assert_eq!(Cause::of(*reject, false), Cause::Stranger, "{reject:?}");
        }
    }

    #[test]
    fn a_refusal_of_a_proven_peer_is_caused_by_the_side_that_has_to_act() {
        assert_eq!(Cause::of(Reject::TokenExpired, true), Cause::Sender);
        assert_eq!(Cause::of(Reject::HandlerUnavailable, true), Cause::Handler);
        assert_eq!(Cause::of(Reject::KeysUnavailable, true), Cause::Gateway);
    }
}
