//! The problems of `[[route]]`, as a closed list with their messages.
//!
//! Owns these messages. Must not decide: the sections find the problems.

/// An error about a route. The message says what to write instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RouteProblem {
    /// `max_in_flight` of two routes of one name.
    #[error("another route is called \"{name}\" too, and max_in_flight counts by the name; write name = \"…\" for each")]
    SharedName {
        /// The name.
        name: String,
    },
}
