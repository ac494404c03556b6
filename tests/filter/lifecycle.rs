//! Start and end of the filter: other programs, capabilities, pins, and what remains after the end.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use hookgate_filter::{Action, Attach, Filter, FilterError, Policy, PolicyError};
use hookgate_testkit::mount::BpfFileSystem;
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

use crate::is_root;
use crate::namespaces::{ALLOWED, FOREIGN, Network, ip};
use crate::network::{allowing, start};
use crate::policies::set;

const SOON: Duration = Duration::from_millis(700);

/// For an answer that must come: the kernel sends a lost SYN or ARP request again after 1 s, and then after 3 s.
const PATIENCE: Duration = Duration::from_secs(5);

/// Set in the child of [`a_killed_process_leaves_the_host_reachable`]: the interface.
const CHILD: &str = "HOOKGATE_TEST_FILTER_CHILD";

#[test]
fn another_xdp_program_is_left_unchanged_and_reported() {
    if !is_root() {
        return;
    }
    let network = Network::new();
    let _server = network.serve(&[443]);
    for first in [Attach::Native, Attach::Generic] {
        let other = start(&network, allowing(first));
        for second in [Attach::Auto, Attach::Native, Attach::Generic] {
            let error = network.on_server(|| Filter::start(allowing(second))).err().unwrap();
            assert!(matches!(&error, FilterError::Occupied { interface } if interface == "eth0"), "{error}");
            assert!(error.to_string().contains("already carries another XDP program"), "{error}");
        }
        assert_eq!(network.connect(FOREIGN[0], 443, SOON).unwrap_err().kind(), ErrorKind::TimedOut, "still attached");
        drop(other);
    }
}

#[test]
fn several_interfaces_are_attached_or_none() {
    if !is_root() {
        return;
    }
    let network = Network::new();
    let _server = network.serve(&[443]);
    network.on_server(|| ip(&["link", "add", "other0", "type", "veth", "peer", "name", "other1"]));
    let interfaces = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let both = Policy { interfaces: interfaces(&["eth0", "other0"]), ..allowing(Attach::Auto) };
    let filter = start(&network, both);
    assert_eq!(filter.status().unwrap().attached.len(), 2);
    filter.stop().unwrap();
    let missing = Policy { interfaces: interfaces(&["eth0", "absent0"]), ..allowing(Attach::Auto) };
    let error = network.on_server(|| Filter::start(missing)).err().unwrap();
    assert_eq!(error.to_string(), "there is no interface absent0");
    assert_eq!(network.connect(FOREIGN[0], 443, PATIENCE).unwrap(), "ok", "the first interface is not left attached");
    let error = network.on_server(|| Filter::start(Policy { interfaces: Vec::new(), ..allowing(Attach::Auto) })).err();
    assert!(matches!(error, Some(FilterError::Policy(PolicyError::NoInterface))));
}

#[test]
fn an_interface_without_driver_support_is_attached_in_generic_mode_with_a_reason() {
    if !is_root() {
        return;
    }
    let network = Network::new();
    let policy = |attach| Policy { interfaces: vec!["lo".to_owned()], ..allowing(attach) };
    let filter = start(&network, policy(Attach::Auto));
    let attached = filter.status().unwrap().attached.remove(0);
    assert_eq!(attached.mode.label(), "generic");
    let note = attached.note.unwrap();
    assert!(note.starts_with("interface lo cannot run the filter in native mode: "), "{note}");
    drop(filter);
    let error = network.on_server(|| Filter::start(policy(Attach::Native))).err().unwrap();
    assert!(matches!(error, FilterError::Attach { .. }), "{error}");
}

#[test]
fn three_capabilities_suffice_and_each_of_them_is_necessary() {
    if !is_root() {
        return;
    }
    let network = Network::new();
    let with = |capabilities: CapabilitySet| {
        network.on_server(move || {
            let sets = CapabilitySets {
                effective: capabilities,
                permitted: capabilities,
                inheritable: CapabilitySet::empty(),
            };
            set_capabilities(None, sets).unwrap(); // of this thread alone
            Filter::start(allowing(Attach::Auto)).map(drop)
        })
    };
    let needed = CapabilitySet::BPF | CapabilitySet::NET_ADMIN | CapabilitySet::PERFMON;
    with(needed).unwrap_or_else(|error| panic!("{error:?}"));
    for missing in [needed, CapabilitySet::BPF, CapabilitySet::NET_ADMIN, CapabilitySet::PERFMON] {
        let error = with(needed - missing).unwrap_err();
        assert!(matches!(error, FilterError::NotPermitted { .. }), "without {missing:?}: {error:?}");
        assert!(error.to_string().contains("needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"), "{error}");
    }
}

