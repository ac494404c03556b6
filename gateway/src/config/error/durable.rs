//! The problems of `delivery` and `durable`, as a closed list with their messages.
//!
//! Owns these messages. Must not decide: the sections find the problems.

/// An error about durable delivery. The message says what to write instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DurableProblem {
    /// `durable` of a route that is not.
    #[error("nothing uses this key without delivery = \"durable\"; write that too, or remove the key")]
    NotDurable,
    /// A method whose sender waits for what the handler says.
    #[error(
        "the route takes {method}, whose sender waits for the handler's answer; write a route of its own for {method}, with delivery = \"direct\""
    )]
    SafeMethod {
        /// The method.
        method: String,
    },
    /// The file names no state directory. That of the service manager does not do: `hookgate deliveries` would not know it.
    #[error(
        "durable deliveries are stored in the state directory, which the file must name, so that every command finds it; write [state] with \
         directory = \"/var/lib/hookgate\""
    )]
    NoDirectory,
    /// `deliveries = "memory"`.
    #[error(
        "durable deliveries are stored in the database of [state], and deliveries = \"memory\" has none; write deliveries = \"disk\""
    )]
    InMemory,
    /// Not an order.
    #[error(
        "{reason}; write \"none\", a JSON pointer into the body such as \"/data/id\", or the name of a field such as \"x-account-id\""
    )]
    OrderBy {
        /// What is wrong.
        reason: String,
    },
    /// The bound of a direct route.
    #[error("a durable route has its bound in durable: write durable.max_in_flight instead of this key")]
    MaxInFlight,
    /// Two routes of one name.
    #[error(
        "another route is called \"{name}\" too, and stored deliveries belong to a route by its name; write name = \"…\" for each"
    )]
    SharedName {
        /// The name.
        name: String,
    },
}
