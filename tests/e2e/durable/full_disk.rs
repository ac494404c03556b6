//! A start with a full disk, on a small one of its own.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::process::Command;

use hookgate_testkit::gateway::{Gateway, GatewayOptions};
use hookgate_testkit::handler::{Behaviour, Handler};
use hookgate_testkit::pki::{Sender, Variant};
use hookgate_testkit::root::is_root;
use hookgate_testkit::wait::wait_until;
use rusqlite::Connection;

use super::bounds::assert_unavailable;
use super::{LATER, PATH, ROUTE, configuration, socket};
use crate::environment::{BINARY, Environment, SOON, quoted};
use crate::tls_client::{TlsClient, request};

/// Nothing is lost, and nothing is promised: what was stored is handed over when there is room.
#[test]
fn a_start_with_a_full_disk_refuses_deliveries_until_there_is_room() {
    if !is_root("the test of a full disk") {
        return;
    }
    let disk = FullDisk::mount();
    let environment = Environment::new().unwrap();
    let options = GatewayOptions::new(BINARY);
    let ours = configuration(&environment, &[(ROUTE, PATH, "delivery = \"durable\"")]);
    let toml = ours.replace(&quoted(&environment.state_directory()), &quoted(&disk.state()));
    assert!(toml.contains(&quoted(&disk.state())), "{toml}");
    let start = || Gateway::start(&toml, &options).unwrap();
    // What a start has given back takes a small one.
    let send = |daemon: &Gateway| {
        let identity = environment.identity(Sender::Percolate, Variant::Good).unwrap();
        let mut connection = TlsClient::new(daemon.port(), &environment.pki, &identity).unwrap().connect().unwrap();
        connection.ask(request("POST", PATH, &[b'x'; 300_000])).unwrap()
    };
    let mut daemon = start();
    assert_eq!(send(&daemon).status, 202);
    for _ in 0..2 {
        // Killed, because the outcomes of attempts wait for room, and the end of the process for them.
        drop(daemon);
        disk.empty();
        disk.close_log();
        disk.fill();
        daemon = start();
        daemon.wait_log("the disk of the state directory is full", SOON).unwrap();
        assert_unavailable(&send(&daemon), "state_unavailable");
    }
    disk.empty();
    wait_until("room", SOON, || send(&daemon).status == 202).unwrap();
    let handler = Handler::start(&socket(&environment), Behaviour::Json).unwrap();
    handler.wait_for(2, LATER).unwrap();
}

/// A small disk of its own; unmounted on drop.
struct FullDisk(tempfile::TempDir);

impl FullDisk {
    fn mount() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs"]).arg(directory.path());
        assert!(mount.status().unwrap().success(), "mount(8) could not mount a tmpfs");
        let disk = Self(directory);
        DirBuilder::new().mode(0o700).create(disk.state()).unwrap();
        disk
    }

    fn state(&self) -> PathBuf {
        self.0.path().join("state")
    }

    /// Leaves the database alone, without its log: so does the last program that closes it, such as sqlite3.
    fn close_log(&self) {
        let file = self.state().join("deliveries.db");
        let connection = Connection::open(&file).unwrap();
        connection.query_row("SELECT count(*) FROM spool", [], |_| Ok(())).unwrap();
        drop(connection);
        assert!(!file.with_extension("db-shm").exists());
    }

    /// Takes all room.
    fn fill(&self) {
        let file = OpenOptions::new().create(true).append(true).open(self.0.path().join("ballast"));
        let mut file = file.unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    }

    fn empty(&self) {
        // The first time there is none.
        drop(fs::remove_file(self.0.path().join("ballast")));
    }
}

impl Drop for FullDisk {
    fn drop(&mut self) {
        // A daemon of a failed test may still use it.
        drop(Command::new("umount").arg("--lazy").arg(self.0.path()).status());
    }
}
