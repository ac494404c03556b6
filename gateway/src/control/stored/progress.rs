//! How far a command about many deliveries is, on standard error.
//!
//! Owns what is drawn. Nothing is drawn if standard error is no terminal, and what was drawn is gone when the command prints its result.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How often the time of a question is drawn anew.
const TICK: Duration = Duration::from_millis(100);

/// What is drawn, until it is dropped.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Nothing.
    pub(super) fn hidden() -> Self {
        Self(ProgressBar::hidden())
    }

    /// How many deliveries were listed so far; how many there are is known at the end.
    pub(super) fn listing() -> Self {
        Self::drawn(ProgressBar::no_length(), "{spinner} {human_pos} deliveries listed")
    }

    /// How many of these were exported.
    pub(super) fn exporting(count: usize) -> Self {
        let template = "{bar:30} {human_pos}/{human_len} deliveries, {eta} left";
        Self::drawn(ProgressBar::new(u64::try_from(count).unwrap_or(u64::MAX)), template)
    }

    /// How long the daemon works on one change of many deliveries.
    pub(super) fn changing() -> Self {
        let progress = Self::drawn(ProgressBar::no_length(), "{spinner} waiting for hookgate, {elapsed}");
        progress.0.enable_steady_tick(TICK);
        progress
    }

    /// There is one more.
    pub(super) fn advance(&self) {
        self.0.inc(1);
    }

    fn drawn(bar: ProgressBar, template: &str) -> Self {
        match ProgressStyle::with_template(template) {
            Ok(style) => Self(bar.with_style(style)),
            Err(_) => Self(bar),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
