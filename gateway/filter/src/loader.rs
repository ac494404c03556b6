//! The filter in the kernel: load, write the maps, attach, reload in place, read, detach.
//!
//! Owns the order of these steps: the maps are written before the program sees a packet, and a reload writes the difference
//! only. Must not decide about packets, nor read a clock.

use std::collections::BTreeMap;
use std::net::IpAddr;

use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use hookgate_ebpf::{Family, Sample, Settings, names};

use crate::difference::change;
use crate::error::FilterError;
use crate::interfaces::{InterfaceChange, Interfaces};
use crate::maps::Maps;
use crate::numbers::SetNumbers;
use crate::policy::{Policy, PolicyError};
use crate::status::{Explanation, SetStatus, Status};
use crate::tables::Tables;

/// The object file that `cargo xtask ebpf` builds. `cargo xtask ebpf --check` proves that the source builds it.
const OBJECT: &[u8] = aya::include_bytes_aligned!("../../../gateway-ebpf/object/hookgate.bpf.o");

/// The name of the program in the object file.
const PROGRAM: &str = "hookgate";

/// What a reload did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The number of writes to maps.
    pub writes: usize,
}

/// The filter in the kernel.
pub struct Filter {
    ebpf: Ebpf,
    maps: Maps,
    policy: Policy,
    numbers: SetNumbers,
    /// The kernel's counter of a set at the time that the set joined, by number; 0 if absent. Counters are never written.
    counted_before: BTreeMap<u8, u64>,
    /// The contents of the maps, up to date after each write.
    tables: Tables,
    interfaces: Interfaces,
}

impl Filter {
    /// Loads the program, writes its maps and attaches it. If an interface fails, the others are detached again.
    ///
    /// # Errors
    ///
    /// If the policy exceeds its limits, or the kernel refuses: see [`FilterError`].
    pub fn start(policy: Policy) -> Result<Self, FilterError> {
        if policy.interfaces.is_empty() {
            return Err(PolicyError::NoInterface.into());
        }
        let mut filter = Self::load(policy)?;
        filter.interfaces = Interfaces::new(filter.policy.attach, filter.policy.pin.clone())?;
        for interface in filter.policy.interfaces.clone() {
            if let Err(error) = filter.with_interfaces(|interfaces, program| interfaces.add(program, &interface))? {
                filter.stop()?;
                return Err(error);
            }
        }
        Ok(filter)
    }

    /// Loads the program and writes its maps without attaching it, for tests by `BPF_PROG_TEST_RUN`.
    ///
    /// # Errors
    ///
    /// As for [`Self::start`].
    pub fn load(policy: Policy) -> Result<Self, FilterError> {
        Self::load_object(policy, OBJECT, PROGRAM, |_| {})
    }

    /// The same with another object file, for measurements. It has the same maps, and more maps that `prepare` writes.
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
        // During a reload the maps hold the old and the new contents.
        let both = |limit: u32| limit.max(1).saturating_mul(2);
        let has_syn_limit = policy.has_syn_limit();
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
            interfaces: Interfaces::none(),
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

    /// Replaces the policy in place: no map is emptied, and a source that both policies allow stays allowed.
    ///
    /// # Errors
    ///
    /// Before the first write, if the policy exceeds its limits, changes a fixed setting, or shrinks an allow set too far
    /// without `forced`. If the kernel refuses a write, the writes before it are taken back. If it refuses that too,
    /// [`FilterError::HalfApplied`]: the maps then hold ranges of both policies, and the next reload starts from there.
    pub fn reload(&mut self, policy: Policy, forced: bool) -> Result<Changes, FilterError> {
        self.policy.may_become(&policy, forced)?;
        let numbers = self.numbers.after(&policy.sets)?;
        let tables = Tables::new(&policy, &numbers)?;
        let (writes, counted) = match self.put(&policy, &numbers, &tables) {
            Ok(put) => put,
            Err(error) => return Err(self.take_back(error)),
        };
        self.counted_before.extend(counted);
        self.numbers = numbers;
        self.policy = policy;
        Ok(Changes { writes })
    }

