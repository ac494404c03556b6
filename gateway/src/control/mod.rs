//! The control plane: start-up, and everything beside the path of a request.
//!
//! Owns the subcommands, reload, signals, the metrics endpoint, the admin side, the service manager, the watchdog, and the tasks that fetch what is
//! published: token keys, lists of ranges, revocation lists; and those that ask authorities for certificates. Must not handle peers' connections: workers do. Workers never wait for this room, except a request whose token names an
//! unknown key (3 seconds at most).
//!
//! # Start-up
//!
//! [`run`](run::run) takes these steps on the main thread. An error in any of them ends the process with exit code 1.
//!
//! 1. Exclude the memory of the process from core dumps (`confine`), because the next step reads secrets.
//! 2. Read the configuration and every file that it names ([`crate::config`]).
//! 3. Start the log and its thread, as the configuration says (`log`). Raise the limit on open files (`descriptors`).
//! 4. Install the signal handlers.
//! 5. Bind the metrics endpoint and the admin side (`sides`).
//! 6. Choose the I/O backend, open the state directory ([`crate::state`]), and bind the control socket in it (`inquiry`).
//! 7. Attach the pre-filter (`filter`), so that no foreign packet reaches an open port.
//! 8. Bound the connections of peers by the descriptors that are left (`descriptors`). Build the first [`Snapshot`](crate::snapshot::Snapshot) (`reload`), and start the tasks that fetch what it names (`published`).
//! 9. Take over the listening sockets from the service manager, or bind them (`sockets`).
//! 10. Give up all privileges (`confine`). No byte from a peer has been read so far.
//!     Start the thread that writes deliveries (`deliveries`).
//! 11. Wait for the lists of which there is no copy, at most 12 seconds (`published`).
//! 12. Start the workers, and wait for the first round of each, at most 5 seconds.
//!     Start the dispatcher, if a route is durable or something is stored ([`crate::dispatch`]); otherwise a reload does.
//! 13. Tell the service manager that start-up is complete (`service`).
//!
//! # The control thread
//!
//! After start-up, the main thread is the control thread. It runs a single-threaded tokio runtime with one loop (`run`), the metrics
//! endpoint and the admin side (`endpoint`), and one task for each source of what is published. The loop
//!
//! - ends the process on SIGTERM or SIGINT, and reloads on SIGHUP;
//! - checks every 250 ms or less whether each worker lives, and feeds the watchdog (`watchdog`);
//! - answers what the admin side asks (`admin`);
//! - puts lists in force that were fetched (`published`, `ranges`, `revocation`), and certificates that were issued (`acme`);
//! - checks every second whether configured files have changed, with `reload = "watch"` (`watch`);
//! - every 250 ms: publishes metrics, samples the last hour (`admin`), logs rotation warnings (`rotation`), keeps refused chains that may be genuine (`pending`), fetches the revocation lists that chains lacked (`revocation`), reads the pre-filter's counters (`filter`), reports lost
//!   log events (`log`), and checks that no worker has ended.
//!
//! A reload runs in this loop: it reads the files, builds a new snapshot, and publishes it with one pointer swap. If a step fails,
//! the old snapshot stays.
#![expect(clippy::disallowed_methods, reason = "the control thread runs tokio's runtime, with its timers")]

mod acme;
mod admin;
pub mod check;
mod confine;
mod deliveries;
mod descriptors;
mod endpoint;
pub mod explain;
mod exposition;
pub mod fetch;
pub mod fetcher;
mod filter;
pub mod filter_status;
mod fleet;
mod handler_ports;
mod inquiry;
mod keys;
pub mod log;
mod pending;
pub mod providers;
mod public_roots;
mod published;
mod ranges;
mod reload;
mod revocation;
mod rotation;
pub mod run;
mod service;
mod sides;
mod sockets;
mod status;
pub mod stored;
pub(crate) mod sunset;
pub mod trust;
mod watch;
mod watchdog;
