//! The XDP program: reads a packet, decides by [`hookgate_ebpf::decide`], counts, and passes or drops.
//!
//! Built for bpfel-unknown-none by `cargo xtask ebpf`. Must not hold any logic of its own.
#![no_std]
#![no_main]

mod kernel;

use aya_ebpf::{macros::xdp, programs::XdpContext};
use hookgate_ebpf::decide;
use kernel::{KernelMaps, XdpPacket, act};

/// The filter.
#[xdp]
fn hookgate(context: XdpContext) -> u32 {
    act(&context, decide(&XdpPacket(&context), &KernelMaps))
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
