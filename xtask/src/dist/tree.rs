//! The files of the package and the tarball: contents, path and mode.
//!
//! Collects them in memory, so that both have the same. The packing programs set owner and dates.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::CommandFactory as _;
use clap_complete::{Shell, generate};

use super::{control, manual, sbom};
use crate::cli::Cli;
use crate::command::root;

/// Files of the repository that are copied into the package: from, to.
const COPIED: [(&str, &str); 8] = [
    ("xtask/package/hookgate.toml", "etc/hookgate/hookgate.toml"),
    ("systemd/hookgate.sysusers", "usr/lib/sysusers.d/hookgate.conf"),
    ("systemd/hookgate.tmpfiles", "usr/lib/tmpfiles.d/hookgate.conf"),
    ("systemd/hookgate-filter.conf", "usr/share/doc/hookgate/examples/hookgate-filter.conf"),
    ("README.md", "usr/share/doc/hookgate/README.md"),
    ("ARCHITECTURE.md", "usr/share/doc/hookgate/ARCHITECTURE.md"),
    ("SECURITY.md", "usr/share/doc/hookgate/SECURITY.md"),
    ("CHANGELOG.md", "usr/share/doc/hookgate/CHANGELOG.md"),
];

/// Directories whose files with a certain ending are copied: from, ending, to.
const COPIED_ALL: [(&str, &str, &str); 8] = [
    ("systemd", "service", "usr/lib/systemd/system"),
    ("systemd", "socket", "usr/lib/systemd/system"),
    ("docs", "md", "usr/share/doc/hookgate/docs"),
    ("docs", "svg", "usr/share/doc/hookgate/docs"),
    ("docs", "png", "usr/share/doc/hookgate/docs"),
    ("docs/senders", "md", "usr/share/doc/hookgate/docs/senders"),
    ("monitoring", "yml", "usr/share/doc/hookgate/monitoring"),
    ("monitoring", "json", "usr/share/doc/hookgate/monitoring"),
];

/// The same for the package of presets.
const PRESETS: [(&str, &str, &str); 2] = [
    ("gateway/presets", "toml", "usr/share/hookgate/presets"),
    ("gateway/presets/roots", "pem", "usr/share/hookgate/presets/roots"),
];

/// Shells, and the paths of their completions.
const COMPLETIONS: [(Shell, &str); 3] = [
    (Shell::Bash, "usr/share/bash-completion/completions/hookgate"),
    (Shell::Zsh, "usr/share/zsh/vendor-completions/_hookgate"),
    (Shell::Fish, "usr/share/fish/vendor_completions.d/hookgate.fish"),
];

/// The files that an administrator edits. An upgrade keeps them.
pub(super) const CONFIGURATION_FILES: [&str; 1] = ["etc/hookgate/hookgate.toml"];

const EXECUTABLE: u32 = 0o755;
const READABLE: u32 = 0o644;

#[derive(Debug)]
struct File {
    mode: u32,
    content: Vec<u8>,
}

/// Files by their path from the root.
#[derive(Debug)]
pub(super) struct Tree(BTreeMap<String, File>);

impl Tree {
    /// Collects all files of `version` with `binary`. `epoch` is the date of the changelog.
    ///
    /// # Errors
    ///
    /// A file of the repository cannot be read, or gzip is missing.
    pub(super) fn collect(binary: &[u8], version: &str, epoch: u64) -> Result<Self> {
        let mut tree = Self(BTreeMap::new());
        tree.insert("usr/bin/hookgate", EXECUTABLE, binary.to_vec());
        for (from, to) in COPIED {
            tree.insert(to, READABLE, read(from)?.into_bytes());
        }
        tree.copy_all(&COPIED_ALL)?;
        for (shell, path) in COMPLETIONS {
            let mut script = Vec::new();
            generate(shell, &mut Cli::command(), "hookgate", &mut script);
            tree.insert(path, READABLE, script);
        }
        let manual = [("man8/hookgate.8", manual::command(version)?), ("man5/hookgate.toml.5", manual::file(version)?)];
        for (page, text) in manual {
            tree.insert(&format!("usr/share/man/{page}.gz"), READABLE, gzip(text.as_bytes())?);
        }
        tree.insert_changelog("hookgate", version, epoch)?;
        tree.insert("usr/share/doc/hookgate/hookgate.cdx.json.gz", READABLE, gzip(sbom::text(version)?.as_bytes())?);
        tree.insert("usr/share/doc/hookgate/copyright", READABLE, copyright()?.into_bytes());
        Ok(tree)
    }

