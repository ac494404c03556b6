//! Why the filter does not run, or why a change did not take effect.
//!
//! Owns the errors of the crate, and what an error of aya or the kernel means. Must not do what can fail.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;
use rustix::io::Errno;

use crate::policy::{AttachMode, PolicyError};

/// Why the filter does not run, or why a change did not take effect. Each text is one sentence for the operator.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// The policy cannot take effect.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The process lacks a privilege.
    ///
    /// CAP_BPF allows creating maps and programs, CAP_NET_ADMIN allows creating and attaching programs that see packets.
    /// CAP_PERFMON allows reading headers at an offset that depends on the packet (after IPv4 options or IPv6 extension
    /// headers): without it the verifier refuses every pointer to which such a number was added (`sanitize_ptr_alu` in
    /// kernel/bpf/verifier.c). After the program is attached, the filter needs none of them.
    #[error(
        "the kernel does not permit the filter to {what}: the process needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON when it \
         starts, and a system call filter that allows bpf()"
    )]
    NotPermitted {
        /// The step that failed.
        what: &'static str,
    },
    /// The kernel lacks a feature.
    #[error("the kernel cannot {what}: the filter needs Linux 5.11 or newer with CONFIG_BPF_SYSCALL ({source})")]
    Unsupported {
        /// The step that failed.
        what: &'static str,
        /// The error of the kernel.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Another program is attached.
    #[error(
        "interface {interface} already carries another XDP program, and the filter does not replace it: detach it (`ip link \
         set dev {interface} xdp off`), or remove the interface from the filter"
    )]
    Occupied {
        /// The interface.
        interface: String,
    },
    /// There is no such interface.
    #[error("there is no interface {interface}")]
    UnknownInterface {
        /// As configured.
        interface: String,
    },
    /// The kernel cannot be asked about interfaces.
    #[error("the filter cannot watch its interfaces: {source}")]
    Interfaces {
        /// The error of the kernel.
        source: io::Error,
    },
    /// The driver or the kernel refuses the program.
    #[error("interface {interface} cannot run the filter in {} mode: {source}", mode.label())]
    Attach {
        /// The interface.
        interface: String,
        /// The mode that was tried.
        mode: AttachMode,
        /// The error of the kernel.
        source: io::Error,
    },
    /// A pinned link cannot be made, taken over or removed.
    #[error("the pinned filter at {} cannot be used: {source}", path.display())]
    Pin {
        /// The file of the link.
        path: PathBuf,
        /// The error of the kernel.
        source: io::Error,
    },
    /// A link that is not pinned cannot be removed.
    #[error("the filter cannot be detached from an interface: {source}")]
    Detach {
        /// The error of aya or of the kernel.
        source: io::Error,
    },
    /// A map cannot be opened, read or written.
    #[error("map {map} of the filter cannot be used")]
    Map {
        /// The name of the map.
        map: &'static str,
        /// The error of aya or of the kernel.
        source: MapError,
    },
    /// The kernel refused a write of a reload, and then a write that would have taken the earlier ones back.
    #[error(
        "the kernel refused a change of the filter half-way, and refused to take it back: sources that the old and the new \
         configuration both allow pass, and others may pass or not; reload again, or restart"
    )]
    HalfApplied {
        /// The first error.
        source: Box<FilterError>,
    },
    /// The object file does not fit this version.
    #[error("the filter's object has no {what}")]
    Object {
        /// The name of the missing map or program.
        what: &'static str,
    },
}

impl FilterError {
    /// From an error while the kernel creates the maps or verifies the program.
    pub(super) fn load(error: EbpfError) -> Self {
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
            // dev_xdp_attach in net/core/dev.c: BUSY for a program in the same mode, EXIST for one in the other mode.
            Some(Errno::BUSY | Errno::EXIST) => Self::Occupied { interface },
            _ => Self::Attach { interface, mode, source },
        }
    }
}

/// The system call's error in the chain of an error of aya; if there is none, that error itself.
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
