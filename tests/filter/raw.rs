//! Raw frames onto an interface.
//!
//! JUSTIFICATION for `unsafe`: no crate in use can make the address of a packet socket, which is a C struct.
#![expect(unsafe_code, reason = "see JUSTIFICATION above")]

use std::io;

use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

/// Sends frames out of an interface of the current network namespace.
pub(crate) struct RawSocket(Socket);

impl RawSocket {
    pub(crate) fn new(interface: &str) -> io::Result<Self> {
        let index = rustix::net::netdevice::name_to_index(
            rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?,
            interface,
        )?;
        // Protocol 0 receives nothing, so that no frame queues up here.
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
        let mut storage = SockAddrStorage::zeroed();
        // SAFETY: `sockaddr_ll` is plain memory, for which zeros are valid, and no larger than the storage of any address.
        let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = index as i32;
        // SAFETY: the storage holds a `sockaddr_ll` of its family, as just written.
        let address = unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as u32) };
        socket.bind(&address)?;
        Ok(Self(socket))
    }

    pub(crate) fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.0.send(frame).map(drop)
    }
}
