//! How often the parts of a chain are read, for the tests that bound it. Counts nothing outside of tests.
//!
//! A stranger chooses what a chain consists of. So no part of it may be read again for each profile, provider, name or path.

/// One way to read a part of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// A DER element, by `elements`.
    Element,
    /// A certificate, by webpki before it builds paths.
    Parsed,
    /// A certificate, by x509-parser.
    Understood,
    /// A byte of a name that is made comparable.
    Folded,
    /// An alternative name that is compared, or put into a table.
    Compared,
}

#[cfg(not(test))]
pub(super) const fn note(_: Reading, _: usize) {}

#[cfg(test)]
pub(super) use counted::{Effort, effort_of, note};

#[cfg(test)]
mod counted {
    use std::cell::Cell;

    use super::Reading;

    /// What was read, of each kind.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(in crate::identity) struct Effort {
        pub(in crate::identity) elements: usize,
        pub(in crate::identity) parsed: usize,
        pub(in crate::identity) understood: usize,
        pub(in crate::identity) folded: usize,
        pub(in crate::identity) compared: usize,
    }

    thread_local! {
        static EFFORT: Cell<Effort> = const { Cell::new(Effort { elements: 0, parsed: 0, understood: 0, folded: 0, compared: 0 }) };
    }

    pub(in crate::identity) fn note(reading: Reading, count: usize) {
        let mut effort = EFFORT.get();
        *match reading {
            Reading::Element => &mut effort.elements,
            Reading::Parsed => &mut effort.parsed,
            Reading::Understood => &mut effort.understood,
            Reading::Folded => &mut effort.folded,
            Reading::Compared => &mut effort.compared,
        } += count;
        EFFORT.set(effort);
    }

    /// What `act` reads on this thread.
    pub(in crate::identity) fn effort_of<T>(act: impl FnOnce() -> T) -> (T, Effort) {
        EFFORT.set(Effort::default());
        let result = act();
        (result, EFFORT.take())
    }
}
