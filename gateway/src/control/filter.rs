//! The pre-filter of the running process: it starts before the listeners, reloads with the configuration, and is watched.
//!
//! Owns what a failure means (`required`), which changes need a restart, and what the log says about drops. Must not judge
//! packets, nor prevent the process from ending.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use anyhow::Context;

use super::admin::collect;
use super::admin::facts::FilterFacts;
use crate::cause::Cause;
use crate::config::{FilterSection, PIN_DIRECTORY};
use crate::metrics;
use hookgate_filter::numbers::SetNumbers;
use hookgate_filter::tables::Tables;
use hookgate_filter::{
    Address, Attached, Filter, InterfaceChange, Mode, Policy, PolicyError, Reason, Sample, Status, Verdict, pinned,
    unpin,
};

/// The most samples that are logged at once. Each CPU reports at most a few per second.
const SAMPLES_LOGGED: usize = 8;

/// The filter, if there is one.
#[derive(Default)]
pub(super) struct FilterKeeper {
    running: Option<Running>,
    /// The configuration asks for the filter and does not require it, and it could not start.
    unavailable: bool,
}

struct Running {
    filter: Filter,
    policy: Policy,
    /// Whether the process ends if an interface cannot be filtered.
    required: bool,
    /// The packets of each set in the policy that the metrics already count.
    published: BTreeMap<String, u64>,
}

/// Checks the section without the kernel.
///
/// # Errors
///
/// If the policy exceeds its limits.
pub(super) fn check(section: &FilterSection) -> anyhow::Result<()> {
    if section.policy.mode != Mode::Off {
        tables(&section.policy).context("[filter]")?;
    }
    Ok(())
}

/// The tables of the policy and the numbers of its sets, computed without the kernel.
///
/// # Errors
///
/// If the policy exceeds its limits.
pub(super) fn tables(policy: &Policy) -> Result<(Tables, SetNumbers), PolicyError> {
    let numbers = SetNumbers::default().after(&policy.sets)?;
    Ok((Tables::new(policy, &numbers)?, numbers))
}

impl FilterKeeper {
    /// Starts the filter of the section. If the mode is off and `pin` is set, removes the pinned filter.
    ///
    /// # Errors
    ///
    /// If the filter is required and cannot start, or if a pinned filter cannot be removed.
    pub(super) fn start(&mut self, section: &FilterSection) -> anyhow::Result<()> {
        match (section.policy.mode, &section.policy.pin) {
            (Mode::Off, Some(directory)) => {
                for path in unpin(directory)? {
                    tracing::info!(path = %path.display(), "removed a pinned filter because filter.mode is \"off\"");
                }
                return Ok(());
            }
            (_, None) => warn_of_pinned(&[]),
            (_, Some(_)) => warn_of_pinned(&section.policy.interfaces),
        }
        if section.policy.mode == Mode::Off {
            return Ok(());
        }
        match start(section.policy.clone()) {
            Ok(filter) => {
                let policy = section.policy.clone();
                self.running = Some(Running { filter, policy, required: section.required, published: BTreeMap::new() });
            }
            Err(error) if section.required => {
                return Err(error.context(
                    "the filter cannot start; with filter.required = false, hookgate starts without it and every packet gets in",
                ));
            }
            Err(error) => {
                tracing::warn!(reason = format!("{error:#}"), "serving without the filter: every packet gets in");
                self.unavailable = true;
            }
        }
        self.publish();
        Ok(())
    }

    /// Reloads the filter from the section.
    ///
    /// # Errors
    ///
    /// If the policy cannot take effect, or would shrink a set too far. The old policy then stays.
    pub(super) fn reload(&mut self, section: &FilterSection) -> anyhow::Result<()> {
        self.publish(); // the last counts of sets that leave now
        let Some(running) = &mut self.running else {
            if section.policy.mode != Mode::Off {
                tracing::warn!("[filter] is on but the filter does not run; restart hookgate to start it");
            }
            return Ok(());
        };
        // Switching the filter off must always be possible, whatever else changes.
        let next = match section.policy.mode {
            Mode::Off => Policy { mode: Mode::Off, ..running.policy.clone() },
            // The listeners keep their addresses until a restart, and so do the filtered destinations.
            Mode::Monitor | Mode::Enforce => {
                Policy { destinations: running.policy.destinations.clone(), ..section.policy.clone() }
            }
        };
        let changes = running.filter.reload(next.clone(), section.force_shrink).context("[filter]")?;
        if changes.writes > 0 || running.policy.mode != next.mode {
            tracing::info!(writes = changes.writes, mode = mode_label(next.mode), "filter reloaded");
        }
        let names = |policy: &Policy| policy.sets.iter().map(|set| set.name.clone()).collect::<Vec<_>>();
        let kept = names(&next);
        names(&running.policy)
            .iter()
            .filter(|name| !kept.contains(name))
            .for_each(|name| metrics::filter_set_gone(name));
        running.published.retain(|name, _| kept.contains(name));
        running.policy = next;
        running.required = section.required;
        Ok(())
    }

    /// What the status page shows.
    pub(super) fn facts(&self) -> FilterFacts {
        match &self.running {
            Some(running) => {
                let is_partial = running.filter.has_unfiltered_interface();
                let mode = if is_partial { "unavailable" } else { mode_label(running.policy.mode) };
                collect::filter(mode, running.filter.status().ok())
            }
            None => collect::filter(if self.unavailable { "unavailable" } else { "off" }, None),
        }
    }

