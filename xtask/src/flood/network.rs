//! The network of the flood: two namespaces with a veth pair between them, and one kernel thread that receives.
//!
//! A network card delivers packets on a core of its choice, and the CPU time is spent there. A veth pair delivers on the sender's core.
//! So its receiving is moved to a kernel thread (threaded NAPI), which is pinned to the gateway's core. The CPU time of that thread is
//! the cost of receiving.

use std::fs;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

use hookgate_testkit::namespace::{Namespace, ip};

/// The gateway's address.
pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// The address of the allowed client.
pub(super) const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
/// An address behind an interface that drops every packet.
pub(super) const SINK: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// An address whose packets reach the gateway's interface with the hardware address of another host.
pub(super) const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 77);
/// The gateway's interface. The name is unique on this machine, because the kernel thread is found by it.
pub(super) const INTERFACE: &str = "flood0";

/// How long packets are collected before they are received, nanoseconds: a usual default of drivers.
const COALESCE_NS: u32 = 50_000;

/// The namespaces; removed when dropped.
pub(super) struct Network {
    pub(super) server: Namespace,
    pub(super) client: Namespace,
    receiver: Pid,
}

impl Network {
    /// Makes the namespaces, and pins the receiving thread to `core`.
    pub(super) fn new(core: usize) -> Result<Self> {
        let (server, client) = (Namespace::new("flooded")?, Namespace::new("flooding")?);
        let (in_server, in_client) = (server.name(), client.name());
        let peer = ["type", "veth", "peer", "name", "eth0", "netns", in_client];
        ip(&[&["-n", in_server, "link", "add", INTERFACE], &peer[..]].concat())?;
        ip(&["-n", in_client, "link", "add", "sink0", "type", "veth", "peer", "name", "sink1"])?;
        ip(&["-n", in_client, "link", "set", "sink1", "up"])?;
        for (namespace, address, interface) in [
            (in_server, SERVER, INTERFACE),
            (in_client, CLIENT, "eth0"),
            (in_client, Ipv4Addr::new(192, 0, 2, 2), "sink0"),
        ] {
            ip(&["-n", namespace, "address", "add", &format!("{address}/24"), "dev", interface])?;
            ip(&["-n", namespace, "link", "set", interface, "up"])?;
        }
        // The other end has another hardware address, and drops packets that are not for it.
        for (address, interface) in [(SINK, "sink0"), (ELSEWHERE, "eth0")] {
            let neighbour = ["neighbour", "add", &address.to_string(), "lladdr", "02:00:00:00:00:01", "dev", interface];
            ip(&[&["-n", in_client], &neighbour[..]].concat())?;
        }
        // Without a route no SYN would be answered, and the flood would cost less than on the Internet.
        ip(&["-n", in_server, "route", "add", "default", "via", &CLIENT.to_string()])?;
        // A veth pair uses NAPI only if the sender has no segmentation offload (drivers/net/veth.c).
        within(in_client, "ethtool -K eth0 tso off")?;
        within(in_server, &format!("ethtool -K {INTERFACE} gro on"))?;
        within(in_server, &format!("echo 1 > /sys/class/net/{INTERFACE}/threaded"))?;
        // A card delays its interrupts by some microseconds (ethtool's rx-usecs). Without a delay every packet wakes the thread, which
        // costs more than any of the protections.
        within(in_server, &format!("echo {COALESCE_NS} > /sys/class/net/{INTERFACE}/gro_flush_timeout"))?;
        within(in_server, &format!("echo 2 > /sys/class/net/{INTERFACE}/napi_defer_hard_irqs"))?;
        let receiver = receiver()?;
        sched_setaffinity(Some(receiver), &only(core)).context("pinning the receiving thread")?;
        // Interrupts preempt processes, so this thread must too. 50 is the priority of the kernel's interrupt threads. Otherwise packets
        // would be lost while the thread waits: a veth pair holds 256 (VETH_RING_SIZE).
        let status = Command::new("chrt").args(["--fifo", "--pid", "50", &receiver.to_string()]).status();
        ensure!(
            status.context("running chrt, of util-linux")?.success(),
            "chrt cannot raise the priority of the receiving thread"
        );
        Ok(Self { server, client, receiver })
    }

    /// CPU time of the receiving thread so far, nanoseconds: the first field of `/proc/PID/schedstat`.
    pub(super) fn receiving_ns(&self) -> Result<u64> {
        let path = format!("/proc/{}/schedstat", self.receiver.as_raw_nonzero());
        let text = fs::read_to_string(&path).context(path)?;
        Ok(text.split_ascii_whitespace().next().unwrap_or_default().parse()?)
    }

    /// Makes nftables drop packets to port 443 from outside `ranges`, as early as a table of family inet can. `None` removes every rule.
    pub(super) fn nftables(&self, ranges: Option<&[String]>) -> Result<()> {
        let rules = ranges.map_or_else(String::new, |ranges| {
            format!(
                "table inet guard {{\n\
                   set allowed {{ type ipv4_addr; flags interval; elements = {{ {} }} }}\n\
                   chain early {{\n\
                     type filter hook prerouting priority raw; policy accept;\n\
                     tcp dport 443 ip saddr != @allowed counter drop\n\
                   }}\n\
                 }}\n",
                ranges.join(", ")
            )
        });
        self.nft(&["-f", "-"], &format!("flush ruleset\n{rules}")).map(drop)
    }

    /// Packets that nftables dropped.
    pub(super) fn nftables_dropped(&self) -> Result<u64> {
        let text = self.nft(&["list", "chain", "inet", "guard", "early"], "")?;
        let count = text.split_once("counter packets ").and_then(|(_, rest)| rest.split_whitespace().next());
        Ok(count.context("nft printed no counter")?.parse()?)
    }

    fn nft(&self, arguments: &[&str], input: &str) -> Result<String> {
        let file = tempfile::NamedTempFile::new()?;
        fs::write(file.path(), input)?;
        let mut command = Command::new("ip");
        command.args(["netns", "exec", self.server.name(), "nft"]).args(arguments);
        let output = command.stdin(Stdio::from(file.reopen()?)).output().context("running nft, of nftables")?;
        ensure!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// Runs a shell command in a namespace, in which `/sys` shows the interfaces of the namespace.
fn within(namespace: &str, line: &str) -> Result<()> {
    let status = Command::new("ip").args(["netns", "exec", namespace, "sh", "-c", line]).status()?;
    ensure!(status.success(), "`{line}` failed (needs ethtool, and Linux 5.12)");
    Ok(())
}

/// The set of one core.
pub(super) fn only(core: usize) -> CpuSet {
    let mut set = CpuSet::new();
    set.set(core);
    set
}

/// Finds the kernel thread that receives for [`INTERFACE`].
fn receiver() -> Result<Pid> {
    let prefix = format!("napi/{INTERFACE}-");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process may end between the listing and the read.
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if name.starts_with(&prefix) {
            found.extend(Pid::from_raw(pid));
        }
    }
    match found.as_slice() {
        [one] => Ok(*one),
        [] => bail!("no kernel thread receives for {INTERFACE}: threaded NAPI needs Linux 5.12"),
        _ => bail!("another flood is running on this machine"),
    }
}
