//! What the backends share about sending.
//!
//! Owns one system call and one bound. Must not know sockets or rings.

use std::io::IoSlice;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags};

/// Largest send buffer in bytes that a connection keeps for its next send.
pub(crate) const SPARE_MAX: usize = 4 * 1024;

/// Sends what the socket has room for now. Fails with `EAGAIN` if it has no room, even if the socket is blocking.
pub(crate) fn send_slices(descriptor: &OwnedFd, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::sendmsg(descriptor, slices, &mut SendAncillaryBuffer::default(), flags)
}
