//! The cases of the micro-benchmarks: small parts of the gateway with their set-up, to be repeated.
//!
//! Owns what is measured. A case checks that it does what its name says, and panics otherwise. Must not measure: `benches/time.rs`
//! measures time, `hookgate-count` is for counting instructions, and both repeat the same functions.

#![expect(clippy::panic, reason = "a case that does not do what its name says must not be measured")]

mod chain;
mod filter;
mod request;

/// A measurement, which repeats a case.
pub trait Repeat {
    /// Calls `operation` any number of times, and before that `prepare` at least as often. Measures only `operation`.
    fn repeat(&mut self, prepare: &mut dyn FnMut(), operation: &mut dyn FnMut());
}

/// One case: a part of the gateway.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// A short name, for command lines and for the baseline.
    pub name: &'static str,
    /// Repetitions when instructions are counted: enough that one instruction is less than a thousandth of the count.
    pub iterations: u32,
    /// Whether most of its instructions are in ring, whose code depends on the features of the processor.
    pub crypto: bool,
    /// Sets the case up, and repeats it.
    pub present: fn(&mut dyn Repeat),
}

/// All cases, in the order in which a request passes them.
pub const ALL: [Case; 17] = [
    Case { name: "filter-allowed-ipv4", iterations: 1000, crypto: false, present: filter::allowed_ipv4 },
    Case { name: "filter-foreign-ipv4", iterations: 1000, crypto: false, present: filter::foreign_ipv4 },
    Case { name: "filter-allowed-ipv6", iterations: 1000, crypto: false, present: filter::allowed_ipv6 },
    Case { name: "filter-foreign-ipv6", iterations: 1000, crypto: false, present: filter::foreign_ipv6 },
    Case { name: "filter-other-port", iterations: 1000, crypto: false, present: filter::other_port },
    Case { name: "chain-cold", iterations: 4, crypto: true, present: chain::cold },
    Case { name: "chain-warm", iterations: 100, crypto: true, present: chain::warm },
    Case { name: "end-entity-read", iterations: 100, crypto: false, present: chain::end_entity_read },
    Case { name: "identity-subject-cn", iterations: 1000, crypto: false, present: chain::identity_subject_cn },
    Case { name: "identity-subject", iterations: 1000, crypto: false, present: chain::identity_subject },
    Case { name: "identity-san-dns", iterations: 1000, crypto: false, present: chain::identity_san_dns },
    Case { name: "identity-several", iterations: 1000, crypto: false, present: chain::identity_several },
    Case { name: "route-found", iterations: 1000, crypto: false, present: request::route_found },
    Case { name: "signature-2k", iterations: 100, crypto: true, present: request::signature_2k },
    Case { name: "headers-for-handler", iterations: 250, crypto: false, present: request::headers_for_handler },
    Case { name: "log-answered", iterations: 250, crypto: false, present: request::log_answered },
    Case { name: "problem-response", iterations: 250, crypto: false, present: request::problem_response },
];

/// The case with this name.
pub fn find(name: &str) -> Option<Case> {
    ALL.into_iter().find(|case| case.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{ALL, Repeat};

    /// Repeats three times.
    struct ThreeTimes;

    impl Repeat for ThreeTimes {
        fn repeat(&mut self, prepare: &mut dyn FnMut(), operation: &mut dyn FnMut()) {
            (0..3).for_each(|_| prepare());
            (0..3).for_each(|_| operation());
        }
    }

    #[test]
    fn every_case_does_what_its_name_says() {
        ALL.iter().for_each(|case| (case.present)(&mut ThreeTimes));
    }

    #[test]
    fn names_are_unique() {
        assert_eq!(ALL.iter().map(|case| case.name).collect::<BTreeSet<_>>().len(), ALL.len());
    }
}
