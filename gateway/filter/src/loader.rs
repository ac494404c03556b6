//! The filter's life: loaded, filled, attached, changed in place, asked, and gone.
//!
//! Owns the order: the maps are filled before the program sees a packet, and a change is written by difference. Must not
//! decide about packets, nor read a clock.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use aya::maps::MapError;
use aya::programs::{ProgramError, Xdp};
use aya::{Ebpf, EbpfError, EbpfLoader, VerifierLogLevel};
use hookgate_ebpf::{Sample, Settings, names};
use rustix::io::Errno;

use crate::attach::{AttachMode, Attached, Hold, attach, release};
use crate::difference::difference;
use crate::maps::Maps;
use crate::numbers::SetNumbers;
use crate::policy::{Policy, PolicyError};
use crate::status::{Explanation, SetStatus, Status};
use crate::tables::Tables;
use hookgate_core::prefix::AddressFamily;

/// The program, as `cargo xtask ebpf` builds it; `cargo xtask ebpf --check` proves that it is built from the source.
const OBJECT: &[u8] = aya::include_bytes_aligned!("../../../gateway-ebpf/object/hookgate.bpf.o");

/// The name of the program in it.
const PROGRAM: &str = "hookgate";

/// Why the filter does not run, or a change is not in force. Each is one sentence for the operator.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// The policy itself.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The kernel says that we may not.
    ///
    /// CAP_BPF makes maps and programs, CAP_NET_ADMIN makes and attaches ones that see packets. CAP_PERFMON is for headers
    /// whose place depends on the packet (IPv4 options, IPv6 extension headers): without it the verifier refuses every
    /// pointer to which such a number was added (`sanitize_ptr_alu` in kernel/bpf/verifier.c). Once attached, none is needed.
    #[error(
        "the kernel does not permit the filter to {what}: the process needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON when it \
         starts, and a system call filter that lets bpf() through"
    )]
    NotPermitted {
        /// What was tried.
        what: &'static str,
    },
    /// The kernel does not know how.
    #[error("the kernel cannot {what}: the filter needs Linux 5.11 or newer with CONFIG_BPF_SYSCALL ({source})")]
    Unsupported {
        /// What was tried.
        what: &'static str,
        /// What it said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Another program is there already.
    #[error(
        "interface {interface} already carries another XDP program, which is left alone: detach it (`ip link set dev \
         {interface} xdp off`), or take the interface out of the filter"
    )]
    Occupied {
        /// Where.
        interface: String,
    },
    /// No such interface.
    #[error("there is no interface {interface}")]
    UnknownInterface {
        /// As configured.
        interface: String,
    },
    /// The driver, or the kernel, refuses.
    #[error("interface {interface} cannot run the filter in {} mode: {source}", mode.label())]
    Attach {
        /// Where.
        interface: String,
        /// How.
        mode: AttachMode,
        /// What the kernel said.
        source: io::Error,
    },
    /// A pinned link.
    #[error("the pinned filter at {} cannot be used: {source}", path.display())]
    Pin {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A map.
    #[error("map {map} of the filter cannot be used")]
    Map {
        /// Which.
        map: &'static str,
        /// Why.
        source: MapError,
    },
    /// The object is not the one that this version was built with.
    #[error("the filter's object has no {what}")]
    Object {
        /// What is missing.
        what: &'static str,
    },
}

/// What a reload did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Writes to maps.
    pub writes: usize,
}

/// The filter in the kernel.
pub struct Filter {
    ebpf: Ebpf,
    maps: Maps,
    policy: Policy,
    numbers: SetNumbers,
    /// Where the kernel's counter of a set stood when the set joined; 0 where nothing is said. Counters are never written.
    counted_before: BTreeMap<u8, u64>,
    /// What is in the maps, write by write.
    tables: Tables,
    attached: Vec<(Attached, Hold)>,
}

impl Filter {
    /// Loads the program, fills its maps and attaches it. Where one interface fails, none is left attached.
    ///
    /// # Errors
    ///
    /// Where the policy is beyond its limits, or the kernel refuses: see [`FilterError`].
    pub fn start(policy: Policy) -> Result<Self, FilterError> {
        if policy.interfaces.is_empty() {
            return Err(PolicyError::NoInterface.into());
        }
        let mut filter = Self::load(policy)?;
        for interface in filter.policy.interfaces.clone() {
            let (wanted, pin) = (filter.policy.attach, filter.policy.pin.clone());
            let attached = attach(filter.program()?, &interface, wanted, pin.as_deref());
            match attached {
                Ok(attached) => filter.attached.push(attached),
                Err(error) => {
                    filter.stop()?;
                    return Err(error);
                }
            }
        }
        Ok(filter)
    }

