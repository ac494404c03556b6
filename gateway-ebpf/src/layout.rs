//! The layout of the maps: what the daemon writes and the program reads, and the other way round.
//!
//! Every type here is plain memory: `repr(C)` or a transparent integer, no padding, no pointer. Must not hold any logic
//! beyond packing and unpacking.

/// Pages of a front table: one for each value of the first 16 bits of an address.
pub const FRONT_PAGES: u32 = 1 << 16;

/// Two-bit states in one 64-bit word of a front table or of the port table.
pub const FRONT_STATES_PER_WORD: u32 = 32;

/// Ports in one word of the port table.
pub const PORTS_PER_WORD: u32 = 32;

/// Words of the port table: 2 bits for each of 65,536 ports.
pub const PORT_WORDS: u32 = 65_536 / PORTS_PER_WORD;

/// Named range sets that can be told apart, with 0 for "none": a set is one byte, so that a /24 costs one byte.
pub const SETS: u32 = 256;

/// Cells of the packet counters: see [`counter_index`].
pub const COUNTERS: u32 = Family::COUNT * Verdict::COUNT * Reason::COUNT;

/// Pages of the coarse IPv4 table, of 512 bits each: one bit for every /20 says whether any range touches it. 128 KiB, which
/// stays in a core's cache where the 4 MiB of the front table do not.
pub const COARSE_PAGES: u32 = (1 << 20) / 512;

/// Bits that say which keys may be in the IPv6 hash: 256 KiB, which stays in a core's cache where the hash does not. With
/// 100,000 keys one bit in twenty is set, which avoids 19 of 20 failing lookups.
pub const PRESENCE_BITS: u32 = 1 << 21;

/// Pages of them: see [`FrontPage`].
pub const PRESENCE_PAGES: u32 = PRESENCE_BITS / 512;

/// The states of the 256 prefixes of length /24 below one /16, two bits each, least significant first: one cache line.
pub type FrontPage = [u64; 8];

/// The named range set of each /24 below one /16; read only where the front page says that the /24 has one answer.
pub type SetPage = [u8; 256];

/// The names of the maps, in the object and in bpffs. The kernel keeps 15 bytes of a name.
pub mod names {
    /// One [`super::Settings`].
    pub const SETTINGS: &str = "SETTINGS";
    /// [`super::PORT_WORDS`] words of [`super::PortState`].
    pub const PORTS: &str = "PORTS";
    /// Hash of [`super::DestinationKey`]: the addresses of ports that are filtered at some addresses only.
    pub const DESTINATIONS: &str = "DESTINATIONS";
    /// [`super::COARSE_PAGES`] pages over IPv4 sources.
    pub const COARSE_V4: &str = "COARSE_V4";
    /// [`super::FRONT_PAGES`] pages over IPv4 sources.
    pub const FRONT_V4: &str = "FRONT_V4";
    /// [`super::FRONT_PAGES`] pages of set numbers over IPv4 sources.
    pub const SETS_V4: &str = "SETS_V4";
    /// [`super::FRONT_PAGES`] pages over the first 24 bits of IPv6 sources.
    pub const FRONT_V6: &str = "FRONT_V6";
    /// [`super::PRESENCE_PAGES`] pages of bits by [`super::presence_bit`].
    pub const PRESENT_V6: &str = "PRESENT_V6";
    /// Hash of [`super::front_key_32`] and [`super::front_key_48`] to [`super::Entry`].
    pub const HASH_V6: &str = "HASH_V6";
    /// Longest-prefix trie over IPv4: every range.
    pub const RANGES_V4: &str = "RANGES_V4";
    /// Longest-prefix trie over IPv6: every range.
    pub const RANGES_V6: &str = "RANGES_V6";
    /// LRU hash of [`super::BucketKey`] to the bucket's theoretical arrival time in nanoseconds.
    pub const BUCKETS: &str = "BUCKETS";
    /// Per CPU: packets by [`super::counter_index`].
    pub const PACKETS: &str = "PACKETS";
    /// Per CPU: packets by named range set.
    pub const SET_PACKETS: &str = "SET_PACKETS";
    /// Per CPU: the bucket that bounds the samples.
    pub const SAMPLE_BUCKET: &str = "SAMPLE_BUCKET";
    /// Ring buffer of [`super::Sample`].
    pub const SAMPLES: &str = "SAMPLES";
}

