//! The exposition of the metrics: what a scrape gets, and the page that serves it.
//!
//! Owns the recorder. Must not know what the metrics are: [`crate::metrics`] does.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::http::request::Parts;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::time::{MissedTickBehavior, interval};

use super::endpoint::{Answer, Paced, Pages, answer, method_refused, plain};
use crate::metrics;
use crate::metrics::process::Process;
use crate::metrics::retirement::Retirement;

/// Interval at which recorded durations are added up in histograms. Until then each takes memory of its own.
const HISTOGRAM_INTERVAL: Duration = Duration::from_secs(5);

/// Least time between two renderings, so that a flood of requests costs the control thread at most 100 renderings a second.
const RENDER_INTERVAL: Duration = Duration::from_millis(10);

/// Where the metrics are.
pub(super) const PATH: &str = "/metrics";

/// The text format of Prometheus, version 0.0.4.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The installed recorder.
pub(super) struct Exposition {
    recorder: PrometheusHandle,
    retirement: Arc<Mutex<Retirement>>,
    process: Process,
    paced: Paced<Bytes>,
}

/// How many requests and refusals were counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Totals {
    pub(super) requests: f64,
    pub(super) refusals: f64,
}

impl Exposition {
    /// Installs the recorder, and starts to add up its histograms. Call it inside the runtime of the control thread.
    ///
    /// # Errors
    ///
    /// If there is a recorder already.
    pub(super) fn install(retirement: &Arc<Mutex<Retirement>>) -> anyhow::Result<Arc<Self>> {
        let recorder = PrometheusBuilder::new().set_buckets(&metrics::DURATION_BUCKETS)?.build_recorder();
        let (handle, kept) = (recorder.handle(), recorder.handle());
        ::metrics::set_global_recorder(recorder).context("cannot install the metrics recorder")?;
        metrics::describe();
        tokio::spawn(async move {
            let mut due = interval(HISTOGRAM_INTERVAL);
            due.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                due.tick().await;
                kept.run_upkeep();
            }
        });
        let (retirement, process) = (Arc::clone(retirement), Process::begin());
        Ok(Arc::new(Self { recorder: handle, retirement, process, paced: Paced::new(RENDER_INTERVAL) }))
    }

    /// One whose recorder nothing counts on: a process has one for all.
    #[cfg(test)]
    pub(super) fn without_recorder() -> Arc<Self> {
        let recorder = PrometheusBuilder::new().build_recorder().handle();
        let (retirement, process) = (Arc::default(), Process::begin());
        Arc::new(Self { recorder, retirement, process, paced: Paced::new(RENDER_INTERVAL) })
    }

    /// What a scrape gets, not older than the call.
    pub(super) async fn current(&self) -> Bytes {
        self.paced.current(async || Bytes::from(self.render())).await
    }

    fn render(&self) -> String {
        let rendered = self.recorder.render();
        let retirement = self.retirement.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = retirement.without_gone(&rendered, Instant::now());
        drop(retirement);
        self.process.render(&mut text);
        text
    }

    /// What was counted so far. Renders all metrics, so call it seldom.
    pub(super) fn totals(&self) -> Totals {
        totals(&self.recorder.render())
    }

    /// The answer of `/metrics`.
    pub(super) async fn page(&self) -> Answer {
        answer(StatusCode::OK, TEXT_FORMAT, self.current().await)
    }
}

fn totals(text: &str) -> Totals {
    let sum = |name: &str| {
        let samples = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
        samples.filter_map(|sample| sample.rsplit_once("} ")?.1.parse::<f64>().ok()).sum()
    };
    Totals { requests: sum("hookgate_requests_total"), refusals: sum("hookgate_rejections_total") }
}

/// The page of `[metrics]`: `/metrics` alone.
pub(super) struct MetricsPage(pub(super) Arc<Exposition>);

impl Pages for MetricsPage {
    async fn answer(&self, request: Parts) -> Answer {
        if request.uri.path() != PATH {
            return plain(StatusCode::NOT_FOUND, "only /metrics is here\n");
        }
        match method_refused(&request.method) {
            Some(refused) => refused,
            None => self.0.page().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_sums_over_all_series() {
        let text = "# TYPE hookgate_requests_total counter\nhookgate_requests_total{route=\"a} 7\",status=\"200\"} 3\n\
                    hookgate_requests_total{route=\"\",status=\"403\"} 4\nhookgate_requests_total_other{a=\"b\"} 9\n\
                    hookgate_rejections_total{reason=\"x\"} 4\nhookgate_request_duration_seconds_count 7\n";
        assert_eq!(totals(text), Totals { requests: 7.0, refusals: 4.0 });
        assert_eq!(totals(""), Totals::default());
    }
}
