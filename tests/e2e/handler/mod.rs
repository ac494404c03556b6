//! The `upstream` stage: handlers that answer, and handlers that fail.

mod answer;
mod death;
mod early;
mod failure;
mod framing;
mod list;
mod load;
mod places;
mod pool;
mod port;
mod slow_reader;