/// Whether the filter acts. Discriminants are the map's values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u64)]
pub enum Mode {
    /// Everything passes, nothing is counted: the state of a map before its first write.
    #[default]
    Off = 0,
    /// Everything passes; packets that enforcement would drop are counted.
    Monitor = 1,
    /// Foreign packets are dropped.
    Enforce = 2,
}

/// A rate with a burst, as the generic cell rate algorithm takes it (ITU-T I.371): no division in the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Rate {
    /// Nanoseconds between two events at the sustained rate. 0 switches the limit off.
    pub interval_ns: u64,
    /// How far ahead of the sustained rate a burst may run, in nanoseconds: the interval times the burst.
    pub tolerance_ns: u64,
}

impl Rate {
    /// No limit.
    pub const UNLIMITED: Self = Self { interval_ns: 0, tolerance_ns: 0 };

    /// At most `per_second` events a second after a burst of `burst`; 0 a second is no limit. A burst is at least 1.
    pub const fn per_second(per_second: u32, burst: u32) -> Self {
        if per_second == 0 {
            return Self::UNLIMITED;
        }
        let interval_ns = 1_000_000_000 / per_second as u64;
        let interval_ns = if interval_ns == 0 { 1 } else { interval_ns };
        let burst = if burst == 0 { 1 } else { burst };
        Self { interval_ns, tolerance_ns: interval_ns * burst as u64 }
    }
}

/// What applies to every packet. Each word is read on its own, so that an update needs no lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Settings {
    /// A [`Mode`]; any other value is [`Mode::Off`].
    pub mode: u64,
    /// SYNs of one IPv4 address.
    pub syn_ipv4_address: Rate,
    /// SYNs of one IPv4 /24.
    pub syn_ipv4_network: Rate,
    /// SYNs of one IPv6 /64.
    pub syn_ipv6_network: Rate,
    /// Samples of drops, on each CPU.
    pub samples: Rate,
}

impl Settings {
    /// Whether any SYN rate is limited, so that buckets are needed.
    pub const fn has_syn_limit(&self) -> bool {
        self.syn_ipv4_address.interval_ns | self.syn_ipv4_network.interval_ns | self.syn_ipv6_network.interval_ns != 0
    }

    /// The words of the map's value.
    pub const fn to_words(self) -> [u64; size_of::<Self>() / 8] {
        let Self { mode, syn_ipv4_address: a, syn_ipv4_network: b, syn_ipv6_network: c, samples: d } = self;
        [
            mode,
            a.interval_ns,
            a.tolerance_ns,
            b.interval_ns,
            b.tolerance_ns,
            c.interval_ns,
            c.tolerance_ns,
            d.interval_ns,
            d.tolerance_ns,
        ]
    }
}

/// An IPv6 address, or an IPv4 address in its IPv4-mapped form (RFC 4291, section 2.5.5.2), as two numbers: the program has
/// 512 bytes of stack, and numbers stay in registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct Address {
    /// The first 64 bits.
    pub high: u64,
    /// The last 64 bits.
    pub low: u64,
}

impl Address {
    /// `::ffff:a.b.c.d` of an IPv4 address.
    #[inline(always)]
    pub const fn from_ipv4(address: u32) -> Self {
        Self { high: 0, low: 0xffff_0000_0000 | address as u64 }
    }

    /// The address whose bytes in network order these are.
    pub const fn from_ipv6(bytes: [u8; 16]) -> Self {
        let address = u128::from_be_bytes(bytes);
        Self { high: (address >> 64) as u64, low: address as u64 }
    }

    /// The last 32 bits: the IPv4 address of an IPv4-mapped one.
    #[inline(always)]
    pub const fn ipv4(self) -> u32 {
        self.low as u32
    }

    /// The bytes in network order.
    #[inline(always)]
    pub const fn to_bytes(self) -> [u8; 16] {
        let ([a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]) = (self.high.to_be_bytes(), self.low.to_be_bytes());
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }
}

