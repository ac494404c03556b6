//! The metrics of requests and refusals, and the handles of one worker for them.
//!
//! Owns their labels. Routes, providers and handlers are configured names, so the series are bounded: at most one for each route,
//! provider and status, or reason, of which only those exist that occurred. Counting allocates nothing once the handles exist.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};

use hookgate_core::reject::Reject;

use super::Label;
use super::table::{
    DUPLICATES, HANDLER_DURATION, REJECTIONS, REQUEST_BYTES, REQUEST_DURATION, REQUESTS, RESPONSE_BYTES,
};

/// The values of the labels of a request. `None` is the empty label.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestLabels<'a> {
    /// The name of its route.
    pub route: Option<&'a Label>,
    /// The one handler of that route; `None` if there are several.
    pub handler: Option<&'a Label>,
    /// The name of the provider that it is admitted as; of a refusal, also the one that it claims.
    pub provider: Option<&'a Label>,
}

/// The handles of one combination of route, provider and status.
#[derive(Clone)]
struct Handles {
    count: Counter,
    duration: Histogram,
    handler_duration: Histogram,
    bytes_in: Counter,
    bytes_out: Counter,
}

impl Handles {
    fn new(labels: RequestLabels<'_>, status: u16) -> Self {
        let text = |label: Option<&Label>| label.map(|label| label.to_string()).unwrap_or_default();
        let (route, provider) = (|| text(labels.route), || text(labels.provider));
        let handler = || labels.handler.map(|label| label.to_string());
        let handler_duration =
            handler().map(|handler| histogram!(HANDLER_DURATION, "handler" => handler, "route" => route()));
        Self {
            count: counter!(REQUESTS, "route" => route(), "provider" => provider(), "status" => status.to_string()),
            duration: histogram!(REQUEST_DURATION, "route" => route()),
            handler_duration: handler_duration.unwrap_or_else(Histogram::noop),
            bytes_in: counter!(REQUEST_BYTES, "route" => route(), "provider" => provider()),
            bytes_out: counter!(RESPONSE_BYTES, "route" => route(), "provider" => provider()),
        }
    }
}

/// The handles that were used last, found without hashing their labels.
struct Recent {
    route: Option<Label>,
    provider: Option<Label>,
    status: u16,
    handles: Handles,
}

/// The handles of one worker. Those with labels are looked up at first use and kept.
pub struct RequestMeters {
    empty: Label,
    rejections: Vec<Counter>,
    named_rejections: RefCell<HashMap<(Label, Label, Reject), Counter>>,
    duplicates: RefCell<HashMap<(Label, Label), Counter>>,
    requests: RefCell<HashMap<(Label, Label, u16), Handles>>,
    recent: RefCell<Option<Recent>>,
    /// By handler and route: of routes with several handlers.
    of_several: RefCell<HashMap<(Label, Label), Histogram>>,
}

impl Default for RequestMeters {
    fn default() -> Self {
        Self::new()
    }
}

impl RequestMeters {
    /// Looks up the counters of all reasons, so that each is there with 0.
    pub fn new() -> Self {
        Self {
            empty: Label::from(""),
            rejections: Reject::ALL.iter().map(|reject| rejection(*reject, "", "")).collect(),
            named_rejections: RefCell::default(),
            duplicates: RefCell::default(),
            requests: RefCell::default(),
            recent: RefCell::default(),
            of_several: RefCell::default(),
        }
    }

    /// Counts a refusal.
    pub fn rejected(&self, reject: Reject, labels: RequestLabels<'_>) {
        if labels.route.is_none() && labels.provider.is_none() {
            // `Reject::ALL` is in the order of the enum, so the discriminant is the index.
            self.rejections[reject as usize].increment(1);
            return;
        }
        let (route, provider) = self.shared(labels);
        let make = |key: &(Label, Label, Reject)| rejection(reject, &key.1, &key.0);
        let mut handles = self.named_rejections.borrow_mut();
        handles.entry((route, provider, reject)).or_insert_with_key(make).increment(1);
    }

    /// Counts a duplicate that is answered as configured.
    pub fn duplicate(&self, labels: RequestLabels<'_>) {
        let make =
            |key: &(Label, Label)| counter!(DUPLICATES, "route" => key.0.to_string(), "provider" => key.1.to_string());
        self.duplicates.borrow_mut().entry(self.shared(labels)).or_insert_with_key(make).increment(1);
    }

    /// Counts an answered request. `handler` is the time that its handler took, if it answered.
    pub fn answered(&self, labels: RequestLabels<'_>, status: u16, duration: Duration, handler: Option<Duration>) {
        self.with_handles(labels, status, |handles| {
            handles.count.increment(1);
            handles.duration.record(duration);
            if let Some(duration) = handler {
                handles.handler_duration.record(duration);
            }
        });
    }

    /// Counts the time of one of the several handlers of this route.
    pub fn answered_by(&self, handler: &Label, route: &Label, duration: Duration) {
        let make = |key: &(Label, Label)| histogram!(HANDLER_DURATION, "handler" => key.0.to_string(), "route" => key.1.to_string());
        let key = (Arc::clone(handler), Arc::clone(route));
        self.of_several.borrow_mut().entry(key).or_insert_with_key(make).record(duration);
    }

    /// Counts the bytes of the bodies of a request and of its answer.
    pub fn moved(&self, labels: RequestLabels<'_>, status: u16, (bytes_in, bytes_out): (u64, u64)) {
        self.with_handles(labels, status, |handles| {
            handles.bytes_in.increment(bytes_in);
            handles.bytes_out.increment(bytes_out);
        });
    }

    fn with_handles(&self, labels: RequestLabels<'_>, status: u16, count: impl FnOnce(&Handles)) {
        let same = |known: Option<&Label>, asked: Option<&Label>| match (known, asked) {
            (Some(known), Some(asked)) => Arc::ptr_eq(known, asked),
            (known, asked) => known.is_none() && asked.is_none(),
        };
        let mut recent = self.recent.borrow_mut();
        let is_recent = |known: &&Recent| {
            known.status == status
                && same(known.route.as_ref(), labels.route)
                && same(known.provider.as_ref(), labels.provider)
        };
        if let Some(known) = recent.as_ref().filter(is_recent) {
            return count(&known.handles);
        }
        let (route, provider) = self.shared(labels);
        let mut requests = self.requests.borrow_mut();
        let handles = requests.entry((route, provider, status)).or_insert_with(|| Handles::new(labels, status)).clone();
        count(&handles);
        let (route, provider) = (labels.route.cloned(), labels.provider.cloned());
        *recent = Some(Recent { route, provider, status, handles });
    }

    fn shared(&self, labels: RequestLabels<'_>) -> (Label, Label) {
        let shared = |label: Option<&Label>| Arc::clone(label.unwrap_or(&self.empty));
        (shared(labels.route), shared(labels.provider))
    }
}

fn rejection(reject: Reject, provider: &str, route: &str) -> Counter {
    let row = reject.row();
    let (provider, route) = (provider.to_owned(), route.to_owned());
    counter!(REJECTIONS, "reason" => row.reason, "blame" => row.blame.label(), "provider" => provider, "route" => route)
}
