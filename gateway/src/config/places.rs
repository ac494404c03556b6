//! Where a configuration names files, sockets and addresses of this host, for messages about them.
//!
//! Reads the text once more, when a message needs it: a running gateway keeps no locations. Must not judge what is there.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::document::Document;
use super::error::Location;
use super::file::{self, FileVersions, MAXIMUM_FILE_BYTES};
use super::strength::{About, Loss};
use hookgate_core::route::{HandlerAddress, Route};
use toml::de::DeValue;

/// The schemes of handlers.
const UNIX: &str = "unix:";
const HTTP: &str = "http://";

/// What a configuration names on this host, each with its first location.
#[derive(Debug, Default)]
pub struct NamedPlaces {
    /// The files that were read, the configuration first. One that the configuration does not name, such as a preset, has no line.
    pub files: Vec<(Location, PathBuf)>,
    /// Handlers.
    pub handlers: Vec<(Location, HandlerAddress)>,
    /// `listen.addresses`
    pub listen: Vec<(Location, SocketAddr)>,
    /// `metrics.listen`
    pub metrics: Option<(Location, SocketAddr)>,
    /// `admin.listen`, and the address in it unless it is a socket.
    pub admin: Option<(Location, Option<SocketAddr>)>,
    /// `log.format`, if it is the journal.
    pub journal: Option<Location>,
    /// `state.directory`
    pub state: Option<(Location, PathBuf)>,
}

/// Where the sections of a configuration are that a reload is refused for.
pub struct Sections {
    /// The header of each table: of an array of tables with the name in it.
    headers: Vec<(&'static str, Option<String>, Location)>,
    file: PathBuf,
}

impl Sections {
    /// Those of the configuration at `path`; none if it cannot be parsed.
    #[must_use]
    pub fn of(path: &Path, routes: &[Route]) -> Self {
        let text = file::read(path, MAXIMUM_FILE_BYTES).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let document = text.as_deref().and_then(|text| Document::parse(text, path).ok());
        let mut headers = Vec::new();
        for section in ["filter", "fleet", "listen", "log", "provider", "route", "tls"] {
            let Some(document) = &document else { break };
            let Some((key, value)) = document.root().get_key_value(section) else { continue };
            let DeValue::Array(tables) = value.get_ref() else {
                headers.push((section, None, document.location(&key.span())));
                continue;
            };
            for (index, table) in tables.iter().enumerate() {
                let written = table.get_ref().as_table().and_then(|table| table.get("name")?.get_ref().as_str());
                // A route without a name has one all the same.
                let by_default = routes.get(index).filter(|_| section == "route").map(|route| &*route.name);
                let name = written.or(by_default).map(str::to_owned);
                headers.push((section, name, document.location(&table.span())));
            }
        }
        Self { headers, file: path.to_owned() }
    }

    /// The file, and the line of the section that `loss` is about if there is such a section.
    #[must_use]
    pub fn place(&self, loss: &Loss) -> String {
        let (section, name) = match loss.about() {
            About::Provider(name) => ("provider", Some(&**name)),
            About::Route(name) => ("route", Some(&**name)),
            About::Filter => ("filter", None),
            About::Listen => ("listen", None),
            About::Log => ("log", None),
            About::Tls => ("tls", None),
        };
        self.place_of(section, name)
    }

    /// The file, and the line of this section if there is one: of an array of tables, that of the element with this name.
    #[must_use]
    pub fn place_of(&self, section: &str, name: Option<&str>) -> String {
        let found = self.headers.iter().find(|(of, named, _)| *of == section && named.as_deref() == name);
        match (found.and_then(|(_, _, location)| location.line), name) {
            (Some(line), _) => format!("{}:{line}", self.file.display()),
            (None, Some(_)) => self.file.display().to_string(),
            // What it demanded has gone with it.
            (None, None) => format!("{} (no section [{section}])", self.file.display()),
        }
    }
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
            if is_handler(key) {
                let Some(address) = handler(text) else { return };
                if !places.handlers.iter().any(|(_, known)| *known == address) {
                    places.handlers.push((location, address));
                }
            } else if key.starts_with("listen.addresses[") {
                places.listen.extend(text.parse().ok().map(|address| (location, address)));
            } else if key == "metrics.listen" {
                places.metrics = text.parse().ok().map(|address| (location, address));
            } else if key == "admin.listen" {
                places.admin = Some((location, text.parse().ok()));
            } else if key == "log.format" {
                places.journal = (text == "journal").then_some(location);
            } else if key == "state.directory" {
                places.state = Some((location, document.resolve(text)));
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

/// Whether this is the key of a handler's address: `route[0].handler`, one of its elements, or `address` in one.
fn is_handler(key: &str) -> bool {
    let of_route = key.strip_prefix("route[").and_then(|rest| rest.split_once("].handler"));
    of_route.is_some_and(|(index, rest)| {
        index.bytes().all(|byte| byte.is_ascii_digit()) && (rest.is_empty() || rest.starts_with(['[', '.']))
    })
}

/// The address of a handler, as a configuration without errors has it.
fn handler(text: &str) -> Option<HandlerAddress> {
    match text.strip_prefix(UNIX) {
        Some(path) => Some(HandlerAddress::Unix(path.into())),
        None => text.strip_prefix(HTTP)?.parse().ok().map(HandlerAddress::Tcp),
    }
}
