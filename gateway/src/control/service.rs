//! The service manager: systemd's notification protocol (sd_notify(3)). Without one, every call does nothing.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use systemd::daemon::{
    STATE_EXTEND_TIMEOUT_USEC, STATE_FDNAME, STATE_FDSTORE, STATE_FDSTOREREMOVE, STATE_READY, STATE_RELOADING,
    STATE_STATUS, STATE_STOPPING, STATE_WATCHDOG, notify, pid_notify_with_fds, watchdog_enabled,
};

/// Most descriptors that one message carries: SCM_MAX_FD of unix(7).
const DESCRIPTORS_PER_MESSAGE: usize = 253;

/// Start-up is complete, or a reload is; `status` is a line for `systemctl status`.
pub(super) fn ready(status: &str) {
    send(&[(STATE_READY, "1"), (STATE_STATUS, status)]);
}

/// A reload has begun. systemd compares the time stamp (microseconds of CLOCK_MONOTONIC) with its own.
pub(super) fn reloading() {
    let now = clock_gettime(ClockId::Monotonic);
    let microseconds = now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1000);
    send(&[(STATE_RELOADING, "1"), ("MONOTONIC_USEC", &microseconds.to_string())]);
}

/// The end has begun, and takes at most `limit`: the manager's own time-out is extended to that where it is shorter.
pub(super) fn stopping(status: &str, limit: Duration) {
    let limit = limit.as_micros().to_string();
    send(&[(STATE_STOPPING, "1"), (STATE_STATUS, status), (STATE_EXTEND_TIMEOUT_USEC, &limit)]);
}

/// How long the manager waits between two calls of [`alive`] before it takes us for dead; `None` where it does not watch.
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

/// Feeds the watchdog.
pub(super) fn alive() {
    send(&[(STATE_WATCHDOG, "1")]);
}

/// Has the manager keep `descriptors` under `name` beyond our end, and hand them over to the next process. Whether it does,
/// it does not say: it drops what its configuration (FileDescriptorStoreMax=) leaves no room for.
pub(super) fn store(name: &str, descriptors: &[BorrowedFd<'_>]) {
    for batch in descriptors.chunks(DESCRIPTORS_PER_MESSAGE) {
        let raw: Vec<RawFd> = batch.iter().map(AsRawFd::as_raw_fd).collect();
        let state = [(STATE_FDSTORE, "1"), (STATE_FDNAME, name)];
        report(pid_notify_with_fds(0, state.iter(), &raw));
    }
}

/// Has the manager close what it keeps under `name`.
pub(super) fn forget(name: &str) {
    send(&[(STATE_FDSTOREREMOVE, "1"), (STATE_FDNAME, name)]);
}

/// How many descriptors the manager keeps for us, where it says so (FDSTORE, since systemd 254).
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
