//! How much of what was sent a TCP peer has acknowledged.
//!
//! Owns one socket option, which rustix does not have. Must not judge whether that is enough: [`crate::sweep`] does.
//!
//! JUSTIFICATION for `unsafe`: getsockopt(2) fills memory of the caller.
#![expect(unsafe_code, reason = "one system call; see its SAFETY comment")]

use std::os::fd::{AsRawFd, OwnedFd};

/// Where `tcpi_bytes_acked` ends in `struct tcp_info` (include/uapi/linux/tcp.h, since Linux 4.1): 8 bytes, 24 times 4, and 3 times 8.
const ACKED_END: usize = 8 + 24 * 4 + 3 * 8;

/// Bytes of the stream that the peer's kernel has acknowledged since the connection was made. `None` if the socket is not TCP.
pub(crate) fn acknowledged(descriptor: &OwnedFd) -> Option<u64> {
    let mut info = [0_u8; ACKED_END];
    let mut length = libc::socklen_t::try_from(info.len()).ok()?;
    // SAFETY: the kernel writes at most `length` bytes to `info`, which has as many, and the number of bytes to `length`.
    let result = unsafe {
        libc::getsockopt(
            descriptor.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 || usize::try_from(length).ok()? < ACKED_END {
        return None;
    }
    info.last_chunk().copied().map(u64::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_a_peer_has_received_is_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut theirs, _) = listener.accept().unwrap();
        ours.write_all(&[0; 1000]).unwrap();
        theirs.read_exact(&mut [0; 1000]).unwrap();
        // An acknowledgement goes with the answer.
        theirs.write_all(b"x").unwrap();
        ours.read_exact(&mut [0; 1]).unwrap();
        // The kernel may count the SYN.
        assert!((1000..=1001).contains(&acknowledged(&ours.into()).unwrap()));
        assert_eq!(acknowledged(&UnixStream::pair().unwrap().0.into()), None);
    }
}
