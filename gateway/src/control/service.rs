//! The service manager: systemd's notification protocol (sd_notify(3)) and file descriptor store.
//!
//! Owns the messages. Must not decide when to send them. Without a service manager, every call does nothing.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use systemd::daemon::{
    STATE_EXTEND_TIMEOUT_USEC, STATE_FDNAME, STATE_FDSTORE, STATE_FDSTOREREMOVE, STATE_READY, STATE_RELOADING,
    STATE_STATUS, STATE_STOPPING, STATE_WATCHDOG, notify, pid_notify_with_fds, watchdog_enabled,
};

/// Most descriptors in one message: SCM_MAX_FD of unix(7).
const DESCRIPTORS_PER_MESSAGE: usize = 253;

/// Reports that start-up or a reload is complete. `status` is the line for `systemctl status`.
pub(super) fn ready(status: &str) {
    send(&[(STATE_READY, "1"), (STATE_STATUS, status)]);
}

/// Changes the line for `systemctl status`.
pub(super) fn status(status: &str) {
    send(&[(STATE_STATUS, status)]);
}

/// Reports that a reload has begun. systemd compares the time stamp (microseconds of CLOCK_MONOTONIC) with its own.
pub(super) fn reloading() {
    let now = clock_gettime(ClockId::Monotonic);
    let microseconds = now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1000);
    send(&[(STATE_RELOADING, "1"), ("MONOTONIC_USEC", &microseconds.to_string())]);
}

/// Reports that the end has begun and takes at most `limit`. The service manager extends its own time-out if that is shorter.
pub(super) fn stopping(status: &str, limit: Duration) {
    let limit = limit.as_micros().to_string();
    send(&[(STATE_STOPPING, "1"), (STATE_STATUS, status), (STATE_EXTEND_TIMEOUT_USEC, &limit)]);
}

/// The longest time between two calls of [`alive`] before the service manager ends the process; `None` if it does not watch.
pub(super) fn watchdog_interval() -> Option<Duration> {
    match watchdog_enabled() {
        Ok(0) => None,
        Ok(microseconds) => Some(Duration::from_micros(microseconds)),
        Err(error) => {
            tracing::warn!(%error, "WATCHDOG_USEC or WATCHDOG_PID is invalid; not feeding the watchdog");
            None
        }
    }
}

/// Reports that the process is alive.
pub(super) fn alive() {
    send(&[(STATE_WATCHDOG, "1")]);
}

/// Asks the service manager to keep `descriptors` under `name` after the end of this process, and to hand them over to the next one. It
/// drops descriptors beyond its limit (FileDescriptorStoreMax=) without an answer.
pub(super) fn store(name: &str, descriptors: &[BorrowedFd<'_>]) {
    for batch in descriptors.chunks(DESCRIPTORS_PER_MESSAGE) {
        let raw: Vec<RawFd> = batch.iter().map(AsRawFd::as_raw_fd).collect();
        let state = [(STATE_FDSTORE, "1"), (STATE_FDNAME, name)];
        report(pid_notify_with_fds(0, state.iter(), &raw));
    }
}

/// Asks the service manager to close the descriptors that it keeps under `name`.
pub(super) fn forget(name: &str) {
    send(&[(STATE_FDSTOREREMOVE, "1"), (STATE_FDNAME, name)]);
}

/// How many descriptors the service manager keeps at most (FDSTORE); `None` before systemd 254, which does not tell.
pub(super) fn store_capacity() -> Option<usize> {
    std::env::var("FDSTORE").ok()?.parse().ok()
}

fn send(state: &[(&str, &str)]) {
    report(notify(state.iter()));
}

fn report(outcome: systemd::Result<bool>) {
    if let Err(error) = outcome {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}
