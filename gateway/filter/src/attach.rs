//! Attaching the loaded program to interfaces, and detaching it.
//!
//! Owns the choice between native and generic mode, and the links, pinned or not. Must not replace a foreign program: the
//! kernel refuses, and the error says so. Without a pin the kernel detaches the program when this process ends, also after
//! SIGKILL.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::{XdpLink, XdpLinkId};
use aya::programs::{Xdp, XdpMode};

use crate::error::{FilterError, io_error};
use crate::policy::{Attach, AttachMode};

/// An interface that runs the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The name of the interface.
    pub interface: String,
    /// Where in the receive path the program runs.
    pub mode: AttachMode,
    /// Why native mode failed, if it was tried; or that a pinned filter was taken over.
    pub note: Option<String>,
}

/// The flag of the mode.
const fn xdp_mode(mode: AttachMode) -> XdpMode {
    match mode {
        AttachMode::Native => XdpMode::Driver,
        AttachMode::Generic => XdpMode::Skb,
    }
}

/// What keeps the program attached.
pub(super) enum Hold {
    /// A link that ends when the program is dropped.
    Owned(XdpLinkId),
    /// The file of a link that stays until the file is removed.
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
        match program.attach(interface, xdp_mode(*mode)) {
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

/// Replaces the program behind a link that an earlier process pinned. No packet passes unfiltered in between.
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
            // The interface is gone, and another one has its name: the pinned link filters nothing.
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
        // Dropping the link closes its descriptor. The file keeps the link alive.
        Ok(_pinned) => Ok(Hold::Pinned(path)),
        Err(source) => Err(FilterError::Pin { path, source }),
    }
}

/// Detaches the program, also if it is pinned.
pub(super) fn release(program: &mut Xdp, hold: Hold) -> Result<(), FilterError> {
    match hold {
        Hold::Owned(link) => program.detach(link).map_err(|source| FilterError::Detach { source: io_error(source) }),
        Hold::Pinned(path) => match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FilterError::Pin { path, source: error }),
            _ => Ok(()),
        },
    }
}

/// The links pinned in `directory`, except those of these interfaces. They go on dropping by their last ranges, whatever
/// process runs.
pub fn pinned(directory: &Path, except: &[String]) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let own = |path: &PathBuf| {
        let paths = except.iter().flat_map(|interface| {
            [AttachMode::Native, AttachMode::Generic].map(|mode| pin_path(directory, interface, mode))
        });
        paths.into_iter().any(|own| own == *path)
    };
    entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| !own(path)).collect()
}

/// Removes all links pinned in `directory`, and returns their paths.
///
/// # Errors
///
/// If a link cannot be removed.
pub fn unpin(directory: &Path) -> Result<Vec<PathBuf>, FilterError> {
    let paths = pinned(directory, &[]);
    for path in &paths {
        fs::remove_file(path).map_err(|source| FilterError::Pin { path: path.clone(), source })?;
    }
    Ok(paths)
}

/// The file of a pinned link. The kernel reserves names with a dot on bpffs, and the name of an interface has no colon.
fn pin_path(directory: &Path, interface: &str, mode: AttachMode) -> PathBuf {
    directory.join(format!("{}-{}", interface.replace('.', ":"), mode.label()))
}
