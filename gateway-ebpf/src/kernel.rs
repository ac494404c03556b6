//! The program's access to the kernel: its maps, its packet, its counters.
//!
//! Owns every access to kernel memory. Must not decide: it passes the packet and the maps to [`hookgate_ebpf::decide`] and
//! carries out the decision. The names of the maps are those in [`hookgate_ebpf::names`].
//!
//! JUSTIFICATION for `unsafe`: an eBPF program reaches packets and maps through raw pointers and helper calls only. Each
//! access below is one that the kernel's verifier proves in bounds, or else it refuses to load the program.
#![expect(unsafe_code, reason = "see JUSTIFICATION above")]

use aya_ebpf::{
    bindings::{BPF_F_NO_PREALLOC, xdp_action},
    helpers::generated::bpf_ktime_get_coarse_ns,
    macros::map,
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf, lpm_trie::Key},
    programs::XdpContext,
};
use hookgate_ebpf::{
    Address, BucketKey, COARSE_PAGES, COUNTERS, Decision, DestinationKey, Entry, FRONT_PAGES, FrontPage, Lookup, Maps,
    PORT_WORDS, PORTS_PER_WORD, PRESENCE_PAGES, Packet, Rate, SETS, Sample, Segment, SetPage, Settings, Verdict,
    counter_index, take,
};

// The sizes of hashes and tries are those of an empty policy; the loader sets what the configuration asks for.

#[map]
static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);
#[map]
static PORTS: Array<u64> = Array::with_max_entries(PORT_WORDS, 0);
#[map]
static DESTINATIONS: HashMap<DestinationKey, u32> = HashMap::with_max_entries(1024, BPF_F_NO_PREALLOC);
#[map]
static COARSE_V4: Array<FrontPage> = Array::with_max_entries(COARSE_PAGES, 0);
#[map]
static FRONT_V4: Array<FrontPage> = Array::with_max_entries(FRONT_PAGES, 0);
#[map]
static SETS_V4: Array<SetPage> = Array::with_max_entries(FRONT_PAGES, 0);
#[map]
static FRONT_V6: Array<FrontPage> = Array::with_max_entries(FRONT_PAGES, 0);
#[map]
static PRESENT_V6: Array<FrontPage> = Array::with_max_entries(PRESENCE_PAGES, 0);
#[map]
static HASH_V6: HashMap<u64, Entry> = HashMap::with_max_entries(1024, BPF_F_NO_PREALLOC);
#[map]
static RANGES_V4: LpmTrie<[u8; 4], Entry> = LpmTrie::with_max_entries(1024, BPF_F_NO_PREALLOC);
#[map]
static RANGES_V6: LpmTrie<[u8; 16], Entry> = LpmTrie::with_max_entries(1024, BPF_F_NO_PREALLOC);
#[map]
static BUCKETS: LruHashMap<BucketKey, u64> = LruHashMap::with_max_entries(1024, 0);
#[map]
static PACKETS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS, 0);
#[map]
static SET_PACKETS: PerCpuArray<u64> = PerCpuArray::with_max_entries(SETS, 0);
#[map]
static SAMPLE_BUCKET: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);
#[map]
static SAMPLES: RingBuf = RingBuf::with_byte_size(64 * 1024, 0);

/// The packet under the program.
pub(crate) struct XdpPacket<'a>(pub(crate) &'a XdpContext);

/// The largest offset that is read, as a bound for the verifier: more than `packet.rs` can reach.
const MAX_OFFSET: usize = 4096;

impl Packet for XdpPacket<'_> {
    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        if offset > MAX_OFFSET {
            return None;
        }
        let at = self.0.data() + offset;
        if at + N > self.0.data_end() {
            return None;
        }
        // SAFETY: the N bytes at `at` lie before the end of the packet, as just compared; the verifier checks the same.
        Some(unsafe { *(at as *const [u8; N]) })
    }
}

/// The maps under the program.
pub(crate) struct KernelMaps;

impl Lookup for KernelMaps {
    #[inline(always)]
    fn coarse_ipv4(&self, source: u32) -> u64 {
        COARSE_V4.get(source >> 21).map_or(0, |page| page[(source >> 18) as usize & 7])
    }

    #[inline(always)]
    fn front_ipv4(&self, source: u32) -> u64 {
        FRONT_V4.get(source >> 16).map_or(0, |page| page[(source >> 13) as usize & 7])
    }

    #[inline(always)]
    fn set_ipv4(&self, source: u32) -> u8 {
        SETS_V4.get(source >> 16).map_or(0, |page| page[(source >> 8) as usize & 255])
    }

    #[inline(always)]
    fn trie_ipv4(&self, source: u32) -> Entry {
        RANGES_V4.get(Key::new(32, source.to_be_bytes())).copied().unwrap_or(Entry::NONE)
    }

