//! Questions of `hookgate deliveries`, to wherever deliveries are stored: the disk of this host, and the servers of a fleet.
//!
//! Owns how two answers become one. Must not read or change a delivery itself.

use std::sync::Arc;

use crate::deliveries::{Answer, Command, DeliveryStore, Filter, PAGE, Selection};
use crate::fleet::Fleet;

/// Where deliveries are stored.
#[derive(Clone, Default)]
pub(in crate::control) struct Stored {
    /// On the disk of this host.
    pub(in crate::control) disk: Option<Arc<DeliveryStore>>,
    /// On the servers of a fleet, for all hosts.
    pub(in crate::control) fleet: Option<Arc<Fleet>>,
}

impl Stored {
    /// The answer to a command.
    pub(super) async fn ask(&self, command: Command) -> Answer {
        let fleet = self.fleet.as_ref().filter(|fleet| fleet.has_spool());
        match (&self.disk, fleet) {
            (Some(disk), None) => disk.ask(command).await,
            (None, Some(fleet)) => fleet.ask_stored(command).await,
            // A pause is one of all hosts. One that this host has from before ends with it.
            (Some(_), Some(fleet)) if matches!(command, Command::Pause { .. }) => fleet.ask_stored(command).await,
            (Some(disk), Some(fleet)) => ask_both(disk, fleet, command).await,
            (None, None) => {
                let text = "this daemon stores no deliveries: it has no state directory, or deliveries = \"memory\"";
                Answer::Error(text.to_owned())
            }
        }
    }
}

/// The numbers of what the servers have are beyond those of rows, so a list of the disk comes first.
async fn ask_both(disk: &DeliveryStore, fleet: &Fleet, command: Command) -> Answer {
    let of_disk = disk.ask(command.clone()).await;
    match (command, of_disk) {
        (Command::List(filter), Answer::Deliveries(listed)) => {
            let room = PAGE as usize - listed.len().min(PAGE as usize);
            if room == 0 {
                return Answer::Deliveries(listed);
            }
            let filter = Filter { after: filter.after.max(0), ..filter };
            match fleet.ask_stored(Command::List(filter)).await {
                Answer::Deliveries(more) => {
                    Answer::Deliveries(listed.into_iter().chain(more.into_iter().take(room)).collect())
                }
                // What is here is better than nothing.
                _ if !listed.is_empty() => Answer::Deliveries(listed),
                other => other,
            }
        }
        // One of both has it.
        (
            Command::Show { .. } | Command::Drop { .. } | Command::Retry(Selection::Id(_)),
            found @ (Answer::Delivery(_) | Answer::Changed(_)),
        ) => found,
        // Both are told of the end of a pause, which is one change.
        (command @ Command::Resume { .. }, Answer::Changed(one)) => match fleet.ask_stored(command).await {
            Answer::Changed(other) => Answer::Changed(one.max(other)),
            other => other,
        },
        (command, Answer::Changed(one)) => match fleet.ask_stored(command).await {
            Answer::Changed(other) => Answer::Changed(one + other),
            _ if one > 0 => Answer::Changed(one),
            other => other,
        },
        (command, _) => fleet.ask_stored(command).await,
    }
}
