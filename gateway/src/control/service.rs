//! The service manager: systemd's notification protocol (sd_notify(3)). Without one, every call does nothing.

use rustix::time::{ClockId, clock_gettime};
use systemd::daemon::{STATE_READY, STATE_RELOADING, STATE_STATUS, STATE_STOPPING, notify};

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

/// The end has begun.
pub(super) fn stopping(status: &str) {
    send(&[(STATE_STOPPING, "1"), (STATE_STATUS, status)]);
}

fn send(state: &[(&str, &str)]) {
    if let Err(error) = notify(state.iter()) {
        tracing::warn!(%error, "the service manager was not told");
    }
}
