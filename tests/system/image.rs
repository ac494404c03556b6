//! The container image of the binary under test, run by runc as Kubernetes and podman run it: not root, no capability, a root file system that
//! cannot be written.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use hookgate_testkit::configuration::{FourProviders, HOST};
use hookgate_testkit::gateway::{Gateway, GatewayOptions, Signal};
use hookgate_testkit::handler::{Behaviour, Handler};
use hookgate_testkit::pki::{KeyKind, Pki, Sender, Variant};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::artifacts;
use crate::container::SOON;
use crate::environment::PATH;
use crate::is_root;

/// What runc needs of `/dev`.
const DEVICES: [&str; 4] = ["nosuid", "strictatime", "mode=755", "size=65536k"];

/// A layout, unpacked: what is run, and how.
struct Unpacked {
    root: PathBuf,
    /// `config` of the image's configuration.
    run: Value,
}

impl Unpacked {
    /// Unpacks the layers in their order, after a check of every digest and size.
    fn of(layout: &Path, root: &Path) -> Self {
        let read = |path: &Path| fs::read(path).unwrap();
        let blob = |descriptor: &Value| {
            let named = descriptor["digest"].as_str().unwrap();
            let path = layout.join("blobs").join(named.replace(':', "/"));
            let content = read(&path);
            let found: String = digest(&SHA256, &content).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!((named, descriptor["size"].as_u64()), (&*format!("sha256:{found}"), Some(content.len() as u64)));
            path
        };
        let parsed = |path: &Path| serde_json::from_slice::<Value>(&read(path)).unwrap();
        let index = parsed(&layout.join("index.json"));
        let manifest = parsed(&blob(&index["manifests"][0]));
        let configuration = parsed(&blob(&manifest["config"]));
        fs::create_dir(root).unwrap();
        for layer in manifest["layers"].as_array().unwrap() {
            artifacts::run(
                Command::new("tar").arg("--extract").arg("--file").arg(blob(layer)).arg("--directory").arg(root),
            );
        }
        Self { root: root.to_owned(), run: configuration["config"].clone() }
    }

    /// The user and group of the container.
    fn user(&self) -> (u32, u32) {
        let (user, group) = self.run["User"].as_str().unwrap().split_once(':').unwrap();
        (user.parse().unwrap(), group.parse().unwrap())
    }

    /// Writes the bundle of runc: the image as it is, and `mounts` from the host.
    fn write_bundle(&self, bundle: &Path, mounts: &[(&Path, &str, &str)]) {
        let (user, group) = self.user();
        let of_image = |key: &str| self.run[key].as_array().unwrap().clone();
        let mut all = vec![
            json!({ "destination": "/proc", "type": "proc", "source": "proc" }),
            json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": DEVICES }),
        ];
        all.extend(mounts.iter().map(|(source, destination, access)| {
            json!({ "destination": destination, "type": "bind", "source": source, "options": ["rbind", access] })
        }));
        // The network of the host, as with hostNetwork, so that the test's clients reach it.
        let arguments = [of_image("Entrypoint"), of_image("Cmd")].concat();
        let namespaces = ["pid", "ipc", "uts", "mount"].map(|kind| json!({ "type": kind }));
        let specification = json!({
            "ociVersion": "1.0.0",
            "process": {
                "user": { "uid": user, "gid": group },
                "args": arguments,
                "env": of_image("Env"),
                "cwd": "/",
                "noNewPrivileges": true,
                "capabilities": { "bounding": [], "effective": [], "permitted": [] },
            },
            "root": { "path": self.root, "readonly": true },
            "mounts": all,
            "linux": { "namespaces": namespaces },
        });
        fs::create_dir(bundle).unwrap();
        fs::write(bundle.join("config.json"), serde_json::to_vec_pretty(&specification).unwrap()).unwrap();
    }
}

#[test]
fn the_image_serves_without_root_and_keeps_its_state_in_the_volume() {
    if !is_root() {
        return;
    }
    let directory = tempfile::Builder::new().prefix("hookgate-image-").tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let image = Unpacked::of(&artifacts::image(&at("dist")), &at("root"));
    let programs = Command::new("find").arg(&image.root).args(["-type", "f", "-perm", "/111"]).output().unwrap();
    let programs = String::from_utf8(programs.stdout).unwrap();
    let others: Vec<_> = programs.lines().filter(|path| !path.contains(".so")).collect();
    assert_eq!(others, [image.root.join("usr/bin/hookgate").to_str().unwrap()], "nothing else can be run");

    let (user, group) = image.user();
    let pki = Pki::new(directory.path()).unwrap();
    let server = pki.server("server", &[HOST], KeyKind::P256).unwrap();
    let handler = Handler::start(&at("events.sock"), Behaviour::Json).unwrap();
    let dialogflow = Handler::start(&at("dialogflow.sock"), Behaviour::Json).unwrap();
    let (configuration, state, bundle) = (at("configuration"), at("state"), at("bundle"));
    for path in [&configuration, &state] {
        fs::create_dir(path).unwrap();
    }
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(&server.key_path, fs::Permissions::from_mode(0o600)).unwrap();
    for path in [&state, &server.key_path, handler.path(), dialogflow.path()] {
        chown(path, Some(user), Some(group)).unwrap();
    }
    let files = directory.path().to_str().unwrap();
    image.write_bundle(
        &bundle,
        &[
            (&configuration, "/etc/hookgate", "ro"),
            (&state, "/var/lib/hookgate", "rw"),
            (directory.path(), files, "rw"),
        ],
    );
    // The gateway of the tests writes its file and starts a program with `run --config FILE`; the image has this path.
    let script = at("run");
    let text = format!(
        "#!/bin/sh -e\ninstall --mode=644 \"$3\" {}/hookgate.toml\nexec runc --root {files}/runc run --bundle {} image-$$\n",
        configuration.display(),
        bundle.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
    let toml = FourProviders::new(&pki, &server, handler.path(), dialogflow.path()).toml();
    let mut options = GatewayOptions::new(script);
    // A reserved port is one of root, and another user cannot share it.
    options.port = Some(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port());
    let mut gateway = Gateway::start(&toml, &options).unwrap();

    let identity = pki.sender(Sender::Percolate).variant(Variant::Good).unwrap();
    let outcome = gateway.curl(HOST, &pki).identity(&identity).post(PATH, b"{}").run().unwrap();
    assert_eq!(outcome.status(), Some(200), "{outcome:?}\n{}", gateway.log());
    assert_eq!(handler.request_count(), 1);
    let kept: Vec<_> = fs::read_dir(&state).unwrap().map(|entry| entry.unwrap()).collect();
    assert!(!kept.is_empty() && kept.iter().all(|entry| entry.metadata().unwrap().uid() == user), "{kept:?}");
    gateway.signal(Signal::TERM).unwrap();
    assert!(gateway.wait_exit(SOON).unwrap().success(), "{}", gateway.log());
}
