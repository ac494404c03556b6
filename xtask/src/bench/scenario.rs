//! The scenarios: the load for every server, what is compared, and hookgate's targets.

use serde::Serialize;

use super::protocol::{Sender, Transport, Unit};

/// One row of the report.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    /// A short name for the command line and for JSON.
    pub(crate) name: &'static str,
    /// For the report.
    pub(crate) title: &'static str,
    /// The protocol of the connection; the null proxy gets no TLS.
    pub(crate) transport: Transport,
    /// Which clients connect.
    pub(crate) sender: Sender,
    /// The unit that is counted.
    pub(crate) unit: Unit,
    /// Bytes of each request body.
    pub(crate) body_bytes: usize,
    /// Simultaneous connections.
    pub(crate) connections: usize,
    /// The rate of the load.
    pub(crate) pace: Pace,
    /// The number that is compared.
    pub(crate) metric: Metric,
    /// Compares each server with and without this, instead of hookgate with the best peer.
    pub(crate) addition: Option<Addition>,
    /// The highest ratio that reaches the target: hookgate ÷ best peer, or with ÷ without.
    pub(crate) target: Option<f64>,
    /// Whether `--quick` includes it.
    pub(crate) quick: bool,
}

/// What a server does beside its job in some scenarios.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) enum Addition {
    /// Checks revocation lists.
    RevocationLists,
    /// Writes a line for each request to a file.
    AccessLog,
    /// Stores each request before it is answered, and hands it over later. Without a scenario: `durable` measures it.
    Durable,
}

impl Addition {
    /// Every one.
    pub(crate) const ALL: [Self; 3] = [Self::RevocationLists, Self::AccessLog, Self::Durable];

    /// Its name beside that of a server.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::RevocationLists => "list",
            Self::AccessLog => "log",
            Self::Durable => "store",
        }
    }

    /// The name of a server with this.
    pub(crate) fn beside(addition: Option<Self>, server: &str) -> String {
        addition.map_or_else(|| server.to_owned(), |addition| format!("{server} + {}", addition.name()))
    }
}

/// The rate of the load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    /// The next unit follows the answer to the last one.
    Saturated,
    /// A Poisson process at this part of what the best peer reached in [`SATURATION`].
    Part(f64),
}

/// The number that is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Metric {
    /// CPU time of the server for one unit.
    Cpu,
    /// The 99th percentile of latency.
    Latency99,
}

/// The scenario whose throughput defines [`Pace::Part`].
pub(crate) const SATURATION: &str = "keep-alive-64";

/// A full TLS 1.3 handshake of a returning client. Others are defined by their difference.
const BASE: Scenario = Scenario {
    name: "handshake-returning",
    title: "Full handshake, TLS 1.3, returning client",
    transport: Transport::Tls13,
    sender: Sender::Returning,
    unit: Unit::Connection,
    body_bytes: 0,
    connections: 16,
    pace: Pace::Saturated,
    metric: Metric::Cpu,
    addition: None,
    target: Some(0.48),
    quick: true,
};

/// Requests on kept connections. Others are defined by their difference.
const KEEP_ALIVE: Scenario = Scenario {
    name: SATURATION,
    title: "Keep-alive, 64 connections, 1 KiB POST",
    unit: Unit::Request,
    body_bytes: 1024,
    connections: 64,
    target: Some(0.65),
    ..BASE
};

/// Every scenario, in the order of the report. [`SATURATION`] precedes those that depend on it.
pub(crate) const ALL: [Scenario; 16] = [
    BASE,
    Scenario {
        name: "handshake-distinct",
        title: "Full handshake, TLS 1.3, every client new",
        sender: Sender::Distinct,
        target: Some(0.70),
        ..BASE
    },
    Scenario {
        name: "handshake-resumed",
        title: "Resumed handshake, TLS 1.3",
        sender: Sender::Resuming,
        target: Some(0.60),
        ..BASE
    },
    Scenario {
        name: "handshake-hybrid",
        title: "Full handshake, TLS 1.3 with X25519MLKEM768, returning client",
        transport: Transport::Tls13Hybrid,
        quick: false,
        ..BASE
    },
    Scenario {
        name: "handshake12-returning",
        title: "Full handshake, TLS 1.2, returning client",
        transport: Transport::Tls12,
        ..BASE
    },
    Scenario {
        name: "handshake12-distinct",
        title: "Full handshake, TLS 1.2, every client new",
        transport: Transport::Tls12,
        sender: Sender::Distinct,
        target: Some(0.70),
        quick: false,
        ..BASE
    },
    Scenario {
        name: "handshake12-resumed",
        title: "Resumed handshake, TLS 1.2",
        transport: Transport::Tls12,
        sender: Sender::Resuming,
        target: Some(0.60),
        quick: false,
        ..BASE
    },
    Scenario {
        name: "webhook",
        title: "One webhook a connection: handshake, 2 KiB POST, answer, close",
        unit: Unit::Webhook,
        body_bytes: 2048,
        target: Some(0.45),
        ..BASE
    },
    KEEP_ALIVE,
    Scenario {
        name: "keep-alive-256",
        title: "Keep-alive, 256 connections, 1 KiB POST",
        connections: 256,
        ..KEEP_ALIVE
    },
    Scenario {
        name: "bodies-1m",
        title: "Keep-alive, 8 connections, 1 MiB POST",
        body_bytes: 1024 * 1024,
        connections: 8,
        target: Some(0.9),
        ..KEEP_ALIVE
    },
    Scenario {
        name: "part-load",
        title: "Keep-alive, 64 connections, 1 KiB POST, 30 % load",
        pace: Pace::Part(0.3),
        target: Some(0.9),
        ..KEEP_ALIVE
    },
    Scenario {
        name: "half-load-latency",
        title: "99th percentile of latency, 64 connections, 1 KiB POST, 50 % load",
        pace: Pace::Part(0.5),
        metric: Metric::Latency99,
        target: Some(1.0),
        ..KEEP_ALIVE
    },
    Scenario {
        name: "revocation-returning",
        title: "Full handshake, TLS 1.3, returning client, revocation list of 10,000 entries ÷ without",
        addition: Some(Addition::RevocationLists),
        target: Some(1.05),
        ..BASE
    },
    Scenario {
        name: "revocation-distinct",
        title: "Full handshake, TLS 1.3, every client new, revocation list of 10,000 entries ÷ without",
        sender: Sender::Distinct,
        addition: Some(Addition::RevocationLists),
        target: Some(1.05),
        ..BASE
    },
    Scenario {
        name: "access-log",
        title: "Keep-alive, 64 connections, 1 KiB POST, access log ÷ without",
        addition: Some(Addition::AccessLog),
        target: Some(1.05),
        ..KEEP_ALIVE
    },
];

impl Scenario {
    /// The unit of the numbers of this scenario.
    pub(crate) fn measure(&self) -> &'static str {
        match (self.metric, self.unit) {
            (Metric::Latency99, _) => "µs, 99th percentile",
            (Metric::Cpu, Unit::Connection) => "µs of CPU a handshake",
            (Metric::Cpu, Unit::Webhook) => "µs of CPU a webhook",
            (Metric::Cpu, Unit::Request) => "µs of CPU a request",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_the_saturated_scenario_comes_before_those_that_need_it() {
        let names: BTreeSet<&str> = ALL.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), ALL.len());
        let saturation = ALL.iter().position(|scenario| scenario.name == SATURATION);
        let part = ALL.iter().position(|scenario| scenario.pace != Pace::Saturated);
        assert!(saturation.is_some() && saturation < part);
    }
}