#[test]
fn an_attached_filter_needs_no_capability() {
    if !is_root() {
        return;
    }
    let network = Network::new();
    let _server = network.serve(&[443]);
    let mut filter = start(&network, allowing(Attach::Native));
    let foreign = Policy { sets: vec![set("another", Action::Allow, &FOREIGN)], ..allowing(Attach::Native) };
    network.on_server(|| {
        let none = CapabilitySet::empty();
        set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none }).unwrap();
        filter.reload(foreign, false).unwrap_or_else(|error| panic!("{error:?}"));
        assert!(filter.status().unwrap().memory_bytes > 0);
    });
    assert_eq!(network.connect(FOREIGN[0], 443, PATIENCE).unwrap(), "ok");
}

#[test]
fn a_refused_reload_changes_nothing() {
    if !is_root() {
        return;
    }
    let network = Network::new();
    let _server = network.serve(&[443]);
    let mut filter = start(&network, allowing(Attach::Native));
    let emptied = Policy { sets: vec![set("provider", Action::Allow, &[])], ..allowing(Attach::Native) };
    let error = filter.reload(emptied.clone(), false).unwrap_err();
    assert!(error.to_string().contains("`provider` would lose 100 % of its ipv4 addresses"), "{error}");
    assert_eq!(network.connect(ALLOWED[0], 443, PATIENCE).unwrap(), "ok");
    assert!(filter.explain(ALLOWED[0].parse().unwrap()).passes());
    filter.reload(emptied, true).unwrap();
    assert_eq!(network.connect(ALLOWED[0], 443, SOON).unwrap_err().kind(), ErrorKind::TimedOut, "forced");
    let explained = filter.explain(ALLOWED[0].parse().unwrap());
    assert_eq!(explained.to_string(), "198.51.100.10 is in no range: dropped");
}

#[test]
fn a_pinned_filter_stays_is_taken_over_and_can_be_removed() {
    if !is_root() {
        return;
    }
    let file_system = BpfFileSystem::mount().unwrap();
    let network = Network::new();
    let _server = network.serve(&[443]);
    let pinned = |client: &str| {
        let sets = vec![set("provider", Action::Allow, &[client])];
        Policy { pin: Some(PathBuf::from(file_system.path())), sets, ..allowing(Attach::Auto) }
    };
    drop(start(&network, pinned(ALLOWED[0])));
    assert_eq!(network.connect(FOREIGN[0], 443, SOON).unwrap_err().kind(), ErrorKind::TimedOut, "the filter stays");
    assert_eq!(network.connect(ALLOWED[0], 443, PATIENCE).unwrap(), "ok");
    let filter = start(&network, pinned(FOREIGN[0]));
    let note = filter.status().unwrap().attached.remove(0).note.unwrap();
    assert!(note.starts_with("took over the filter pinned at"), "{note}");
    assert_eq!(network.connect(FOREIGN[0], 443, PATIENCE).unwrap(), "ok", "the new ranges are in use");
    assert_eq!(network.connect(ALLOWED[0], 443, SOON).unwrap_err().kind(), ErrorKind::TimedOut);
    drop(filter);
    start(&network, pinned(ALLOWED[0])).stop().unwrap();
    assert_eq!(network.connect(FOREIGN[0], 443, PATIENCE).unwrap(), "ok", "the filter was removed");
}

#[test]
fn a_killed_process_leaves_the_host_reachable() {
    if !is_root() {
        return;
    }
    if let Ok(interface) = std::env::var(CHILD) {
        let policy = Policy { interfaces: vec![interface], ..allowing(Attach::Native) };
        let _filter = Filter::start(policy).unwrap();
        thread::sleep(Duration::from_secs(30));
        return;
    }
    let network = Network::new();
    let _server = network.serve(&[443]);
    let mut child = network.on_server(|| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "lifecycle::a_killed_process_leaves_the_host_reachable"])
            .env(CHILD, "eth0")
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    });
    let until = |expected: fn(&std::io::Result<String>) -> bool| {
        let deadline = Instant::now() + Duration::from_secs(15);
        while !expected(&network.connect(FOREIGN[0], 443, SOON)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
        Instant::now() < deadline
    };
    let attached = until(|answer| answer.is_err());
    child.kill().unwrap(); // SIGKILL
    child.wait().unwrap();
    assert!(attached, "the child did not attach its filter");
    assert!(until(Result::is_ok), "the filter outlived its process");
}