    /// Loads the program and fills its maps, attached to nothing: for tests by `BPF_PROG_TEST_RUN`.
    ///
    /// # Errors
    ///
    /// As for [`Self::start`].
    pub fn load(policy: Policy) -> Result<Self, FilterError> {
        Self::load_object(policy, OBJECT, PROGRAM, |_| {})
    }

    /// The same with another object that has the same maps and more, which `prepare` fills: for measurements.
    ///
    /// # Errors
    ///
    /// As for [`Self::start`].
    pub fn load_object(
        policy: Policy,
        object: &[u8],
        program: &str,
        prepare: impl FnOnce(&mut Ebpf),
    ) -> Result<Self, FilterError> {
        let numbers = SetNumbers::default().after(&policy.sets)?;
        let tables = Tables::new(&policy, &numbers)?;
        // While a change is written, the old and the new contents are both there.
        let both = |limit: u32| limit.max(1).saturating_mul(2);
        let has_syn_limit = settings(&policy).has_syn_limit();
        let mut ebpf = EbpfLoader::new()
            .verifier_log_level(VerifierLogLevel::STATS)
            .map_max_entries(names::RANGES_V4, both(policy.limits.ranges_ipv4))
            .map_max_entries(names::RANGES_V6, both(policy.limits.ranges_ipv6))
            .map_max_entries(names::HASH_V6, both(policy.limits.hash_ipv6))
            .map_max_entries(names::DESTINATIONS, both(policy.limits.destinations))
            .map_max_entries(names::BUCKETS, if has_syn_limit { policy.limits.syn_buckets.max(1) } else { 1 })
            .load(object)
            .map_err(FilterError::load)?;
        prepare(&mut ebpf);
        let maps = Maps::take(&mut ebpf)?;
        let mut filter = Self {
            ebpf,
            maps,
            policy,
            numbers,
            counted_before: BTreeMap::new(),
            tables: Tables::default(),
            attached: Vec::new(),
        };
        filter.write(&tables)?;
        filter.maps.write_settings(settings(&filter.policy))?;
        let program: &mut Xdp = filter
            .ebpf
            .program_mut(program)
            .and_then(|program| program.try_into().ok())
            .ok_or(FilterError::Object { what: PROGRAM })?;
        program.load().map_err(|error| FilterError::load(error.into()))?;
        Ok(filter)
    }

    /// Puts another policy into force, in place: no map is emptied, and no packet sees half of it.
    ///
    /// # Errors
    ///
    /// Before anything is written, where the policy is beyond its limits, changes what is fixed while attached, or shrinks
    /// an allow set too far and is not `forced`. Where the kernel refuses a write, what was written stays, and is known.
    pub fn reload(&mut self, policy: Policy, forced: bool) -> Result<Changes, FilterError> {
        self.policy.may_become(&policy, forced)?;
        if settings(&policy).has_syn_limit() && !settings(&self.policy).has_syn_limit() {
            return Err(PolicyError::Fixed { what: "the presence of SYN limits" }.into());
        }
        let numbers = self.numbers.after(&policy.sets)?;
        let tables = Tables::new(&policy, &numbers)?;
        let writes = self.write(&tables)?;
        self.maps.write_settings(settings(&policy))?;
        // After the writes, so that none of the packets of a set that had the number before is counted for the new one.
        for number in numbers.joined(&self.numbers) {
            self.counted_before.insert(number, self.maps.set_packets(number)?);
        }
        self.numbers = numbers;
        self.policy = policy;
        Ok(Changes { writes })
    }

    fn write(&mut self, tables: &Tables) -> Result<usize, FilterError> {
        let operations = difference(&self.tables, tables);
        let writes = operations.len();
        for operation in operations {
            self.maps.apply(&operation)?;
            self.tables.apply(operation);
        }
        Ok(writes)
    }