    /// Whether the filter's maps, if there are any, can be read with the remaining privileges.
    pub(super) fn is_usable(&self) -> bool {
        self.running.as_ref().is_none_or(|running| running.filter.status().is_ok())
    }

    /// Publishes the counters, and logs samples of dropped packets.
    pub(super) fn attend(&mut self) {
        self.publish();
        let Some(running) = &mut self.running else { return };
        let samples = running.filter.samples();
        for sample in samples.iter().take(SAMPLES_LOGGED) {
            log(sample, running.filter.set_name(sample));
        }
    }

    /// Looks after interfaces that were deleted, or made again under their names.
    ///
    /// # Errors
    ///
    /// If the filter is required, and cannot be attached to an interface that was made again.
    pub(super) fn look_at_interfaces(&mut self) -> anyhow::Result<()> {
        let Some(running) = &mut self.running else { return Ok(()) };
        let changes = running.filter.look_at_interfaces()?;
        if changes.is_empty() {
            return Ok(());
        }
        let required = running.required;
        let outcomes: Vec<anyhow::Result<()>> =
            changes.into_iter().map(|change| log_change(change, required)).collect();
        self.publish();
        outcomes.into_iter().collect()
    }

    fn publish(&mut self) {
        let unfiltered = self.running.as_ref().is_some_and(|running| running.filter.has_unfiltered_interface());
        metrics::filter_unavailable(self.unavailable || unfiltered);
        let Some(running) = &mut self.running else { return };
        match running.filter.status() {
            Ok(status) => running.publish(&status),
            Err(error) => tracing::debug!(%error, "the filter's counters cannot be read"),
        }
    }

    /// Detaches the filter, unless it is pinned: to remove a pin needs privileges that were given up at start-up.
    pub(super) fn stop(self) {
        let Some(Running { filter, policy, .. }) = self.running else { return };
        if let Some(directory) = &policy.pin {
            let how = if policy.mode == Mode::Off { "lets everything pass" } else { "drops by its last ranges" };
            tracing::info!(directory = %directory.display(), how, "the filter stays");
            return;
        }
        if let Err(error) = filter.stop() {
            tracing::warn!(reason = format!("{:#}", anyhow::Error::from(error)), "the filter could not be detached");
        }
    }
}

impl Running {
    /// The kernel counts since a set joined, a metric since the process started. So each call adds the new packets only.
    fn publish(&mut self, status: &Status) {
        metrics::filter(status);
        for set in &status.sets {
            let published = self.published.insert(set.name.clone(), set.packets).unwrap_or(0);
            metrics::filter_set_packets(&set.name, set.packets.saturating_sub(published));
        }
    }
}

/// Warns of filters that an earlier process pinned and this one does not take over. They stay: they may belong to another
/// gateway.
fn warn_of_pinned(taken_over: &[String]) {
    for path in pinned(Path::new(PIN_DIRECTORY), taken_over) {
        tracing::warn!(
            path = %path.display(),
            "a pinned filter goes on dropping by its last ranges; remove the file, or set filter.pin to take the filter over"
        );
    }
}

fn start(policy: Policy) -> anyhow::Result<Filter> {
    if let Some(directory) = &policy.pin {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot create {} (filter.pin needs a bpffs there)", directory.display()))?;
    }
    let mode = policy.mode;
    let filter = Filter::start(policy)?;
    for attached in filter.status()?.attached {
        let note = attached.note.unwrap_or_default();
        let (interface, attach) = (attached.interface, attached.mode.label());
        tracing::info!(interface, attach, mode = mode_label(mode), note, "filter attached");
    }
    Ok(filter)
}

/// Logs a change of an interface.
///
/// # Errors
///
/// If the interface is not filtered, and has to be.
fn log_change(change: InterfaceChange, required: bool) -> anyhow::Result<()> {
    match change {
        InterfaceChange::Gone(Attached { interface, mode, .. }) => {
            metrics::filter_detached(&interface, mode);
            tracing::warn!(
                interface,
                "the interface is gone, and the filter with it; it is attached again if the interface returns"
            );
        }
        InterfaceChange::Attached(Attached { interface, mode, .. }) => {
            tracing::info!(interface, attach = mode.label(), "filter attached to an interface that was made again");
        }
        InterfaceChange::Unfiltered { interface, error } => {
            let error = anyhow::Error::from(error).context(format!(
                "the interface {interface} was made again, and the filter cannot be attached to it: restart hookgate"
            ));
            if required {
                return Err(error);
            }
            tracing::error!(interface, reason = format!("{error:#}"), "every packet from the interface gets in");
        }
    }
    Ok(())
}

/// `filter.mode` as written.
fn mode_label(mode: Mode) -> &'static str {
    match mode {
        Mode::Off => "off",
        Mode::Monitor => "monitor",
        Mode::Enforce => "enforce",
    }
}

fn log(sample: &Sample, set: Option<&str>) {
    let verdict = Verdict::ALL.into_iter().find(|verdict| *verdict as u8 == sample.verdict).map_or("", Verdict::label);
    let reason = Reason::ALL.into_iter().find(|reason| *reason as u8 == sample.reason).map_or("", Reason::label);
    let set = set.unwrap_or_default();
    let (source, port) = (address(sample.source), sample.destination_port);
    let cause = Cause::Stranger.label();
    tracing::info!(%source, port, verdict, reason, set, cause, "filter sample");
}

fn address(address: Address) -> IpAddr {
    IpAddr::from(address.to_bytes()).to_canonical()
}