/// How a TCP port is filtered: two bits in the port table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PortState {
    /// Not at all: packets to it pass untouched.
    Open = 0,
    /// At every destination address.
    Everywhere = 1,
    /// At the addresses in `DESTINATIONS` only.
    Listed = 2,
}

/// A destination address at which a [`PortState::Listed`] port is filtered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct DestinationKey {
    /// The address.
    pub address: Address,
    /// The TCP port.
    pub port: u64,
}

impl DestinationKey {
    /// The words of the map's key.
    pub const fn to_words(self) -> [u64; 3] {
        [self.address.high, self.address.low, self.port]
    }
}

/// The source prefix of a SYN bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct BucketKey {
    /// The first 64 bits of an IPv6 source, or the (masked) IPv4 source.
    pub prefix: u64,
    /// The length of the prefix, in bits of its family: 24 or 32 for IPv4, 64 for IPv6.
    pub length: u64,
}

/// What a range does to the packets of its sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Action {
    /// They pass.
    Allow = 1,
    /// They are dropped, whatever allow range they are in.
    Deny = 2,
}

/// Where a lookup goes after an [`Entry`] of the IPv6 hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The entry is the answer.
    Done,
    /// The /48 entry answers, and this one if there is none.
    Longer,
    /// The trie answers.
    Trie,
}

/// A value of the tries and of the IPv6 hash: action (2 bits), set (8 bits) and next step (2 bits).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Entry(pub u32);

impl Entry {
    const ACTION_SHIFT: u32 = 8;
    const STEP_SHIFT: u32 = 16;

    /// No range: nothing allows or denies.
    pub const NONE: Self = Self(0);
    /// Ask the trie.
    pub const TRIE: Self = Self(2 << Self::STEP_SHIFT);

    /// `action`, by the named range set `set`.
    #[inline(always)]
    pub const fn new(action: Action, set: u8) -> Self {
        Self(((action as u32) << Self::ACTION_SHIFT) | set as u32)
    }

    /// The same answer, for sources whose /48 has no entry.
    pub const fn unless_longer(self) -> Self {
        Self(self.0 | (1 << Self::STEP_SHIFT))
    }

    /// The action; `None` if no range covers the source.
    #[inline(always)]
    pub const fn action(self) -> Option<Action> {
        match (self.0 >> Self::ACTION_SHIFT) & 3 {
            1 => Some(Action::Allow),
            2 => Some(Action::Deny),
            _ => None,
        }
    }

    /// The named range set; 0 if there is none.
    #[inline(always)]
    pub const fn set(self) -> u8 {
        self.0 as u8
    }

    /// The next step of the lookup. Unknown steps go to the trie, which knows every range.
    #[inline(always)]
    pub const fn step(self) -> Step {
        match (self.0 >> Self::STEP_SHIFT) & 3 {
            0 => Step::Done,
            1 => Step::Longer,
            _ => Step::Trie,
        }
    }
}

/// The key of the /32 entry for an IPv6 source, given its first 64 bits.
#[inline(always)]
pub const fn front_key_32(high: u64) -> u64 {
    (high & 0xffff_ffff_0000_0000) | 32
}

/// The key of the /48 entry for an IPv6 source, given its first 64 bits.
#[inline(always)]
pub const fn front_key_48(high: u64) -> u64 {
    (high & 0xffff_ffff_ffff_0000) | 48
}

/// The bit of a key of the IPv6 hash: Fibonacci hashing (Knuth, The Art of Computer Programming, volume 3, section 6.4).
#[inline(always)]
pub const fn presence_bit(key: u64) -> u32 {
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - PRESENCE_BITS.trailing_zeros())) as u32
}

/// The family of a packet, as counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Family {
    /// Neither IPv4 nor IPv6.
    Other = 0,
    /// IPv4.
    Ipv4 = 1,
    /// IPv6.
    Ipv6 = 2,
}

impl Family {
    /// How many there are.
    pub const COUNT: u32 = 3;
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Other, Self::Ipv4, Self::Ipv6];

    /// The metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        }
    }
}

