//! The `upstream` stage: handlers that answer, and handlers that fail.

mod answer;
mod failure;
mod load;
mod pool;
