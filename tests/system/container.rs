//! A booted container: commands in it, its network, its journal, its processes.
//!
//! Owns the container and all that it uses of the host: a mount namespace with its file system (a layer in memory over the shared
//! root), a control group, and a network namespace without a route out. Must know nothing of hookgate but its unit.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hookgate_testkit::process::{self, Finished};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::artifacts;

/// How long booting may take. It takes a second; a busy machine needs more.
const BOOT_LIMIT: Duration = Duration::from_secs(60);

/// How long a command in the container may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// The limit for everything that should happen soon.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// How often the state of the container is checked.
const POLL: Duration = Duration::from_millis(50);

/// The script that boots a container, in a mount namespace, so that nothing needs to be unmounted, and in a control group, which the
/// systemd in the container sees as the root: `$1` root file system, `$2` name, `$3` the directory to mount at /srv/test.
const BOOT: &str = r#"
set -e
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir "/sys/fs/cgroup/$2"
echo $$ > "/sys/fs/cgroup/$2/cgroup.procs"
mount -t tmpfs -o mode=0755 tmpfs /run
mkdir /run/layer
mount -t tmpfs -o size=512m,mode=0755 tmpfs /run/layer
mkdir /run/layer/upper /run/layer/work /run/layer/root
mount -t overlay overlay -o "lowerdir=$1,upperdir=/run/layer/upper,workdir=/run/layer/work" /run/layer/root
exec systemd-nspawn --quiet --register=no --keep-unit --machine="$2" --directory=/run/layer/root --bind="$3:/srv/test" \
    --private-network --link-journal=no --resolv-conf=off --timezone=off --system-call-filter="bpf @sandbox" --console=pipe --boot
"#;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A booted container; ended on drop.
pub(crate) struct Container {
    name: String,
    /// unshare, the parent of systemd-nspawn.
    outermost: Child,
    /// The id, on the host, of the first process of the container.
    init: u32,
}

impl Container {
    /// Boots a container with `directory` at /srv/test.
    pub(crate) fn boot(directory: &Path) -> Self {
        let root = artifacts::root();
        let name = format!("hookgate-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        // The container also ends if this process is killed: the signal of setpriv survives execve and ends unshare, whose child is
        // the first process of a process namespace, which ends with it.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"]);
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", BOOT, "sh"]);
        command.arg(root).arg(&name).arg(directory);
        let outermost = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let outermost = outermost.expect("setpriv and unshare, of util-linux, are needed");
        let mut container = Self { name, outermost, init: 0 };
        container.wait_booted();
        container
    }

    fn wait_booted(&mut self) {
        let deadline = Instant::now() + BOOT_LIMIT;
        loop {
            if let Some(status) = self.outermost.try_wait().unwrap() {
                let mut said = String::new();
                let mut stderr = self.outermost.stderr.take().unwrap();
                stderr.read_to_string(&mut said).unwrap();
                panic!("the container did not boot ({status}); is systemd-nspawn installed?\n{said}");
            }
            let child = |of: u32| {
                let children = fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
                children.split_whitespace().next().map(|child| child.parse::<u32>().unwrap())
            };
            if let Some(init) = child(self.outermost.id()).and_then(child) {
                self.init = init;
                let state = self.try_run(&["systemctl", "is-system-running"]).stdout_text();
                if ["running", "degraded"].contains(&state.trim()) {
                    return;
                }
            }
            assert!(Instant::now() < deadline, "the container did not boot within {BOOT_LIMIT:?}");
            thread::sleep(POLL);
        }
    }

    /// Runs a command in the container, as root.
    pub(crate) fn try_run(&self, command: &[&str]) -> Finished {
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["--target", &self.init.to_string(), "--mount", "--uts", "--ipc", "--net", "--pid"]);
        nsenter.args(command).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
        nsenter.env("DEBIAN_FRONTEND", "noninteractive").env("SYSTEMD_PAGER", "");
        process::run(nsenter, b"", COMMAND_LIMIT).expect("nsenter, of util-linux, is needed")
    }

