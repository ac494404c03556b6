//! Whether the process lives and is ready, as `/healthz` and `/readyz` tell.
//!
//! The control loop writes, and the pages read without asking it. Must not decide anything.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// What the process does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::control) enum Phase {
    /// It loads the configuration and opens the listeners.
    #[default]
    Starting,
    /// The listeners are open.
    Serving,
    /// It accepts no connections, and ends.
    Draining,
}

impl Phase {
    /// As the pages name it.
    pub(in crate::control) fn label(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Draining => "draining",
        }
    }
}

/// The state of the process.
#[derive(Debug, Default)]
pub(in crate::control) struct Health {
    phase: AtomicU8,
    /// Workers that show no life.
    stalled: AtomicUsize,
}

impl Health {
    /// Enters a phase.
    pub(in crate::control) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// What the process does.
    pub(in crate::control) fn phase(&self) -> Phase {
        let number = self.phase.load(Ordering::Relaxed);
        [Phase::Serving, Phase::Draining].into_iter().find(|phase| *phase as u8 == number).unwrap_or_default()
    }

    /// So many workers show no life.
    pub(in crate::control) fn note_stalled(&self, workers: usize) {
        self.stalled.store(workers, Ordering::Relaxed);
    }

    /// Whether every worker shows life.
    pub(in crate::control) fn is_live(&self) -> bool {
        self.stalled.load(Ordering::Relaxed) == 0
    }
}
