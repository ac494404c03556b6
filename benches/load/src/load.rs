//! A load: connections and the units on them, one after the other (closed loop) or when they are due (open loop).
//!
//! Owns the connections, and when units begin. Single-threaded, on one epoll instance. Must not ignore anything unexpected: then the
//! load fails as a whole.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustls::{HandshakeKind, NamedGroup};

use crate::connection::{Connection, Handshake, Step, Target};
use crate::http;
use crate::poll::Poll;
use crate::protocol::{Load, Measured, Sender, Transport, Unit};
use crate::record::Record;
use crate::tls::{Credentials, Sessions};

/// Bytes of one read, and the longest response in one piece.
const SCRATCH_BYTES: usize = 64 * 1024;

/// Most units that may be due without a free connection: a second of the highest rate. More means that the server cannot hold the
/// rate, and then the latency is meaningless.
const MAXIMUM_BACKLOG: usize = 100_000;

/// How long a load may go without a single event.
const STALL: Duration = Duration::from_secs(10);

/// From the last handshake of connections that stay open to the first arrival: less than any warm-up, more than an event takes.
const ARRIVALS_BEGIN: Duration = Duration::from_millis(10);

/// Seed of the arrivals, which are the same for every server.
const ARRIVAL_SEED: u64 = 6;

/// Runs `load` against `server`.
///
/// # Errors
///
/// Anything that differs from `load`: a refused handshake, another suite, another status.
pub(crate) fn run(load: &Load, server: Ipv4Addr, credentials: &Credentials) -> Result<Measured> {
    let (config, sessions) = match load.transport {
        Transport::Plain => (None, Arc::default()),
        transport => {
            let (config, sessions) = credentials.client_config(transport, load.sender)?;
            (Some(config), sessions)
        }
    };
    let request = match load.unit {
        Unit::Connection => Vec::new(),
        Unit::Webhook | Unit::Request => http::request(&credentials.server_name, load.body_bytes),
    };
    let mut target = Target::new((server, load.port).into(), config, &credentials.server_name, request)?;
    target.from = load.from;
    if load.sender == Sender::Resuming {
        prime(&target, &sessions, 2 * load.connections)?;
    }
    Running::new(load, target)?.run()
}

/// Makes full handshakes until `wanted` sessions can be resumed.
fn prime(target: &Target, sessions: &Sessions, wanted: usize) -> Result<()> {
    let mut scratch = vec![0; SCRATCH_BYTES];
    for _ in 0..wanted {
        if sessions.len() >= wanted {
            break;
        }
        let mut poll = Poll::new()?;
        let mut connection = Connection::open(target, Instant::now())?;
        poll.add(connection.source(), 0)?;
        while !connection.is_closed() {
            poll.wait(Some(STALL))?;
            ensure!(poll.len() > 0, "the server went silent during the handshakes for sessions");
            connection.ready(poll.event(0));
            while let Some(step) = connection.progress(&[], &mut scratch)? {
                if step == Step::Established {
                    connection.close();
                }
            }
        }
    }
    ensure!(sessions.len() > 0, "the server issued no session");
    sessions.release();
    Ok(())
}

/// The arrivals of an open loop: when units are due.
struct Arrivals {
    rate: f64,
    random: fastrand::Rng,
    next: Instant,
    due: VecDeque<Instant>,
}

impl Arrivals {
    fn new(rate: f64) -> Self {
        Self { rate, random: fastrand::Rng::with_seed(ARRIVAL_SEED), next: Instant::now(), due: VecDeque::new() }
    }

    /// Moves all units that are due by `now` to the queue.
    fn advance(&mut self, now: Instant) -> Result<()> {
        while self.next <= now {
            self.due.push_back(self.next);
            // 1 - f64() lies in (0, 1], so the logarithm is finite.
            self.next += Duration::from_secs_f64(-(1.0 - self.random.f64()).ln() / self.rate);
        }
        ensure!(self.due.len() <= MAXIMUM_BACKLOG, "the server cannot hold {} units a second", self.rate);
        Ok(())
    }
}

struct Running<'l> {
    load: &'l Load,
    target: Target,
    poll: Poll,
    connections: Vec<Option<Connection>>,
    /// Open loop: connections, or empty places for one, that wait for a unit.
    free: Vec<usize>,
    arrivals: Option<Arrivals>,
    /// Handshakes made. A load on connections that stay open begins when all are open.
    established: usize,
    record: Record,
    scratch: Vec<u8>,
}

