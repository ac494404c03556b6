//! Where a configuration names files, sockets and addresses of this host, for messages about them.
//!
//! Reads the text once more, when a message needs it: a running gateway keeps no locations. Must not judge what is there.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::document::Document;
use super::error::Location;
use super::file::{self, FileVersions, MAXIMUM_FILE_BYTES};

/// The scheme of handlers.
const UNIX: &str = "unix:";

/// What a configuration names on this host, each with its first location.
#[derive(Debug, Default)]
pub struct NamedPlaces {
    /// The files that were read, the configuration first. One that the configuration does not name, such as a preset, has no line.
    pub files: Vec<(Location, PathBuf)>,
    /// The sockets of handlers.
    pub handlers: Vec<(Location, PathBuf)>,
    /// `listen.addresses`
    pub listen: Vec<(Location, SocketAddr)>,
    /// `metrics.listen`
    pub metrics: Option<(Location, SocketAddr)>,
}

impl NamedPlaces {
    /// What the configuration at `path` names; of files, those among `read`. Empty if the configuration cannot be parsed.
    #[must_use]
    pub fn of(path: &Path, read: &FileVersions) -> Self {
        let text = file::read(path, MAXIMUM_FILE_BYTES).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let Some(text) = text else { return Self::default() };
        Document::parse(&text, path).map(|document| Self::in_document(&document, path, read)).unwrap_or_default()
    }

    fn in_document(document: &Document<'_>, path: &Path, read: &FileVersions) -> Self {
        let mut places = Self { files: vec![(document.location_of_key(""), path.to_owned())], ..Self::default() };
        let mut unnamed: Vec<&Path> = read.paths().filter(|read| *read != path).collect();
        document.texts(&mut |text, span| {
            let location = document.location(&span);
            let key = location.key.as_str();
            if key.starts_with("route[") && key.ends_with("].handler") {
                let Some(socket) = text.strip_prefix(UNIX) else { return };
                if !places.handlers.iter().any(|(_, known)| known == Path::new(socket)) {
                    places.handlers.push((location, PathBuf::from(socket)));
                }
            } else if key.starts_with("listen.addresses[") {
                places.listen.extend(text.parse().ok().map(|address| (location, address)));
            } else if key == "metrics.listen" {
                places.metrics = text.parse().ok().map(|address| (location, address));
            } else {
                let named = document.resolve(text);
                if let Some(index) = unnamed.iter().position(|read| *read == named) {
                    unnamed.swap_remove(index);
                    places.files.push((location, named));
                }
            }
        });
        places.files.extend(unnamed.into_iter().map(|file| (document.location_of_key(""), file.to_owned())));
        places
    }
}
