//! A sender that treats answers as PagerDuty documents: which it sends again, which it drops, and when it stops to send.
//!
//! Owns the queue of events. Must not send: a test passes in how.

use std::collections::VecDeque;

/// Dropped events in a row after which a subscription is disabled.
const DROPS_TO_DISABLE: usize = 3;

/// The events of one webhook subscription.
#[derive(Debug, Default)]
pub struct Subscription {
    queue: VecDeque<String>,
    delivered: Vec<String>,
    dropped: Vec<String>,
    drops_in_a_row: usize,
}

impl Subscription {
    /// Adds an event with this id, unless the subscription is disabled.
    pub fn event(&mut self, id: &str) {
        if !self.is_disabled() {
            self.queue.push_back(id.to_owned());
        }
    }

    /// Sends every event of the queue once, in order. `send` returns the status of the answer, or `None` if there was none. The first event
    /// that has to be sent again ends the attempt.
    pub fn attempt(&mut self, mut send: impl FnMut(&str) -> Option<u16>) {
        while let Some(id) = self.queue.pop_front() {
            match send(&id) {
                Some(200..=299) => {
                    self.drops_in_a_row = 0;
                    self.delivered.push(id);
                }
                // No answer, and the statuses that it retries for up to 48 hours.
                None | Some(429 | 500..=599) => {
                    self.queue.push_front(id);
                    return;
                }
                Some(_) => {
                    self.drops_in_a_row += 1;
                    self.dropped.push(id);
                    if self.is_disabled() {
                        self.queue.clear();
                    }
                }
            }
        }
    }

    /// Whether it sends no more.
    pub fn is_disabled(&self) -> bool {
        self.drops_in_a_row >= DROPS_TO_DISABLE
    }

    /// The events that wait for another attempt.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// The ids of the events that were accepted, in order.
    pub fn delivered(&self) -> &[String] {
        &self.delivered
    }

    /// The ids of the events that were lost.
    pub fn dropped(&self) -> &[String] {
        &self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_retries_a_5xx_and_drops_a_4xx() {
        let mut subscription = Subscription::default();
        ["a", "b", "c", "d", "e"].iter().for_each(|id| subscription.event(id));
        subscription.attempt(|id| if id == "a" { Some(200) } else { Some(503) });
        assert_eq!((subscription.delivered(), subscription.waiting()), (["a".to_owned()].as_slice(), 4));
        subscription.attempt(|_| None);
        assert_eq!(subscription.waiting(), 4);
        subscription.attempt(|_| Some(403));
        assert_eq!((subscription.dropped().len(), subscription.waiting()), (3, 0));
        assert!(subscription.is_disabled());
        subscription.event("f");
        assert_eq!(subscription.waiting(), 0);
    }
}
