//! Interfaces that are deleted, and made again under their names.

use std::io::ErrorKind;
use std::time::Duration;

use hookgate_filter::{Attach, Filter, FilterError, InterfaceChange, Policy};

use crate::is_root;
use crate::namespaces::{FOREIGN, Network};
use crate::network::{allowing, start};

const SOON: Duration = Duration::from_millis(700);

/// For an answer that must come: the kernel sends a lost SYN or ARP request again after 1 s, and then after 3 s.
const PATIENCE: Duration = Duration::from_secs(5);

/// What has changed, in short.
fn look(network: &Network, filter: &mut Filter) -> Vec<&'static str> {
    let changes = network.on_server(|| filter.look_at_interfaces()).unwrap_or_else(|error| panic!("{error}"));
    let short = changes.iter().map(|change| match change {
        InterfaceChange::Gone(attached) if attached.interface == "eth0" => "gone",
        InterfaceChange::Attached(attached) if attached.interface == "eth0" => "attached",
        InterfaceChange::Unfiltered { error: FilterError::Occupied { interface }, .. } if interface == "eth0" => {
            "occupied"
        }
        other => panic!("{other:?}"),
    });
    short.collect()
}

#[test]
fn an_interface_that_is_made_again_is_filtered_again() {
    if !is_root() {
        return;
    }
    for attach in [Attach::Native, Attach::Generic] {
        let network = Network::new();
        let mut filter = start(&network, allowing(attach));
        assert_eq!(look(&network, &mut filter), [""; 0]);
        network.make_interfaces_again();
        assert_eq!(look(&network, &mut filter), ["gone", "attached"], "{attach:?}");
        assert_eq!(look(&network, &mut filter), [""; 0]);
        let met = network.connect(FOREIGN[0], 443, SOON).unwrap_err();
        assert_eq!(met.kind(), ErrorKind::TimedOut, "{attach:?}: it is filtered");
        network.delete_interfaces();
        assert_eq!(look(&network, &mut filter), ["gone"], "{attach:?}");
        assert!(filter.status().unwrap().attached.is_empty() && !filter.has_unfiltered_interface());
        network.make_interfaces();
        assert_eq!(look(&network, &mut filter), ["attached"], "{attach:?}");
        network.on_server(|| filter.stop()).unwrap();
        let met = network.connect(FOREIGN[0], 443, PATIENCE).unwrap_err();
        assert_eq!(met.kind(), ErrorKind::ConnectionRefused, "{attach:?}: it is detached");
    }
}

#[test]
fn an_interface_that_cannot_be_filtered_is_told_once_and_tried_again() {
    if !is_root() {
        return;
    }
    let network = Network::new();
    let mut filter = start(&network, allowing(Attach::Native));
    network.make_interfaces_again();
    let other = start(&network, Policy { ..allowing(Attach::Native) });
    assert_eq!(look(&network, &mut filter), ["gone", "occupied"]);
    assert!(filter.has_unfiltered_interface() && filter.status().unwrap().attached.is_empty());
    assert_eq!(look(&network, &mut filter), [""; 0], "it is told once");
    drop(other);
    assert_eq!(look(&network, &mut filter), ["attached"]);
    assert!(!filter.has_unfiltered_interface());
}
