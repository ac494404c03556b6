//! The `upstream` stage: handlers that answer, and those that don't.

mod answer;
mod failure;
mod load;
mod pool;
