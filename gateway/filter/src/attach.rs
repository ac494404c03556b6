//! From a loaded program to interfaces that run it, and back.
//!
//! Owns the choice between native and generic mode, and the links, pinned or not. It never replaces a program that is not
//! ours: the kernel refuses to, and that is reported. Without a pin the kernel detaches the program when this process ends,
//! however it ends.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::{XdpLink, XdpLinkId};
use aya::programs::{Xdp, XdpMode};

use crate::loader::{FilterError, io_error};
use crate::policy::Attach;

/// Where in the receive path an interface runs the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachMode {
    /// In the driver.
    Native,
    /// In the network stack.
    Generic,
}

impl AttachMode {
    /// The metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    const fn xdp(self) -> XdpMode {
        match self {
            Self::Native => XdpMode::Driver,
            Self::Generic => XdpMode::Skb,
        }
    }
}

/// An interface that runs the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Its name.
    pub interface: String,
    /// How.
    pub mode: AttachMode,
    /// Why not natively, where that was tried; or that a pinned filter was taken over.
    pub note: Option<String>,
}

/// A link that goes with the process, or the path at which it stays.
pub(super) enum Hold {
    /// Ends when the program is dropped.
    Owned(XdpLinkId),
    /// Stays until its file is removed.
    Pinned(PathBuf),
}

/// Attaches a program to one interface.
pub(super) fn attach(
    program: &mut Xdp,
    interface: &str,
    wanted: Attach,
    pin: Option<&Path>,
) -> Result<(Attached, Hold), FilterError> {
    if let Some(directory) = pin
        && let Some(taken) = take_over(program, interface, directory)?
    {
        return Ok(taken);
    }
    let modes: &[AttachMode] = match wanted {
        Attach::Auto => &[AttachMode::Native, AttachMode::Generic],
        Attach::Native => &[AttachMode::Native],
        Attach::Generic => &[AttachMode::Generic],
    };
    let mut note = None;
    for (index, mode) in modes.iter().enumerate() {
        match program.attach(interface, mode.xdp()) {
            Ok(link) => {
                let hold = hold(program, link, pin.map(|directory| pin_path(directory, interface, *mode)))?;
                return Ok((Attached { interface: interface.to_owned(), mode: *mode, note }, hold));
            }
            Err(source) => {
                let error = FilterError::attach(interface, *mode, source);
                let is_last = index + 1 == modes.len();
                if is_last || !matches!(error, FilterError::Attach { .. }) {
                    return Err(error);
                }
                note = Some(error.to_string());
            }
        }
    }
    unreachable!("the last mode returns")
}

/// Replaces the program behind a link that an earlier process of ours has pinned: no packet passes unfiltered in between.
fn take_over(program: &mut Xdp, interface: &str, directory: &Path) -> Result<Option<(Attached, Hold)>, FilterError> {
    for mode in [AttachMode::Native, AttachMode::Generic] {
        let path = pin_path(directory, interface, mode);
        if !path.exists() {
            continue;
        }
        let pinned = PinnedLink::from_pin(&path);
        let replaced = pinned.map_err(io_error).and_then(|pinned| {
            let link = XdpLink::try_from(FdLink::from(pinned)).map_err(io_error)?;
            program.attach_to_link(link).map_err(io_error)
        });
        match replaced {
            Ok(_) => {
                let note = Some(format!("took over the filter pinned at {}", path.display()));
                return Ok(Some((Attached { interface: interface.to_owned(), mode, note }, Hold::Pinned(path))));
            }
            // The interface is gone, and another has its name now: what is pinned filters nothing.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOLINK.raw_os_error()) => {
                fs::remove_file(&path).map_err(|source| FilterError::Pin { path, source })?;
            }
            Err(source) => return Err(FilterError::Pin { path, source }),
        }
    }
    Ok(None)
}

fn hold(program: &mut Xdp, link: XdpLinkId, path: Option<PathBuf>) -> Result<Hold, FilterError> {
    let Some(path) = path else { return Ok(Hold::Owned(link)) };
    let pin = |program: &mut Xdp| {
        let link = program.take_link(link).map_err(io_error)?;
        let link = FdLink::try_from(link).map_err(io_error)?;
        link.pin(&path).map_err(io_error)
    };
    match pin(program) {
        // Dropped, it closes its descriptor; the file keeps the link.
        Ok(_pinned) => Ok(Hold::Pinned(path)),
        Err(source) => Err(FilterError::Pin { path, source }),
    }
}

/// Detaches what is pinned too.
pub(super) fn release(program: &mut Xdp, hold: Hold) -> Result<(), FilterError> {
    match hold {
        Hold::Owned(link) => {
            program.detach(link).map_err(|source| FilterError::Pin { path: PathBuf::new(), source: io_error(source) })
        }
        Hold::Pinned(path) => match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FilterError::Pin { path, source: error }),
            _ => Ok(()),
        },
    }
}

/// What is pinned in `directory`, but for these interfaces: it goes on dropping by its last ranges, whatever else runs.
pub fn pinned(directory: &Path, but_for: &[String]) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let own = |path: &PathBuf| {
        let paths = but_for.iter().flat_map(|interface| {
            [AttachMode::Native, AttachMode::Generic].map(|mode| pin_path(directory, interface, mode))
        });
        paths.into_iter().any(|own| own == *path)
    };
    entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| !own(path)).collect()
}

/// Removes everything that is pinned in `directory`, and says what that was.
///
/// # Errors
///
/// Where something cannot be removed.
pub fn unpin(directory: &Path) -> Result<Vec<PathBuf>, FilterError> {
    let paths = pinned(directory, &[]);
    for path in &paths {
        fs::remove_file(path).map_err(|source| FilterError::Pin { path: path.clone(), source })?;
    }
    Ok(paths)
}

/// The file of a pinned link. bpffs keeps names with a dot for itself, and an interface's name has no colon.
fn pin_path(directory: &Path, interface: &str, mode: AttachMode) -> PathBuf {
    directory.join(format!("{}-{}", interface.replace('.', ":"), mode.label()))
}
