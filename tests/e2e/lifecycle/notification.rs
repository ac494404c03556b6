//! Notifications to the service manager: readiness, reloads, the end, and a watchdog that is fed only while all workers live.

use std::time::{Duration, Instant};

use hookgate_testkit::gateway::{Gateway, Signal};

use super::managed::{HungThread, ManagedEnvironment, end};
use crate::environment::SOON;

#[test]
fn the_watchdog_is_fed_while_every_worker_lives() {
    let interval = Duration::from_millis(1800);
    let managed = ManagedEnvironment::new().unwrap();
    let mut options = managed.options();
    options.environment.push(("WATCHDOG_USEC".into(), interval.as_micros().to_string().into()));
    let gateway = Gateway::start(&managed.configuration(2), &options).unwrap();
    let is_ping = |message: &hookgate_testkit::service_manager::Message| message.value("WATCHDOG") == Some("1");
    let pings = || managed.service_manager.times("WATCHDOG=1");
    managed.service_manager.wait_for(0, SOON, is_ping).unwrap();
    std::thread::sleep(interval);
    let gap = pings().windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(gap.is_some_and(|gap| gap < interval), "systemd would have ended the daemon: {gap:?}");
    // One worker of two hangs; all other threads run.
    let worker = HungThread::stop(&gateway, "worker-1").unwrap();
    let hung = Instant::now();
    gateway.wait_log("a worker has shown no life; not feeding the watchdog, so that the service manager restarts this process worker=1 silent_ms=", SOON).unwrap();
    assert!(hung.elapsed() < interval, "{:?}", hung.elapsed());
    assert_eq!(gateway.metric("hookgate_worker_stalled", &[("worker", "1")]).unwrap(), 1.0);
    assert_eq!(gateway.metric("hookgate_worker_stalled", &[("worker", "0")]).unwrap(), 0.0);
    let noticed = Instant::now();
    std::thread::sleep(interval / 2);
    assert!(pings().iter().all(|ping| *ping <= noticed), "the watchdog was fed while a worker hung");
    assert_eq!(gateway.log().matches("has shown no life").count(), 1, "{}", gateway.log());
    let received = managed.service_manager.messages().len();
    worker.resume().unwrap();
    managed.service_manager.wait_for(received, SOON, is_ping).unwrap();
    gateway.wait_log("a worker shows life again worker=1", SOON).unwrap();
}

#[test]
fn readiness_reloads_and_the_end_are_notified() {
    let managed = ManagedEnvironment::new().unwrap();
    let manager = &managed.service_manager;
    let mut gateway = Gateway::start(&managed.configuration(2), &managed.options()).unwrap();
    let ready = manager.wait_for(0, SOON, |message| message.value("READY") == Some("1")).unwrap();
    let status = ready.value("STATUS").unwrap();
    assert!(status.contains(" providers with 2 workers on ") && status.ends_with("; generation 1"), "{status}");
    let reload = |configuration: &str, expected: &str| {
        let seen = manager.messages().len();
        gateway.write_configuration(configuration).unwrap();
        let before = microseconds();
        gateway.signal(Signal::HUP).unwrap();
        let begun = manager.wait_for(seen, SOON, |message| message.value("RELOADING") == Some("1")).unwrap();
        let at: u64 = begun.value("MONOTONIC_USEC").unwrap().parse().unwrap();
        assert!((before..=microseconds()).contains(&at), "{at} is not after the signal, at {before}");
        let over = manager.wait_for(seen, SOON, |message| message.value("READY") == Some("1")).unwrap();
        assert!(over.at >= begun.at);
        let status = over.value("STATUS").unwrap();
        assert!(status.contains(expected) && status.contains(" UTC"), "{status}");
    };
    reload(&managed.configuration(2), "; generation 2, reloaded ");
    reload("this is not TOML", "; still generation 2: the reload at ");
    reload(&managed.configuration(2), "; generation 3, reloaded ");
    end(&mut gateway);
    let stopping = manager.wait_for(0, SOON, |message| message.value("STOPPING") == Some("1")).unwrap();
    assert!(stopping.value("STATUS").unwrap().starts_with("draining"), "{stopping:?}");
    let extended: u64 = stopping.value("EXTEND_TIMEOUT_USEC").unwrap().parse().unwrap();
    assert!(extended > 30_000_000, "{extended} microseconds are less than the drain may take, 30 s");
}

/// CLOCK_MONOTONIC in microseconds, as in MONOTONIC_USEC.
fn microseconds() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec * 1_000_000 + now.tv_nsec / 1000).unwrap()
}

#[test]
fn hang_ups_close_together_cause_one_further_reload_and_the_last_is_not_lost() {
    let managed = ManagedEnvironment::new().unwrap();
    let gateway = Gateway::start(&managed.configuration(1), &managed.options()).unwrap();
    let reloads = || managed.service_manager.times("RELOADING=1").len();
    // While the daemon is stopped, all of them are pending.
    gateway.signal(Signal::STOP).unwrap();
    (0..10).for_each(|_| gateway.signal(Signal::HUP).unwrap());
    gateway.signal(Signal::CONT).unwrap();
    gateway.wait_metric("hookgate_config_generation", &[], 2.0, SOON).unwrap();
    // Each arrives during the reload of the one before. The last must see what was written before it.
    for index in 1..=20 {
        let limit = format!("max_connections = {}", 100 + index);
        let text = managed.environment.toml(&limit, "");
        gateway.write_configuration(&text).unwrap();
        gateway.signal(Signal::HUP).unwrap();
    }
    gateway.write_configuration("this is not TOML").unwrap();
    gateway.signal(Signal::HUP).unwrap();
    let failed = |message: &hookgate_testkit::service_manager::Message| {
        message.value("STATUS").is_some_and(|status| status.contains("the reload at"))
    };
    managed.service_manager.wait_for(0, SOON, failed).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert!((2..=22).contains(&reloads()), "{} reloads for 31 signals", reloads());
    let last =
        managed.service_manager.messages().into_iter().rfind(|message| message.value("STATUS").is_some()).unwrap();
    assert!(failed(&last), "the last signal was lost: {last:?}");
}