    /// What there is to say.
    ///
    /// # Errors
    ///
    /// Where a counter cannot be read.
    pub fn status(&self) -> Result<Status, FilterError> {
        let sets = self.policy.sets.iter().map(|set| {
            let number = self.numbers.number(&set.name);
            let before = self.counted_before.get(&number).copied().unwrap_or(0);
            Ok(SetStatus {
                name: set.name.clone(),
                action: set.action,
                ranges_ipv4: set.count(AddressFamily::Ipv4),
                ranges_ipv6: set.count(AddressFamily::Ipv6),
                packets: self.maps.set_packets(number)?.saturating_sub(before),
            })
        });
        Ok(Status {
            mode: self.policy.mode,
            attached: self.attached.iter().map(|(attached, _)| attached.clone()).collect(),
            sets: sets.collect::<Result<_, FilterError>>()?,
            packets: self.maps.packets()?,
            memory_bytes: self.maps.memory_bytes(),
        })
    }

    /// What the ranges in force say about an address.
    pub fn explain(&self, address: IpAddr) -> Explanation {
        Explanation::new(address, &self.tables, &self.numbers)
    }

    /// The name of the set that a sample speaks of; `None` where no set decided, or one that has left since.
    pub fn set_name(&self, sample: &Sample) -> Option<&str> {
        self.numbers.name(sample.set)
    }

    /// The samples of drops since the last call.
    pub fn samples(&mut self) -> Vec<Sample> {
        self.maps.samples()
    }

    /// The program, for `BPF_PROG_TEST_RUN`.
    ///
    /// # Errors
    ///
    /// Where the object has no such program.
    pub fn program(&mut self) -> Result<&mut Xdp, FilterError> {
        let loaded = self.ebpf.programs_mut().find_map(|(_, program)| {
            let program: &mut Xdp = program.try_into().ok()?;
            program.fd().is_ok().then_some(program)
        });
        loaded.ok_or(FilterError::Object { what: PROGRAM })
    }

    /// Detaches the program everywhere, also where it is pinned.
    ///
    /// # Errors
    ///
    /// Where a pinned link cannot be removed; the others are.
    pub fn stop(mut self) -> Result<(), FilterError> {
        let mut result = Ok(());
        for (_, hold) in std::mem::take(&mut self.attached) {
            result = result.and(release(self.program()?, hold));
        }
        result
    }
}

/// The settings of a policy.
fn settings(policy: &Policy) -> Settings {
    Settings {
        mode: policy.mode as u64,
        syn_ipv4_address: policy.syn_limits.ipv4_address,
        syn_ipv4_network: policy.syn_limits.ipv4_network,
        syn_ipv6_network: policy.syn_limits.ipv6_network,
        samples: policy.samples,
    }
}

impl FilterError {
    /// Loading the object: creating maps and verifying the program.
    fn load(error: EbpfError) -> Self {
        let source = io_error_of(&error);
        match source.and_then(io::Error::raw_os_error).map(Errno::from_raw_os_error) {
            Some(Errno::PERM | Errno::ACCESS) => Self::NotPermitted { what: "load its program" },
            _ => Self::Unsupported { what: "load the filter's program", source: error.into() },
        }
    }

    pub(super) fn attach(interface: &str, mode: AttachMode, error: ProgramError) -> Self {
        let interface = interface.to_owned();
        if matches!(error, ProgramError::UnknownInterface { .. }) {
            return Self::UnknownInterface { interface };
        }
        let source = io_error(error);
        match source.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::PERM) => Self::NotPermitted { what: "attach its program" },
            // dev_xdp_attach in net/core/dev.c: BUSY for a program in the same mode, EXIST for one in another.
            Some(Errno::BUSY | Errno::EXIST) => Self::Occupied { interface },
            _ => Self::Attach { interface, mode, source },
        }
    }
}

/// The I/O error at the bottom of one of aya's, or that error as one.
pub(super) fn io_error(error: impl Error + Send + Sync + 'static) -> io::Error {
    match io_error_of(&error).and_then(io::Error::raw_os_error) {
        Some(number) => io::Error::from_raw_os_error(number),
        None => io::Error::other(error),
    }
}

fn io_error_of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    let mut error = Some(error);
    while let Some(current) = error {
        if let Some(found) = current.downcast_ref() {
            return Some(found);
        }
        error = current.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_object_is_aligned_and_an_elf_file() {
        assert_eq!(OBJECT.first_chunk(), Some(b"\x7fELF"));
        assert_eq!(OBJECT.as_ptr().align_offset(8), 0, "aya reads it in place");
    }
}
