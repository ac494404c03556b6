//! The container image of the binary under test, read by skopeo, and run by crun as Kubernetes and podman run it: not root, no capability, a root
//! file system that cannot be written.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use hookgate_testkit::configuration::{FourProviders, HOST, LISTEN_PORT};
use hookgate_testkit::gateway::{Gateway, GatewayOptions, Signal, free_port};
use hookgate_testkit::handler::{Behaviour, Handler};
use hookgate_testkit::pki::{KeyKind, Pki, Sender, ServerIdentity, Variant};
use ring::digest::{SHA256, digest};
use ring::hmac;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::artifacts::{self, Image};
use crate::container::SOON;
use crate::environment::PATH;
use crate::is_root;

/// The name of the container, for the crun of one test.
const CONTAINER: &str = "image";

/// Runs crun with arguments. No resource is limited, so it makes no control group; but it looks at their file system, and refuses one that has both
/// versions.
const CRUN: &str = "mount -t cgroup2 cgroup2 /sys/fs/cgroup; exec crun --cgroup-manager=disabled \"$@\"";

/// What a container needs of `/dev`.
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

    /// Writes the bundle of a container: the image as it is, and `mounts` from the host: source, destination and access.
    fn write_bundle(&self, bundle: &Path, mounts: &[(&Path, &str, &str)], seccomp: Option<Value>) {
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
        let mut linux = json!({ "namespaces": namespaces });
        if let Some(seccomp) = seccomp {
            linux["seccomp"] = seccomp;
        }
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
            "linux": linux,
        });
        fs::create_dir(bundle).unwrap();
        fs::write(bundle.join("config.json"), serde_json::to_vec_pretty(&specification).unwrap()).unwrap();
    }
}

/// A bundle of the image with the directories that it is given, in a directory of the test.
struct Bundle {
    image: Unpacked,
    directory: TempDir,
    pki: Pki,
    server: ServerIdentity,
    /// The directory of the configuration.
    configuration: PathBuf,
    /// The volume for state, as an emptyDir of Kubernetes: everyone can write to it.
    state: PathBuf,
}

impl Bundle {
    fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("hookgate-image-").tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let [configuration, state] = ["configuration", "state"].map(|name| {
            let path = directory.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        });
        fs::set_permissions(&state, fs::Permissions::from_mode(0o777)).unwrap();
        let image = Unpacked::of(&artifacts::image().layout, &directory.path().join("root"));
        let pki = Pki::new(directory.path()).unwrap();
        let server = pki.server("server", &[HOST], KeyKind::P256).unwrap();
        fs::set_permissions(&server.key_path, fs::Permissions::from_mode(0o600)).unwrap();
        let bundle = Self { image, directory, pki, server, configuration, state };
        bundle.own(&bundle.server.key_path);
        bundle
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Gives a file to the user of the container.
    fn own(&self, path: &Path) {
        let (user, group) = self.image.user();
        chown(path, Some(user), Some(group)).unwrap();
    }

    /// Starts a handler to which the user of the container may connect.
    fn handler(&self, name: &str) -> Handler {
        let handler = Handler::start(&self.path(name), Behaviour::Json).unwrap();
        self.own(handler.path());
        handler
    }

    /// Starts the container with this configuration, `mounts` beside those of configuration and state, and what `seccomp` denies.
    fn start(&self, toml: &str, mounts: &[(&Path, &str, &str)], seccomp: Option<Value>) -> Gateway {
        let standard = [(&*self.configuration, "/etc/hookgate", "ro"), (&*self.state, "/var/lib/hookgate", "rw")];
        let bundle = self.path("bundle");
        self.image.write_bundle(&bundle, &[&standard, mounts].concat(), seccomp);
        // The gateway of the tests writes its file and starts a program with `run --config FILE`; the image has a path of its own.
        let script = self.path("run");
        let text = format!(
            "#!/bin/sh -e\ninstall --mode=644 \"$3\" {}/hookgate.toml\n\
             exec unshare --mount --propagation private sh -ec '{CRUN}' crun --root {} run --bundle {} {CONTAINER}\n",
            self.configuration.display(),
            self.path("crun").display(),
            bundle.display()
        );
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
        let mut options = GatewayOptions::new(script);
        // A reserved port is one of root, and another user cannot share it.
        options.port = Some(free_port().unwrap());
        Gateway::start(toml, &options).unwrap()
    }
}

impl Drop for Bundle {
    /// Ends what a test that has failed leaves: its program is crun, which does not take the container with it.
    fn drop(&mut self) {
        let mut crun = Command::new("unshare");
        crun.args(["--mount", "--propagation", "private", "sh", "-ec", CRUN, "crun", "--root"]);
        drop(crun.arg(self.path("crun")).args(["delete", "--force", CONTAINER]).output());
    }
}

