//! The filter next to a plain longest-prefix trie, for measurements with `BPF_PROG_TEST_RUN`.
//!
//! A test run repeats one packet, so these programs write a random source into it first; `baseline` does nothing else, and
//! measures the harness. Never attached to an interface.
//!
//! JUSTIFICATION for `unsafe`: as in `kernel.rs`; the packet is written to besides.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "see JUSTIFICATION above")]

#[path = "../kernel.rs"]
mod kernel;

use aya_ebpf::{
    bindings::xdp_action,
    helpers::generated::bpf_get_prandom_u32,
    macros::{map, xdp},
    maps::Array,
    programs::XdpContext,
};
use hookgate_ebpf::{Address, BucketKey, DestinationKey, Entry, Lookup, Maps, Rate, Settings, decide};
use kernel::{KernelMaps, XdpPacket, act};

/// The sources of a measurement: `base` with the bits of `mask` random. IPv4 uses the last of the four words.
#[map]
static SOURCES: Array<SourcePattern> = Array::with_max_entries(1, 0);

/// See [`SOURCES`].
#[derive(Clone, Copy)]
#[repr(C)]
struct SourcePattern {
    base: [u32; 4],
    mask: [u32; 4],
}

/// The maps without their front tables: every lookup asks the trie.
struct TrieOnly;

impl Lookup for TrieOnly {
    #[inline(always)]
    fn coarse_ipv4(&self, _: u32) -> u64 {
        !0
    }

    #[inline(always)]
    fn front_ipv4(&self, _: u32) -> u64 {
        !0
    }

    #[inline(always)]
    fn set_ipv4(&self, _: u32) -> u8 {
        0
    }

    #[inline(always)]
    fn trie_ipv4(&self, source: u32) -> Entry {
        KernelMaps.trie_ipv4(source)
    }

    #[inline(always)]
    fn front_ipv6(&self, _: u64) -> u64 {
        !0
    }

    #[inline(always)]
    fn presence_ipv6(&self, _: u32) -> u64 {
        0
    }

    #[inline(always)]
    fn hash_ipv6(&self, _: u64) -> Option<Entry> {
        None
    }

    #[inline(always)]
    fn trie_ipv6(&self, source: Address) -> Entry {
        KernelMaps.trie_ipv6(source)
    }
}

impl Maps for TrieOnly {
    #[inline(always)]
    fn settings(&self) -> Option<&Settings> {
        KernelMaps.settings()
    }

    #[inline(always)]
    fn port_word(&self, port: u16) -> u64 {
        KernelMaps.port_word(port)
    }

    #[inline(always)]
    fn is_destination(&self, key: &DestinationKey) -> bool {
        KernelMaps.is_destination(key)
    }

    #[inline(always)]
    fn take(&self, key: &BucketKey, rate: Rate) -> bool {
        KernelMaps.take(key, rate)
    }
}

/// The harness alone.
#[xdp]
fn baseline(context: XdpContext) -> u32 {
    randomize(&context);
    xdp_action::XDP_PASS
}

/// The filter as it is.
#[xdp]
fn filter(context: XdpContext) -> u32 {
    randomize(&context);
    act(&context, decide(&XdpPacket(&context), &KernelMaps))
}

/// The filter by its tries alone.
#[xdp]
fn trie_only(context: XdpContext) -> u32 {
    randomize(&context);
    act(&context, decide(&XdpPacket(&context), &TrieOnly))
}

/// Writes a random source into an untagged IPv4 or IPv6 packet.
#[inline(always)]
fn randomize(context: &XdpContext) {
    let Some(pattern) = SOURCES.get(0) else { return };
    let (start, end) = (context.data(), context.data_end());
    if start + 38 > end {
        return;
    }
    // SAFETY: byte 12 lies before the end, as compared above.
    let is_ipv6 = unsafe { *((start + 12) as *const u8) } == 0x86;
    if is_ipv6 {
        for word in 0..4 {
            write(start + 22 + word * 4, random(pattern, word));
        }
    } else {
        write(start + 26, random(pattern, 3));
    }
}

#[inline(always)]
fn random(pattern: &SourcePattern, word: usize) -> u32 {
    // SAFETY: the helper takes nothing and touches nothing.
    pattern.base[word] ^ (unsafe { bpf_get_prandom_u32() } & pattern.mask[word])
}

#[inline(always)]
fn write(at: usize, value: u32) {
    // SAFETY: the caller compared with the end of the packet: 22 + 16 = 38 bytes.
    unsafe { *(at as *mut [u8; 4]) = value.to_be_bytes() }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
