//! `cargo xtask dist`: builds the Debian packages (the gateway, and its presets) and the tarball, and the bill of materials.
//!
//! Owns the order: build, collect, pack. Debian's own programs pack (dpkg-deb, tar, gzip): every Debian has them, and with
//! SOURCE_DATE_EPOCH they make the same bytes of the same files. cargo-deb would do no more, and would take longer to compile than the
//! gateway.

mod control;
mod manual;
mod oci;
mod roff;
mod sbom;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::command::{self, cargo, root};
use crate::setup;
use control::{Content, Control};
use oci::Image;
use tree::Tree;

/// Builds the packages, the tarball and the bill of materials.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The Cargo profile to build with
    #[arg(long, default_value = "release")]
    profile: String,
    /// Package this binary instead of building one
    #[arg(long, value_name = "FILE", conflicts_with = "profile")]
    binary: Option<PathBuf>,
    /// The directory for the package and the tarball
    #[arg(long, value_name = "DIRECTORY", default_value = "target/dist")]
    output: PathBuf,
    /// The version of the package; of its files only the changelog depends on it
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    package_version: String,
    /// Do not compress the package, and make no tarball: for tests, which need speed
    #[arg(long)]
    uncompressed: bool,
    /// Make a container image instead: an OCI image layout, and the same as a tar file (needs mmdebstrap, and Debian's packages)
    #[arg(long)]
    oci: bool,
    /// The release of Debian with the libraries of the image [default: that of this machine]
    #[arg(long, value_name = "RELEASE", requires = "oci")]
    debian: Option<String>,
}

/// Runs the command.
///
/// # Errors
///
/// The build fails, a program is missing, or a file cannot be written.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::require(if arguments.oci { setup::Task::Image } else { setup::Task::Dist })?;
    let epoch = source_date_epoch()?;
    let binary = match &arguments.binary {
        Some(binary) => binary.clone(),
        None => build(&arguments.profile)?,
    };
    let binary = fs::read(&binary).with_context(|| format!("reading {}", binary.display()))?;
    let version = &arguments.package_version;
    let tree = Tree::collect(&binary, version, epoch)?;
    let output = root().join(&arguments.output);
    fs::create_dir_all(&output).with_context(|| format!("making {}", output.display()))?;
    let presets = Tree::collect_presets(version, epoch)?;
    if arguments.oci {
        let debian = arguments.debian.clone().map_or_else(this_release, Ok)?;
        let is_compressed = !arguments.uncompressed;
        let image = Image { version, epoch, debian: &debian, gateway: &tree, presets: &presets, is_compressed };
        image.write(&output)?.iter().for_each(|path| println!("{}", path.display()));
        return Ok(());
    }

    let bill = output.join(format!("hookgate-{version}-{}.cdx.json", std::env::consts::ARCH));
    fs::write(&bill, sbom::text(version)?).with_context(|| format!("writing {}", bill.display()))?;
    println!("{}", bill.display());
    let control = Control { version, content: Content::Presets, tree: &presets };
    let package = output.join(format!("hookgate-presets_{version}_all.deb"));
    make_package(&control, epoch, &package, arguments.uncompressed)?;
    println!("{}", package.display());
    let control = Control { version, content: Content::Gateway(&binary), tree: &tree };
    let package = output.join(format!("hookgate_{version}_{}.deb", control::architecture()?));
    make_package(&control, epoch, &package, arguments.uncompressed)?;
    println!("{}", package.display());
    if !arguments.uncompressed {
        let tarball = output.join(format!("hookgate-{version}-{}.tar.gz", std::env::consts::ARCH));
        make_tarball(&tree, version, epoch, &tarball)?;
        println!("{}", tarball.display());
    }
    Ok(())
}

/// The date of every file: SOURCE_DATE_EPOCH (reproducible-builds.org), otherwise the date of the last commit; seconds since 1970.
fn source_date_epoch() -> Result<u64> {
    let text = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => {
            let log = Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(root()).output();
            let log = log.ok().filter(|log| log.status.success());
            let log = log.context("this is not a git repository: set SOURCE_DATE_EPOCH to the date of the release")?;
            String::from_utf8(log.stdout)?
        }
    };
    text.trim().parse().with_context(|| format!("SOURCE_DATE_EPOCH is not a number of seconds: {text}"))
}

/// The release of Debian of this machine, which linked the binary (os-release(5)).
fn this_release() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("reading /etc/os-release")?;
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let is_debian = value("ID").is_some_and(|id| id.trim_matches('"') == "debian");
    let name = value("VERSION_CODENAME").filter(|_| is_debian);
    let name = name
        .context("this machine is no Debian: write --debian RELEASE, with a C library that is not older than here")?;
    Ok(name.trim_matches('"').to_owned())
}

/// Builds the gateway, and replaces the directories of this machine and the date wherever a compiler writes them into the binary.
fn build(profile: &str) -> Result<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo"))).context("no home directory")?;
    let target = root().join("target/dist-build");
    let remapped = [(root(), "/hookgate"), (&*target, "/hookgate/target"), (&*home, "/cargo")];
    // The last match wins, so longer paths follow shorter ones.
    let flags = remapped.map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()));
    let c_flags = remapped.map(|(from, to)| format!("-ffile-prefix-map={}={to}", from.display()));
    let mut build = cargo();
    build.args(["build", "--locked", "--package", "hookgate", "--bin", "hookgate", "--profile", profile]);
    build.arg("--target-dir").arg(&target);
    build.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f")).env("CFLAGS", c_flags.join(" "));
    // The date that C sources record when they are compiled (those of the allocator do). The same for every commit, because compiled
    // objects are reused.
    build.env("SOURCE_DATE_EPOCH", "0");
    command::run(&mut build)?;
    Ok(target.join(if profile == "dev" { "debug" } else { profile }).join("hookgate"))
}

fn make_package(control: &Control<'_>, epoch: u64, package: &Path, uncompressed: bool) -> Result<()> {
    let directory = tempfile::tempdir().context("making a directory to pack from")?;
    control.tree.write(directory.path())?;
    control.write(directory.path())?;
    let mut dpkg_deb = Command::new("dpkg-deb");
    // One thread: the number of threads changes the blocks of xz, and so the bytes.
    dpkg_deb.args(["--root-owner-group", "--threads-max=1", if uncompressed { "-Znone" } else { "-Zxz" }, "--build"]);
    dpkg_deb.arg(directory.path()).arg(package).env("SOURCE_DATE_EPOCH", epoch.to_string());
    run_quietly(&mut dpkg_deb)
}

fn make_tarball(tree: &Tree, version: &str, epoch: u64, tarball: &Path) -> Result<()> {
    let directory = tempfile::tempdir().context("making a directory to pack from")?;
    let name = format!("hookgate-{version}");
    tree.write(&directory.path().join(&name))?;
    let mut tar = Command::new("tar");
    tar.args(["--create", "--sort=name", "--format=gnu", "--owner=0", "--group=0", "--numeric-owner"]);
    tar.arg(format!("--mtime=@{epoch}")).args(["--use-compress-program", "gzip --best --no-name"]);
    tar.arg("--file").arg(tarball).arg("--directory").arg(directory.path()).arg(name);
    run_quietly(&mut tar)
}

/// Runs a program whose output matters only if it fails.
fn run_quietly(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("starting {program}, which packaging needs"))?;
    ensure!(output.status.success(), "{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

#[cfg(test)]
mod tests;