#[test]
fn the_image_serves_without_root_and_keeps_its_state_in_the_volume() {
    if !is_root() {
        return;
    }
    let bundle = Bundle::new();
    let root = &bundle.image.root;
    let programs = Command::new("find").arg(root).args(["-type", "f", "-perm", "/111"]).output().unwrap();
    let programs = String::from_utf8(programs.stdout).unwrap();
    let others: Vec<_> = programs.lines().filter(|path| !path.contains(".so")).collect();
    assert_eq!(others, [root.join("usr/bin/hookgate").to_str().unwrap()], "nothing else can be run");

    let (handler, dialogflow) = (bundle.handler("events.sock"), bundle.handler("dialogflow.sock"));
    let toml = FourProviders::new(&bundle.pki, &bundle.server, handler.path(), dialogflow.path()).toml();
    let files = bundle.directory.path();
    let mut gateway = bundle.start(&toml, &[(files, files.to_str().unwrap(), "rw")], None);
    let identity = bundle.pki.sender(Sender::Percolate).variant(Variant::Good).unwrap();
    let outcome = gateway.curl(HOST, &bundle.pki).identity(&identity).post(PATH, b"{}").run().unwrap();
    assert_eq!(outcome.status(), Some(200), "{outcome:?}\n{}", gateway.log());
    assert_eq!(handler.request_count(), 1);
    let state = bundle.state.join("state");
    assert_eq!(fs::metadata(&state).unwrap().mode() & 0o777, 0o700);
    let kept: Vec<_> = fs::read_dir(&state).unwrap().map(|entry| entry.unwrap()).collect();
    let (user, _) = bundle.image.user();
    assert!(!kept.is_empty() && kept.iter().all(|entry| entry.metadata().unwrap().uid() == user), "{kept:?}");
    gateway.signal(Signal::TERM).unwrap();
    assert!(gateway.wait_exit(SOON).unwrap().success(), "{}", gateway.log());
}

/// As podman load and a push to a registry read it. skopeo compares the digest of each blob with the blob.
#[test]
fn the_archive_has_what_the_layout_has() {
    if !is_root() {
        return;
    }
    let Image { layout, archive } = artifacts::image();
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("copy");
    let [from, to] =
        [("oci-archive", archive), ("oci", &copy)].map(|(kind, path)| format!("{kind}:{}", path.display()));
    let name = format!("hookgate:{}", env!("CARGO_PKG_VERSION"));
    let mut skopeo = Command::new("skopeo");
    // The layers of this image are not compressed, and shall stay as they are.
    skopeo.args(["--insecure-policy", "copy", "--dest-oci-accept-uncompressed-layers"]);
    artifacts::run(skopeo.args([format!("{from}:{name}"), format!("{to}:{name}")]));
    let blobs = |layout: &Path| {
        let blobs = fs::read_dir(layout.join("blobs/sha256")).unwrap().map(|entry| entry.unwrap());
        blobs.map(|blob| (blob.file_name(), blob.metadata().unwrap().len())).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(blobs(&copy), blobs(layout), "manifest, configuration and layers");
}

/// With the mounts of `kubernetes/hookgate.yaml`, and without io_uring, which the default profile of container runtimes forbids.
#[test]
fn the_configuration_for_kubernetes_serves_in_the_image() {
    if !is_root() {
        return;
    }
    let bundle = Bundle::new();
    let (secrets, handlers) = (bundle.path("secrets"), bundle.path("handlers"));
    for path in [&secrets, &handlers] {
        fs::create_dir(path).unwrap();
    }
    fs::write(bundle.path("github"), "of-the-webhook").unwrap();
    for (from, to) in [
        (&bundle.server.chain_path, "tls.crt"),
        (&bundle.server.key_path, "tls.key"),
        (&bundle.path("github"), "github"),
    ] {
        fs::copy(from, secrets.join(to)).unwrap();
        fs::set_permissions(secrets.join(to), fs::Permissions::from_mode(0o440)).unwrap();
        bundle.own(&secrets.join(to));
    }
    let handler = bundle.handler("handlers/github.sock");
    let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port().unwrap()));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kubernetes/hookgate.toml");
    let toml = fs::read_to_string(file).unwrap();
    let toml = toml.replace("\"0.0.0.0:8443\", \"[::]:8443\"", &format!("\"127.0.0.1:{LISTEN_PORT}\""));
    let toml = toml.replace("127.0.0.1:9465", &admin.to_string());
    let seccomp = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{
            "names": ["io_uring_setup", "io_uring_enter", "io_uring_register"],
            "action": "SCMP_ACT_ERRNO",
        }],
    });
    let mounts = [(&*secrets, "/run/secrets/hookgate", "ro"), (&*handlers, "/run/handlers", "rw")];
    let mut gateway = bundle.start(&toml, &mounts, Some(seccomp));
    assert!(gateway.log().contains("backend=epoll"), "{}", gateway.log());
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"of-the-webhook"), b"{}");
    let tag: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let post = |tag: &str| {
        let curl = gateway.curl(HOST, &bundle.pki).post("/github", b"{}");
        let curl = curl.field("X-GitHub-Delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958");
        curl.field("X-Hub-Signature-256", &format!("sha256={tag}")).run().unwrap()
    };
    assert_eq!(post(&tag.replace(|digit: char| digit != '0', "1")).status(), Some(403), "{}", gateway.log());
    assert_eq!(post(&tag).status(), Some(200), "{}", gateway.log());
    assert_eq!(handler.request_count(), 1);
    let ready = Command::new("curl").args(["--silent", "--fail"]).arg(format!("http://{admin}/readyz")).status();
    assert!(ready.unwrap().success(), "the readiness probe");
    gateway.signal(Signal::TERM).unwrap();
    assert!(gateway.wait_exit(SOON).unwrap().success(), "{}", gateway.log());
}