    /// Runs a command in the container, as root, which must succeed. Returns its standard output.
    pub(crate) fn run(&self, command: &[&str]) -> String {
        let ended = self.try_run(command);
        let (out, error) = (ended.stdout_text(), ended.stderr_text());
        assert!(ended.success(), "{command:?}: {:?}\n{out}{error}\n{}", ended.status, self.journal());
        out
    }

    /// Runs a script in the shell of the container, which must succeed. Returns its standard output.
    pub(crate) fn shell(&self, script: &str) -> String {
        self.run(&["sh", "-ec", script])
    }

    /// Runs `work` in the network namespace of the container, where 127.0.0.1 is the container.
    pub(crate) fn in_network<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let network = self.network();
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                network.enter();
                work()
            });
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// The network namespace of the container, for threads to enter.
    pub(crate) fn network(&self) -> Network {
        Network(File::open(format!("/proc/{}/ns/net", self.init)).unwrap())
    }

    /// Writes a file in the container, and makes its directory.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = Path::new("/proc").join(self.init.to_string()).join("root").join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }

    /// Installs a package from a file of the host. Returns the output of dpkg.
    pub(crate) fn install(&self, package: &Path) -> String {
        let bytes = fs::read(package).unwrap();
        fs::write(format!("/proc/{}/root/root/package.deb", self.init), bytes).unwrap();
        self.shell("dpkg --install /root/package.deb 2>&1; rm /root/package.deb")
    }

    /// Writes settings of `unit` as a drop-in, and reloads the units.
    pub(crate) fn write_drop_in(&self, unit: &str, text: &str) {
        self.write(&format!("/etc/systemd/system/{unit}.d/test.conf"), text);
        self.run(&["systemctl", "daemon-reload"]);
    }

    /// A property of a unit, such as `MainPID`.
    pub(crate) fn property(&self, unit: &str, property: &str) -> String {
        self.run(&["systemctl", "show", "--value", "--property", property, unit]).trim().to_owned()
    }

    /// The journal of the service.
    pub(crate) fn journal(&self) -> String {
        self.try_run(&["journalctl", "--no-pager", "--unit=hookgate.service"]).stdout_text()
    }

    /// Waits until `done` returns `Some`.
    pub(crate) fn wait_for<T>(&self, what: &str, limit: Duration, mut done: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(done) = done() {
                return done;
            }
            assert!(Instant::now() < deadline, "{what}: not within {limit:?}\n{}", self.journal());
            thread::sleep(POLL);
        }
    }

    /// The id, on the host, of the process with the id `inner` in the container.
    pub(crate) fn host_process(&self, inner: &str) -> u32 {
        let is_it = |status: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
            line.split_whitespace().next_back() == Some(inner)
        };
        let same_namespace = |pid: &OsString| {
            let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
            namespace(&pid.to_string_lossy()) == namespace(&self.init.to_string())
        };
        let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name());
        let found = processes.filter(same_namespace).find(|pid| {
            fs::read_to_string(format!("/proc/{}/status", pid.to_string_lossy())).is_ok_and(|status| is_it(&status))
        });
        found.unwrap_or_else(|| panic!("no process {inner}")).to_string_lossy().parse().unwrap()
    }
}

/// The network namespace of a container.
pub(crate) struct Network(File);

impl Network {
    /// Moves the calling thread, and what it starts, into this namespace.
    pub(crate) fn enter(&self) {
        move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // All processes of the container end with the process namespace, which ends with unshare.
        drop(self.outermost.kill());
        drop(self.outermost.wait());
        let remove = "mount -t cgroup2 cgroup2 /sys/fs/cgroup; cd /sys/fs/cgroup
            for attempt in 1 2 3 4 5 6 7 8 9 10; do
                [ -d \"$1\" ] || exit 0
                find \"$1\" -depth -type d -exec rmdir {} + 2>/dev/null && exit 0
                sleep 0.1
            done; exit 1";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", remove, "sh", &self.name]);
        if !command.status().is_ok_and(|status| status.success()) {
            eprintln!("the control group {} could not be removed", self.name);
        }
    }
}
