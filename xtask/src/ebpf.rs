//! `cargo xtask ebpf`: builds the eBPF objects, or checks that the committed ones are built from this source.
//!
//! Owns the toolchain: a rustup nightly with `rust-src`, or Debian's `rustc-web`, and bpf-linker. Nothing else needs it, because the
//! objects are committed. Must not load an object: the tests do.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use hookgate_testkit::root::is_ci;
use object::build::elf::{Builder, SectionData};
use object::elf::SHT_STRTAB;

use crate::setup;

/// The version that `--install` installs. Any version that makes the same bytes is as good.
const BPF_LINKER_VERSION: &str = "0.13.0";

/// The LLVM of Debian's rustc-web. bpf-linker needs the same, because it reads the compiler's bitcode.
const DEBIAN_LLVM: &str = "22";

/// Names of the binaries, and of the committed objects.
const OBJECTS: [(&str, &str); 2] = [("hookgate-filter", "hookgate.bpf.o"), ("hookgate-filter-bench", "bench.bpf.o")];

/// The file beside the objects that names the toolchain that built them.
const RECORD: &str = "toolchain.txt";

/// Builds the eBPF objects.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Write nothing; fail if a committed object is not what this source builds
    #[arg(long)]
    check: bool,
    /// First install what is missing, with apt-get and cargo (Debian, as root)
    #[arg(long)]
    install: bool,
    /// Skip the check if the toolchain that built the objects is missing; in CI, try to install it
    #[arg(long, requires = "check")]
    if_possible: bool,
}

/// Runs the command.
///
/// # Errors
///
/// No toolchain is found, the build fails, or `--check` finds a difference.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("gateway-ebpf");
    let directory = package.join("object");
    let recorded = fs::read_to_string(directory.join(RECORD)).unwrap_or_default();
    if arguments.if_possible && !prepare(&recorded) {
        eprintln!(
            "!!! SKIPPED: whether the committed eBPF objects are built from this source. Their toolchain is missing."
        );
        eprintln!("!!! See gateway-ebpf/object/{RECORD}, and `cargo xtask ebpf --check --install`.");
        return Ok(());
    }
    if arguments.install {
        install()?;
    }
    let toolchain = Toolchain::find(&recorded)?;
    println!("building with {}", toolchain.record.trim_end().replace('\n', ", "));
    let built = toolchain.build(&package)?;
    for (name, object) in &built {
        let path = directory.join(name);
        if !arguments.check {
            fs::create_dir_all(&directory)?;
            fs::write(&path, object).with_context(|| format!("writing {}", path.display()))?;
            println!("{}: {} bytes", path.display(), object.len());
        } else if fs::read(&path).with_context(|| format!("reading {}", path.display()))? != *object {
            ensure!(
                toolchain.record == recorded,
                "{} cannot be checked here: it was built with\n{recorded}and this toolchain is\n{}Install the former (`cargo \
                 xtask ebpf --check --install` on Debian as root), or rebuild with `cargo xtask ebpf` and commit the result.",
                path.display(),
                toolchain.record,
            );
            bail!("{} is not what this source builds: run `cargo xtask ebpf` and commit the result", path.display());
        } else {
            println!("{}: built from this source", path.display());
        }
    }
    if !arguments.check {
        fs::write(directory.join(RECORD), &toolchain.record)?;
    }
    Ok(())
}

/// Whether the toolchain that built the committed objects is installed. In CI, tries to install it. If Debian has another compiler by now,
/// other bytes would prove nothing.
fn prepare(recorded: &str) -> bool {
    let is_there = || Toolchain::find(recorded).is_ok_and(|toolchain| toolchain.record == recorded);
    if is_there() || !is_ci() || !setup::is_root() {
        return is_there();
    }
    // A compiler that cannot be installed today is no fault of this source.
    if let Err(error) = install() {
        eprintln!("!!! The toolchain of the eBPF objects cannot be installed: {error:#}");
    }
    is_there()
}

/// A compiler that can build `core` for bpfel-unknown-none, with its files.
struct Toolchain {
    rustc: PathBuf,
    cargo: PathBuf,
    /// The standard library's source, by its name and by its resolved path, for the paths in the object.
    library: [PathBuf; 2],
    /// The lines of [`RECORD`].
    record: String,
}

impl Toolchain {
    /// The toolchain that built the committed objects, if it is installed; otherwise the first that is complete.
    fn find(recorded: &str) -> Result<Self> {
        let linker = output(Command::new("bpf-linker").arg("--version")).context(
            "bpf-linker is missing: install it with the LLVM of your nightly (`cargo install bpf-linker`), or run `cargo xtask ebpf --install`",
        )?;
        let mut candidates = Vec::new();
        if let Ok(rustc) = output(Command::new("rustup").args(["which", "--toolchain", "nightly", "rustc"])) {
            candidates.push(PathBuf::from(rustc.trim()));
        }
        candidates.push(PathBuf::from("/usr/bin/rustc"));
        let mut complete: Vec<Self> =
            candidates.into_iter().filter_map(|rustc| Self::complete(rustc, linker.trim()).ok()).collect();
        let preferred = complete.iter().position(|toolchain| toolchain.record == recorded).unwrap_or(0);
        ensure!(
            !complete.is_empty(),
            "no compiler with the source of its library: run `rustup toolchain install nightly --component rust-src`, or \
             `cargo xtask ebpf --install` on Debian as root"
        );
        Ok(complete.swap_remove(preferred))
    }