    /// Collects all files of the package of presets.
    ///
    /// # Errors
    ///
    /// As [`Tree::collect`].
    pub(super) fn collect_presets(version: &str, epoch: u64) -> Result<Self> {
        let mut tree = Self(BTreeMap::new());
        tree.copy_all(&PRESETS)?;
        tree.insert_changelog("hookgate-presets", version, epoch)?;
        tree.insert("usr/share/doc/hookgate-presets/copyright", READABLE, copyright()?.into_bytes());
        Ok(tree)
    }

    fn copy_all(&mut self, directories: &[(&str, &str, &str)]) -> Result<()> {
        for (from, ending, to) in directories {
            for entry in fs::read_dir(root().join(from)).with_context(|| format!("reading {from}"))? {
                let name = entry?.file_name().to_string_lossy().into_owned();
                if name.ends_with(&format!(".{ending}")) {
                    let path = root().join(from).join(&name);
                    let content = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
                    self.insert(&format!("{to}/{name}"), READABLE, content);
                }
            }
        }
        Ok(())
    }

    fn insert_changelog(&mut self, package: &str, version: &str, epoch: u64) -> Result<()> {
        let changelog = control::changelog(package, version, epoch)?;
        self.insert(&format!("usr/share/doc/{package}/changelog.gz"), READABLE, gzip(changelog.as_bytes())?);
        Ok(())
    }

    fn insert(&mut self, path: &str, mode: u32, content: Vec<u8>) {
        self.0.insert(path.to_owned(), File { mode, content });
    }

    /// All paths, in order.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// All files, in the order of their paths: path, mode and content.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, u32, &[u8])> {
        self.0.iter().map(|(path, file)| (path.as_str(), file.mode, file.content.as_slice()))
    }

    /// The size of the files on a disk with blocks of 1 KiB, which Installed-Size gives (Debian Policy, section 5.6.20).
    pub(super) fn kibibytes(&self) -> usize {
        self.0.values().map(|file| file.content.len().div_ceil(1024)).sum()
    }

    /// Writes all files below `directory`.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    pub(super) fn write(&self, directory: &Path) -> Result<()> {
        for (path, file) in &self.0 {
            let path = directory.join(path);
            write(&path, file.mode, &file.content)?;
            // Independent of the umask.
            for above in path.ancestors().skip(1).take_while(|above| above.starts_with(directory)) {
                fs::set_permissions(above, fs::Permissions::from_mode(EXECUTABLE))?;
            }
        }
        Ok(())
    }
}

/// Writes a file, and makes the directories above it.
pub(super) fn write(path: &Path, mode: u32, content: &[u8]) -> Result<()> {
    let write = || {
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, content)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// The text of a file of the repository.
pub(super) fn read(path: &str) -> Result<String> {
    fs::read_to_string(root().join(path)).with_context(|| format!("reading {path}"))
}

/// The package's copyright file in Debian's machine-readable format, in which a dot stands for an empty line of an indented text.
fn copyright() -> Result<String> {
    let indented = read("LICENSE-MIT")?
        .trim_end()
        .lines()
        .map(|line| if line.is_empty() { " .".to_owned() } else { format!(" {line}") })
        .collect::<Vec<_>>();
    Ok(read("xtask/package/copyright")?.replace("@LICENSE-MIT@", &indented.join("\n")))
}

/// Compresses as Debian Policy demands (section 12.7), without a date.
pub(super) fn gzip(text: &[u8]) -> Result<Vec<u8>> {
    let mut command = Command::new("gzip");
    command.args(["--best", "--no-name"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().context("starting gzip, which packaging needs")?;
    let mut stdin = child.stdin.take().context("gzip was started with a pipe")?;
    let compressed = std::thread::scope(|scope| {
        // A thread writes, so that the processes cannot wait for each other with full pipes.
        scope.spawn(move || drop(stdin.write_all(text)));
        child.wait_with_output()
    })?;
    ensure!(compressed.status.success(), "gzip: {}", compressed.status);
    Ok(compressed.stdout)
}
