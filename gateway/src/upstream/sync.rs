//! The atomics of code that `tests/models` checks. That crate compiles the same files against types of a model checker.
//!
//! Owns the choice of those types, and nothing else.

pub(super) use std::sync::atomic;
