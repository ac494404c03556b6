//! A stand-in for the journal: the socket of journald, and every entry that the daemon sends to it. All else is real.
//!
//! Needs root, to mount the socket where the daemon looks for it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hookgate_testkit::gateway::GatewayOptions;
use hookgate_testkit::mount::with_mount;
use hookgate_testkit::wait::wait_until;

use crate::environment::{BINARY, Environment, SOON};

/// The entries of one daemon.
pub(crate) struct JournalStub {
    entries: Arc<Mutex<Vec<Vec<u8>>>>,
    over: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl JournalStub {
    /// Takes entries from now on. The options start a daemon whose standard error is the journal.
    pub(crate) fn start(environment: &Environment) -> (Self, GatewayOptions) {
        let directory = environment.path("journal");
        fs::create_dir(&directory).unwrap();
        let socket = UnixDatagram::bind(directory.join("socket")).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let (entries, over) = (Arc::<Mutex<Vec<Vec<u8>>>>::default(), Arc::<AtomicBool>::default());
        let read = {
            let (entries, over) = (Arc::clone(&entries), Arc::clone(&over));
            move || {
                let mut buffer = vec![0; 64 * 1024];
                while !over.load(Ordering::Relaxed) {
                    if let Ok(length) = socket.recv(&mut buffer) {
                        entries.lock().unwrap().push(buffer[..length].to_vec());
                    }
                }
            }
        };
        let options =
            with_mount(BINARY, environment.directory.path(), &directory, "/run/systemd/journal", true).unwrap();
        (Self { entries, over, reader: Some(thread::spawn(read)) }, options)
    }

    /// The fields of the first entry with this one.
    pub(crate) fn find(&self, name: &str, value: &str) -> BTreeMap<String, String> {
        let find = || {
            let entries = self.entries.lock().unwrap();
            let mut entries = entries.iter().map(|entry| fields(entry));
            entries.find(|fields| fields.get(name).is_some_and(|found| found == value))
        };
        wait_until(&format!("{name}={value}"), SOON, || find().is_some()).unwrap();
        find().unwrap()
    }

    /// Every entry as it came.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.entries.lock().unwrap().concat()).into_owned()
    }
}

impl Drop for JournalStub {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.reader.take().map(JoinHandle::join);
    }
}

/// The fields of an entry in the native protocol of the journal: `NAME=value`, or a name, eight bytes of length and the value.
fn fields(mut entry: &[u8]) -> BTreeMap<String, String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut fields = BTreeMap::new();
    while let Some(end) = entry.iter().position(|byte| *byte == b'\n') {
        let (line, rest) = (&entry[..end], &entry[end + 1..]);
        let (name, value) = match line.iter().position(|byte| *byte == b'=') {
            Some(equals) => {
                entry = rest;
                (text(&line[..equals]), text(&line[equals + 1..]))
            }
            None => {
                let (length, rest) = rest.split_first_chunk().unwrap();
                let (value, rest) = rest.split_at(u64::from_le_bytes(*length).try_into().unwrap());
                entry = &rest[1..];
                (text(line), text(value))
            }
        };
        fields.insert(name, value);
    }
    fields
}