impl<'l> Running<'l> {
    fn new(load: &'l Load, target: Target) -> Result<Self> {
        ensure!(load.connections > 0, "a load needs a connection");
        Ok(Self {
            load,
            target,
            poll: Poll::new()?,
            connections: (0..load.connections).map(|_| None).collect(),
            free: Vec::new(),
            arrivals: None,
            established: 0,
            record: Record::new(
                Duration::from_millis(load.warm_up_ms),
                Duration::from_millis(load.window_ms),
                load.watch.clone(),
            ),
            scratch: vec![0; SCRATCH_BYTES],
        })
    }

    fn run(mut self) -> Result<Measured> {
        // The kernel may be 50 µs late by default, to serve several timers at once (PR_SET_TIMERSLACK(2const)).
        rustix::thread::set_current_timer_slack(NonZeroU64::new(1)).context("setting the timer slack")?;
        self.start()?;
        let mut last_event = Instant::now();
        loop {
            let now = Instant::now();
            if self.load.unit == Unit::Request && self.established < self.connections.len() {
                self.record.restart(now);
                if let Some(arrivals) = &mut self.arrivals {
                    arrivals.next = now + ARRIVALS_BEGIN;
                }
            }
            if self.record.tick(now)? {
                break;
            }
            self.assign(now)?;
            let until_next =
                self.arrivals.as_ref().map(|arrivals| arrivals.next.saturating_duration_since(Instant::now()));
            self.poll.wait(Some(until_next.unwrap_or(STALL).min(STALL)))?;
            if self.poll.len() > 0 {
                last_event = Instant::now();
            }
            let outstanding = self.free.len() < self.connections.len();
            ensure!(!outstanding || last_event.elapsed() < STALL, "the server went silent");
            for index in 0..self.poll.len() {
                let ready = self.poll.event(index);
                let slot = usize::try_from(ready.token)?;
                if let Some(connection) = &mut self.connections[slot] {
                    connection.ready(ready);
                    self.drive(slot)?;
                }
            }
        }
        self.record.finish()
    }

    fn start(&mut self) -> Result<()> {
        let now = Instant::now();
        self.arrivals = self.load.rate.map(Arrivals::new);
        let opens = self.arrivals.is_none() || self.load.unit == Unit::Request;
        for slot in 0..self.connections.len() {
            if opens {
                self.open(slot, now)?;
            } else {
                self.free.push(slot);
            }
        }
        Ok(())
    }

    fn open(&mut self, slot: usize, began: Instant) -> Result<()> {
        let connection = Connection::open(&self.target, began)?;
        self.poll.add(connection.source(), slot as u64)?;
        self.connections[slot] = Some(connection);
        Ok(())
    }

    /// Open loop: gives units that are due to free connections.
    fn assign(&mut self, now: Instant) -> Result<()> {
        let Some(arrivals) = &mut self.arrivals else { return Ok(()) };
        arrivals.advance(now)?;
        while let Some(arrivals) = &mut self.arrivals
            && !self.free.is_empty()
            && let Some(due) = arrivals.due.pop_front()
        {
            let Some(slot) = self.free.pop() else { break };
            match &mut self.connections[slot] {
                Some(connection) => {
                    connection.send_request(due);
                    self.drive(slot)?;
                }
                None => self.open(slot, due)?,
            }
        }
        let backlog = self.arrivals.as_ref().map_or(0, |arrivals| arrivals.due.len());
        self.record.backlog = self.record.backlog.max(backlog);
        Ok(())
    }

    /// Makes progress on a connection until it must wait.
    fn drive(&mut self, slot: usize) -> Result<()> {
        while let Some(connection) = &mut self.connections[slot] {
            let progress = connection.progress(&self.target.request, &mut self.scratch);
            let progress = match progress {
                Err(_) if self.load.refused => {
                    self.record.unit(connection.began, Instant::now());
                    Some(Step::Closed)
                }
                other => other?,
            };
            let Some(step) = progress else { break };
            match step {
                Step::Established => self.established(slot)?,
                Step::Answered(status) => self.answered(slot, status)?,
                Step::Closed => {
                    self.connections[slot] = None;
                    match self.arrivals {
                        None => self.open(slot, Instant::now())?,
                        Some(_) => self.free.push(slot),
                    }
                    break;
                }
            }
        }
        Ok(())
    }