    #[inline(always)]
    fn front_ipv6(&self, high: u64) -> u64 {
        FRONT_V6.get((high >> 48) as u32).map_or(0, |page| page[(high >> 45) as usize & 7])
    }

    #[inline(always)]
    fn presence_ipv6(&self, bit: u32) -> u64 {
        PRESENT_V6.get(bit / 512).map_or(0, |page| page[(bit / 64) as usize & 7])
    }

    #[inline(always)]
    fn hash_ipv6(&self, key: u64) -> Option<Entry> {
        // SAFETY: the value is one aligned word, copied at once. The kernel may give its memory to another key while we
        // copy; then this packet gets the other key's answer, once, and TCP sends it again.
        unsafe { HASH_V6.get(key) }.copied()
    }

    #[inline(always)]
    fn trie_ipv6(&self, source: Address) -> Entry {
        RANGES_V6.get(Key::new(128, source.to_bytes())).copied().unwrap_or(Entry::NONE)
    }
}

impl Maps for KernelMaps {
    #[inline(always)]
    fn settings(&self) -> Option<&Settings> {
        SETTINGS.get(0)
    }

    #[inline(always)]
    fn port_word(&self, port: u16) -> u64 {
        PORTS.get(u32::from(port) / PORTS_PER_WORD).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn is_destination(&self, key: &DestinationKey) -> bool {
        // SAFETY: only the presence of the value is looked at.
        unsafe { DESTINATIONS.get(key) }.is_some()
    }

    #[inline(always)]
    fn take(&self, key: &BucketKey, rate: Rate) -> bool {
        let now = now();
        match BUCKETS.get_ptr_mut(key) {
            Some(bucket) => take_from(bucket, rate, now),
            None => {
                // A full table evicts its least recently used bucket; if that fails too, the packet passes.
                if let Some(due) = take(rate, 0, now) {
                    let _ = BUCKETS.insert(key, due, 0);
                }
                true
            }
        }
    }
}

/// Takes a token from a bucket in a map.
#[inline(always)]
fn take_from(bucket: *mut u64, rate: Rate, now: u64) -> bool {
    // SAFETY: `bucket` is the value of a map, as the helper returned it: one aligned word. Another CPU may write it at the
    // same moment; either's word is a valid state, and the limit is then off by one event.
    match take(rate, unsafe { bucket.read_volatile() }, now) {
        Some(due) => {
            // SAFETY: as above.
            unsafe { bucket.write_volatile(due) };
            true
        }
        None => false,
    }
}

/// Nanoseconds since boot, at the resolution of the timer tick (1 to 10 ms): a tenth of the cost of the precise clock.
#[inline(always)]
fn now() -> u64 {
    // SAFETY: the helper takes nothing and touches nothing.
    unsafe { bpf_ktime_get_coarse_ns() }
}

/// Counts and samples a decision, and translates it for the kernel.
#[inline(always)]
pub(crate) fn act(context: &XdpContext, decision: Option<Decision>) -> u32 {
    let Some(decision) = decision else { return xdp_action::XDP_PASS };
    count(PACKETS.get_ptr_mut(counter_index(decision.family, decision.verdict, decision.reason)));
    if decision.set != 0 {
        count(SET_PACKETS.get_ptr_mut(u32::from(decision.set)));
    }
    if let Some(segment) = &decision.segment {
        sample(context, &decision, segment);
    }
    if decision.verdict as u8 == Verdict::Drop as u8 { xdp_action::XDP_DROP } else { xdp_action::XDP_PASS }
}

#[inline(always)]
fn count(cell: Option<*mut u64>) {
    if let Some(cell) = cell {
        // SAFETY: a cell of a per-CPU map, which no other CPU writes; programs of this type do not interrupt one another.
        unsafe { *cell += 1 }
    }
}

#[inline(always)]
fn sample(context: &XdpContext, decision: &Decision, segment: &Segment) {
    let Some(rate) = SETTINGS.get(0).map(|settings| settings.samples) else { return };
    let Some(bucket) = SAMPLE_BUCKET.get_ptr_mut(0) else { return };
    if rate.interval_ns == 0 || !take_from(bucket, rate, now()) {
        return;
    }
    // A full ring buffer loses the sample; the counters do not.
    let Some(mut record) = SAMPLES.reserve::<Sample>(0) else { return };
    record.write(Sample {
        source: segment.source,
        destination: segment.destination,
        interface: context.ingress_ifindex() as u32,
        source_port: segment.source_port,
        destination_port: segment.destination_port,
        family: decision.family as u8,
        verdict: decision.verdict as u8,
        reason: decision.reason as u8,
        set: decision.set,
        reserved: 0,
    });
    record.submit(0);
}