    /// The toolchain of `rustc`, if it has the source of its library.
    fn complete(rustc: PathBuf, linker: &str) -> Result<Self> {
        let sysroot = output(Command::new(&rustc).args(["--print", "sysroot"]))?;
        let library = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library");
        let resolved = library.canonicalize()?;
        let version = output(Command::new(&rustc).arg("-vV"))?;
        let line = |key: &str| version.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("unknown").to_owned();
        let record = format!(
            "rustc {} ({})\nLLVM {}\n{linker}\n",
            line("release: "),
            line("commit-hash: "),
            line("LLVM version: ")
        );
        Ok(Self { cargo: rustc.with_file_name("cargo"), rustc, library: [library, resolved], record })
    }

    /// Builds the objects. Returns committed names and bytes.
    fn build(&self, package: &Path) -> Result<Vec<(&'static str, Vec<u8>)>> {
        let target = package.with_file_name("target").join("ebpf");
        self.cargo(package, &target).args(["fetch", "--locked"]).status().context("running cargo")?;
        let mut flags = vec!["-Cdebuginfo=2".into(), "-Clink-arg=--btf".into()];
        for (from, to) in self.remapped(package)? {
            let mut flag = OsString::from("--remap-path-prefix=");
            flag.push(from);
            flag.push(to);
            flags.push(flag);
        }
        let status = self
            .cargo(package, &target)
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join(OsString::from("\x1f").as_os_str()))
            .args(["build", "--release", "--locked", "--features", "program", "--target", "bpfel-unknown-none"])
            .arg("-Zbuild-std=core")
            .status()
            .context("running cargo")?;
        ensure!(status.success(), "the build failed");
        OBJECTS
            .iter()
            .map(|(binary, name)| {
                let path = target.join("bpfel-unknown-none/release").join(binary);
                let object = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
                Ok((*name, without_dwarf(&object)?))
            })
            .collect()
    }

    fn cargo(&self, package: &Path, target: &Path) -> Command {
        let mut command = Command::new(&self.cargo);
        command.current_dir(package).env("RUSTC", &self.rustc).env("CARGO_TARGET_DIR", target);
        // Allows unstable features in a stable compiler. `build-std` is the only one, and the result is checked byte by byte.
        command.env("RUSTC_BOOTSTRAP", "1");
        for inherited in ["RUSTFLAGS", "RUSTUP_TOOLCHAIN", "CARGO", "RUSTC_WRAPPER", "CARGO_BUILD_TARGET"] {
            command.env_remove(inherited);
        }
        command
    }

    /// Every directory of this machine that could be in an object, and its replacement (with the `=`).
    fn remapped(&self, package: &Path) -> Result<Vec<(PathBuf, &'static str)>> {
        let mut remapped = vec![(package.to_owned(), "=/hookgate-ebpf")];
        remapped.extend(self.library.iter().map(|library| (library.clone(), "=/rust/library")));
        let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
        let home =
            home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo"))).context("no home directory")?;
        for registry in fs::read_dir(home.join("registry/src")).context("reading cargo's registry")? {
            remapped.push((registry?.path(), "=/registry"));
        }
        Ok(remapped)
    }
}

/// The object without its DWARF. BTF stays, because the kernel needs it.
fn without_dwarf(object: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(object).context("reading the linked object")?;
    for section in &mut builder.sections {
        let name = section.name.to_string();
        let name = name.strip_prefix(".rel").unwrap_or(&name);
        section.delete = name.starts_with(".debug");
    }
    // LLVM keeps the names of sections and symbols in one table, which `object` cannot write. So sections get their own.
    let names = builder.sections.add();
    names.name = ".shstrtab".into();
    names.sh_type = SHT_STRTAB;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    builder.write(&mut stripped).context("writing the stripped object")?;
    Ok(stripped)
}

/// Installs Debian's toolchain, and bpf-linker with the same LLVM.
///
/// # Errors
///
/// This process is not root, or one of them cannot be installed.
fn install() -> Result<()> {
    ensure!(output(Command::new("id").arg("-u"))?.trim() == "0", "--install needs root, because it runs apt-get");
    let llvm = format!("llvm-{DEBIAN_LLVM}");
    setup::apt_install(&["rustc-web", "cargo-web", "rust-web-src", &format!("{llvm}-dev")])?;
    if output(Command::new("bpf-linker").arg("--version")).is_ok_and(|version| version.contains(BPF_LINKER_VERSION)) {
        return Ok(());
    }
    let prefix = format!("/usr/lib/{llvm}");
    // Unoptimized: building takes longer than running, and LLVM does the work.
    let cargo = Command::new("cargo")
        .args([
            "install",
            "--debug",
            "bpf-linker",
            "--version",
            BPF_LINKER_VERSION,
            "--no-default-features",
            "--features",
            &llvm,
        ])
        .env("LLVM_PREFIX", &prefix)
        .env(format!("LLVM_SYS_{DEBIAN_LLVM}1_PREFIX"), &prefix)
        .status()?;
    ensure!(cargo.success(), "cargo could not install bpf-linker");
    Ok(())
}

/// The output of a command.
fn output(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8(output.stdout)?)
}