    /// Writes a policy to the maps. Returns the number of writes, and the counters of the sets that join.
    fn put(
        &mut self,
        policy: &Policy,
        numbers: &SetNumbers,
        tables: &Tables,
    ) -> Result<(usize, Vec<(u8, u64)>), FilterError> {
        let writes = self.write(tables)?;
        self.maps.write_settings(settings(policy))?;
        // After the writes, so that the packets of the set that had the number before do not count for the new set.
        let counted = numbers.joined(&self.numbers).map(|number| Ok((number, self.maps.set_packets(number)?)));
        Ok((writes, counted.collect::<Result<_, FilterError>>()?))
    }

    /// Writes the policy in force again, after `error` interrupted its replacement. Returns the error of the reload.
    fn take_back(&mut self, error: FilterError) -> FilterError {
        let back = Tables::new(&self.policy, &self.numbers).map_err(FilterError::from);
        let back = back.and_then(|tables| self.write(&tables));
        match back.and_then(|_| self.maps.write_settings(settings(&self.policy))) {
            Ok(()) => error,
            Err(_) => FilterError::HalfApplied { source: Box::new(error) },
        }
    }

    fn write(&mut self, tables: &Tables) -> Result<usize, FilterError> {
        let Self { maps, tables: written, .. } = self;
        change(written, tables, &mut |operation| maps.apply(operation))
    }

    /// Reads the counters, and reports the state of the filter.
    ///
    /// # Errors
    ///
    /// If a counter cannot be read.
    pub fn status(&self) -> Result<Status, FilterError> {
        let sets = self.policy.sets.iter().map(|set| {
            let number = self.numbers.number(&set.name);
            let before = self.counted_before.get(&number).copied().unwrap_or(0);
            Ok(SetStatus {
                name: set.name.clone(),
                action: set.action,
                ranges_ipv4: set.count(Family::Ipv4),
                ranges_ipv6: set.count(Family::Ipv6),
                packets: self.maps.set_packets(number)?.saturating_sub(before),
            })
        });
        Ok(Status {
            mode: self.policy.mode,
            attached: self.interfaces.attached().cloned().collect(),
            sets: sets.collect::<Result<_, FilterError>>()?,
            packets: self.maps.packets()?,
            memory_bytes: self.maps.memory_bytes(),
        })
    }

    /// Which range in force decides about an address.
    pub fn explain(&self, address: IpAddr) -> Explanation {
        Explanation::new(address, &self.tables, &self.numbers)
    }

    /// The name of the set that decided about a sample; `None` if no set did, or if it has left the policy since.
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
    /// If the object file has no such program.
    pub fn program(&mut self) -> Result<&mut Xdp, FilterError> {
        let loaded = self.ebpf.programs_mut().find_map(|(_, program)| {
            let program: &mut Xdp = program.try_into().ok()?;
            program.fd().is_ok().then_some(program)
        });
        loaded.ok_or(FilterError::Object { what: PROGRAM })
    }

    /// Detaches the program from every interface, also if it is pinned.
    ///
    /// # Errors
    ///
    /// If a link cannot be removed; the other links are removed.
    pub fn stop(mut self) -> Result<(), FilterError> {
        self.with_interfaces(|interfaces, program| std::mem::replace(interfaces, Interfaces::none()).release(program))?
    }

    /// Compares the interfaces of the policy with those of the kernel, and attaches the program to those that were made again under
    /// their names. Says each change once. To attach may need privileges that the process has given up.
    ///
    /// # Errors
    ///
    /// If the object file has no program.
    pub fn look_at_interfaces(&mut self) -> Result<Vec<InterfaceChange>, FilterError> {
        self.with_interfaces(Interfaces::look)
    }

    /// Whether the program could not be attached to an interface of the policy that was made again, so that its packets are not
    /// filtered.
    pub fn has_unfiltered_interface(&self) -> bool {
        self.interfaces.has_unfiltered()
    }

    fn with_interfaces<T>(&mut self, act: impl FnOnce(&mut Interfaces, &mut Xdp) -> T) -> Result<T, FilterError> {
        let mut interfaces = std::mem::replace(&mut self.interfaces, Interfaces::none());
        let result = self.program().map(|program| act(&mut interfaces, program));
        self.interfaces = interfaces;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_object_is_aligned_and_an_elf_file() {
        assert_eq!(OBJECT.first_chunk(), Some(b"\x7fELF"));
        assert_eq!(OBJECT.as_ptr().align_offset(8), 0, "aya reads it in place");
    }
}