    fn established(&mut self, slot: usize) -> Result<()> {
        self.established += 1;
        let Some(connection) = &mut self.connections[slot] else { bail!("no connection at {slot}") };
        if let Some(handshake) = connection.handshake()? {
            expect(self.load, handshake)?;
            self.record.handshake(handshake);
        }
        let began = connection.began;
        match self.load.unit {
            Unit::Connection => {
                connection.close();
                self.record.unit(began, Instant::now());
            }
            Unit::Webhook => connection.send_request(began),
            Unit::Request if self.arrivals.is_some() => self.free.push(slot),
            Unit::Request => connection.send_request(Instant::now()),
        }
        Ok(())
    }

    fn answered(&mut self, slot: usize, status: u16) -> Result<()> {
        let expected = if self.load.refused { 400..500 } else { 200..201 };
        ensure!(expected.contains(&status), "a response with status {status}");
        let Some(connection) = &mut self.connections[slot] else { bail!("no connection at {slot}") };
        let now = Instant::now();
        self.record.status(status);
        self.record.unit(connection.began, now);
        match self.load.unit {
            Unit::Connection => bail!("a response without a request"),
            Unit::Webhook => connection.close(),
            Unit::Request if self.arrivals.is_some() => self.free.push(slot),
            Unit::Request => connection.send_request(now),
        }
        Ok(())
    }
}

/// Fails unless the handshake is of the kind that `load` measures. Only one suite and version are offered.
fn expect(load: &Load, handshake: Handshake) -> Result<()> {
    let kind = match load.sender {
        Sender::Returning | Sender::Distinct => HandshakeKind::Full,
        Sender::Resuming => HandshakeKind::Resumed,
    };
    ensure!(handshake.kind == kind, "a handshake was {:?}, not {kind:?}", handshake.kind);
    let resumed12 = load.transport == Transport::Tls12 && kind == HandshakeKind::Resumed;
    let group = match load.transport {
        _ if resumed12 => None,
        Transport::Tls13Hybrid => Some(NamedGroup::X25519MLKEM768),
        Transport::Tls13 | Transport::Tls12 | Transport::Plain => Some(NamedGroup::X25519),
    };
    ensure!(handshake.group == group, "a handshake used {:?}, not {group:?}", handshake.group);
    Ok(())
}

/// Connections that are held open.
pub(crate) struct Held {
    connections: Vec<Connection>,
    poll: Poll,
}

/// Opens `count` connections, sends one request on each, and leaves them open.
///
/// # Errors
///
/// As [`run`].
pub(crate) fn hold(address: SocketAddr, count: usize, credentials: &Credentials) -> Result<Held> {
    let (config, _) = credentials.client_config(Transport::Tls13, Sender::Returning)?;
    let request = http::request(&credentials.server_name, 1024);
    let target = Target::new(address, Some(config), &credentials.server_name, request)?;
    let mut poll = Poll::new()?;
    let mut connections = Vec::with_capacity(count);
    let mut scratch = vec![0; SCRATCH_BYTES];
    for index in 0..count {
        let connection = Connection::open(&target, Instant::now())?;
        poll.add(connection.source(), index as u64)?;
        connections.push(connection);
        let mut answered = false;
        while !answered {
            poll.wait(Some(STALL))?;
            ensure!(poll.len() > 0, "the server went silent with {index} connections open");
            for event in 0..poll.len() {
                let ready = poll.event(event);
                let connection = &mut connections[usize::try_from(ready.token)?];
                connection.ready(ready);
                while let Some(step) = connection.progress(&target.request, &mut scratch)? {
                    match step {
                        Step::Established => connection.send_request(Instant::now()),
                        Step::Answered(200) => answered = true,
                        other => bail!("{other:?} with {index} connections open"),
                    }
                }
            }
        }
    }
    Ok(Held { connections, poll })
}

impl Held {
    /// How many connections are still open.
    ///
    /// # Errors
    ///
    /// epoll fails.
    pub(crate) fn still_open(&mut self) -> Result<usize> {
        let mut scratch = vec![0; SCRATCH_BYTES];
        let mut broken = 0;
        loop {
            self.poll.wait(Some(Duration::ZERO)).context("checking held connections")?;
            if self.poll.len() == 0 {
                return Ok(self.connections.len() - broken);
            }
            for event in 0..self.poll.len() {
                let ready = self.poll.event(event);
                let connection = &mut self.connections[usize::try_from(ready.token)?];
                connection.ready(ready);
                broken += usize::from(connection.progress(&[], &mut scratch).is_err());
            }
        }
    }
}