/// What was done with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Verdict {
    /// It went on to the kernel's network stack.
    Pass = 0,
    /// It was dropped.
    Drop = 1,
    /// It went on, because the mode is [`Mode::Monitor`]; enforcement would have dropped it.
    WouldDrop = 2,
}

impl Verdict {
    /// How many there are.
    pub const COUNT: u32 = 3;
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Pass, Self::Drop, Self::WouldDrop];

    /// The metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Drop => "drop",
            Self::WouldDrop => "would_drop",
        }
    }
}

/// Why a packet passed or was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reason {
    /// Passed: not TCP to a filtered destination.
    NotFiltered = 0,
    /// Passed: a fragment other than the first, which is useless without the first.
    LaterFragment = 1,
    /// Passed: ends before its TCP ports, so that the kernel discards it too.
    Truncated = 2,
    /// Passed: the source is in an allow range.
    Allowed = 3,
    /// Dropped: the source is in a deny range.
    Denied = 4,
    /// Dropped: the source is in no range.
    NoRange = 5,
    /// Dropped: the source is allowed, but sends SYNs too fast.
    SynRate = 6,
    /// Dropped: more IPv6 extension headers than are followed, from a source that is not allowed.
    HeaderChain = 7,
}

impl Reason {
    /// How many there are.
    pub const COUNT: u32 = 8;
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::NotFiltered,
        Self::LaterFragment,
        Self::Truncated,
        Self::Allowed,
        Self::Denied,
        Self::NoRange,
        Self::SynRate,
        Self::HeaderChain,
    ];

    /// The metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::NotFiltered => "not_filtered",
            Self::LaterFragment => "later_fragment",
            Self::Truncated => "truncated",
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::NoRange => "no_range",
            Self::SynRate => "syn_rate",
            Self::HeaderChain => "header_chain",
        }
    }
}

/// The cell of the packet counters for this family, verdict and reason.
#[inline(always)]
pub const fn counter_index(family: Family, verdict: Verdict, reason: Reason) -> u32 {
    (family as u32 * Verdict::COUNT + verdict as u32) * Reason::COUNT + reason as u32
}

/// One dropped packet (or one that would have been), for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Sample {
    /// The source.
    pub source: Address,
    /// The destination.
    pub destination: Address,
    /// The index of the interface on which it arrived.
    pub interface: u32,
    /// The TCP source port; 0 if the header chain was not followed to its end.
    pub source_port: u16,
    /// The TCP destination port; 0 likewise.
    pub destination_port: u16,
    /// A [`Family`].
    pub family: u8,
    /// A [`Verdict`].
    pub verdict: u8,
    /// A [`Reason`].
    pub reason: u8,
    /// The named range set; 0 if there is none.
    pub set: u8,
    /// Fills the record up to its alignment.
    pub reserved: u32,
}

impl Sample {
    /// The size of a record in the ring buffer, in bytes.
    pub const SIZE: usize = size_of::<Self>();

    /// Reads a record of the ring buffer; `None` if it has another size.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::SIZE] = bytes.try_into().ok()?;
        let (source, rest) = split_address(bytes)?;
        let (destination, rest) = split_address(rest)?;
        let (interface, rest) = rest.split_first_chunk::<4>()?;
        let (source_port, rest) = rest.split_first_chunk::<2>()?;
        let (destination_port, rest) = rest.split_first_chunk::<2>()?;
        let &[family, verdict, reason, set, ..] = rest else { return None };
        Some(Self {
            source,
            destination,
            interface: u32::from_ne_bytes(*interface),
            source_port: u16::from_ne_bytes(*source_port),
            destination_port: u16::from_ne_bytes(*destination_port),
            family,
            verdict,
            reason,
            set,
            reserved: 0,
        })
    }
}

fn split_address(bytes: &[u8]) -> Option<(Address, &[u8])> {
    let (high, rest) = bytes.split_first_chunk::<8>()?;
    let (low, rest) = rest.split_first_chunk::<8>()?;
    Some((Address { high: u64::from_ne_bytes(*high), low: u64::from_ne_bytes(*low) }, rest))
}
