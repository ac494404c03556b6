//! The control files of the package: name, version, dependencies, configuration files, maintainer scripts.
//!
//! The versions of the libraries are those of the symbols that the binary needs, as dpkg-shlibdeps would find them. dpkg-dev is not needed.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use object::elf::FileHeader64;
use object::read::elf::{FileHeader as _, SectionHeader as _};
use object::{Endianness, StringTable};

use super::tree::{self, CONFIGURATION_FILES, Tree};

/// The libraries that the gateway may be linked with: name, package, and prefix of the symbol versions.
const LIBRARIES: [(&str, &str, &str); 5] = [
    ("libc.so.6", "libc6", "GLIBC_"),
    ("libm.so.6", "libc6", "GLIBC_"),
    ("ld-linux", "libc6", "GLIBC_"),
    ("libgcc_s.so.1", "libgcc-s1", "GCC_"),
    ("libsystemd.so.0", "libsystemd0", "LIBSYSTEMD_"),
];

/// The maintainer scripts of the gateway: name, and file of `xtask/package`.
const SCRIPTS: [(&str, &str); 3] = [("postinst", "postinst"), ("prerm", "prerm"), ("postrm", "postrm")];

/// Those of the presets. The same script serves installation and removal.
const PRESET_SCRIPTS: [(&str, &str); 2] = [("postinst", "presets-reload"), ("postrm", "presets-reload")];

/// What a package holds.
pub(super) enum Content<'a> {
    /// The gateway, with its binary.
    Gateway(&'a [u8]),
    /// The presets, which are the same on every architecture.
    Presets,
}

/// The package's `DEBIAN` directory.
pub(super) struct Control<'a> {
    pub(super) version: &'a str,
    pub(super) content: Content<'a>,
    pub(super) tree: &'a Tree,
}

impl Control<'_> {
    /// Writes the directory below `root`, which holds the tree.
    ///
    /// # Errors
    ///
    /// A file cannot be written, or the binary is not an ELF file of this machine.
    pub(super) fn write(&self, root: &Path) -> Result<()> {
        let directory = root.join("DEBIAN");
        let (text, scripts) = match self.content {
            Content::Gateway(binary) => {
                let files: String = CONFIGURATION_FILES.iter().map(|path| format!("/{path}\n")).collect();
                tree::write(&directory.join("conffiles"), 0o644, files.as_bytes())?;
                (self.gateway(binary)?, SCRIPTS.as_slice())
            }
            Content::Presets => (self.presets(), PRESET_SCRIPTS.as_slice()),
        };
        tree::write(&directory.join("control"), 0o644, text.as_bytes())?;
        tree::write(&directory.join("md5sums"), 0o644, &self.sums(root)?)?;
        for (name, file) in scripts {
            let text = tree::read(&format!("xtask/package/{file}"))?;
            tree::write(&directory.join(name), 0o755, text.as_bytes())?;
        }
        Ok(())
    }

    fn presets(&self) -> String {
        format!(
            "Package: hookgate-presets\n\
             Version: {}\n\
             Architecture: all\n\
             Maintainer: {}\n\
             Installed-Size: {}\n\
             Enhances: hookgate\n\
             Section: net\n\
             Priority: optional\n\
             Description: senders that hookgate knows, with their certificate authorities\n \
             Replaces the presets that are compiled into hookgate, so that a sender's new\n \
             certificate authority needs no other version of it.\n",
            self.version,
            maintainer(),
            self.tree.kibibytes(),
        )
    }

    fn gateway(&self, binary: &[u8]) -> Result<String> {
        let mut depends = dependencies(binary)?;
        // The maintainer scripts need systemd-sysusers and systemd-tmpfiles, the gateway the service manager.
        depends.push("systemd (>= 250)".to_owned());
        Ok(format!(
            "Package: hookgate\n\
             Version: {}\n\
             Architecture: {}\n\
             Maintainer: {}\n\
             Installed-Size: {}\n\
             Depends: {}\n\
             Recommends: ca-certificates, hookgate-presets\n\
             Section: net\n\
             Priority: optional\n\
             Description: gateway that receives webhooks over mutual TLS\n \
             hookgate verifies the client certificate of a provider and its identity, checks\n \
             what the request itself must prove, and forwards it to a local program, over\n \
             a Unix socket or a loopback port. It refuses everything else, with a reason.\n",
            self.version,
            architecture()?,
            maintainer(),
            self.tree.kibibytes(),
            depends.join(", "),
        ))
    }

    /// The sums for `dpkg --verify`: of all files but the configuration.
    fn sums(&self, root: &Path) -> Result<Vec<u8>> {
        let mut command = Command::new("md5sum");
        command.current_dir(root).args(self.tree.paths().filter(|path| !CONFIGURATION_FILES.contains(path)));
        let output = command.output().context("starting md5sum, which packaging needs")?;
        ensure!(output.status.success(), "md5sum failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(output.stdout)
    }
}

/// Debian's name of this architecture.
///
/// # Errors
///
/// Debian has no such architecture, or this list lacks it.
pub(super) fn architecture() -> Result<&'static str> {
    let names = [("x86_64", "amd64"), ("aarch64", "arm64"), ("riscv64", "riscv64")];
    let found = names.iter().find(|(name, _)| *name == std::env::consts::ARCH);
    Ok(found.with_context(|| format!("no Debian architecture is known for {}", std::env::consts::ARCH))?.1)
}

/// The maintainer of the package: DEBFULLNAME and DEBEMAIL, which Debian's tools read too.
fn maintainer() -> String {
    let name = std::env::var("DEBFULLNAME").unwrap_or_else(|_| "The hookgate authors".to_owned());
    let address = std::env::var("DEBEMAIL").unwrap_or_else(|_| "authors@hookgate.invalid".to_owned());
    format!("{name} <{address}>")
}

/// The Debian changelog with one entry; CHANGELOG.md has the history.
///
/// # Errors
///
/// date(1) fails.
pub(super) fn changelog(package: &str, version: &str, epoch: u64) -> Result<String> {
    // deb-changelog(5): the date in the form of RFC 5322.
    let mut command = Command::new("date");
    command.args(["--utc", "--rfc-email", &format!("--date=@{epoch}")]).env("LC_ALL", "C");
    let output = command.output().context("starting date, which packaging needs")?;
    ensure!(output.status.success(), "date failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    let date = String::from_utf8(output.stdout)?;
    Ok(format!(
        "{package} ({version}) stable; urgency=medium\n\n  * See CHANGELOG.md of hookgate.\n\n -- {}  {}\n",
        maintainer(),
        date.trim()
    ))
}

/// The packages of the libraries that `binary` is linked with, each with the version of the newest symbols that it needs.
///
/// # Errors
///
/// It is not a 64-bit ELF file, or needs a library that is not in [`LIBRARIES`].
pub(super) fn dependencies(binary: &[u8]) -> Result<Vec<String>> {
    let mut needed: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for (library, version) in symbol_versions(binary).context("reading what the binary is linked with")? {
        let (_, package, prefix) = LIBRARIES
            .iter()
            .find(|(name, _, _)| library.starts_with(name))
            .with_context(|| format!("the binary needs {library}: add its package to {}", file!()))?;
        let number =
            version.strip_prefix(prefix).with_context(|| format!("{library}: unexpected symbol version {version}"))?;
        // GLIBC_PRIVATE and similar belong to no released version and have no order.
        let parts = number.split('.').map(str::parse).collect::<Result<Vec<u32>, _>>();
        let parts = parts.with_context(|| format!("{library}: unexpected symbol version {version}"))?;
        let newest = needed.entry(package).or_default();
        *newest = std::mem::take(newest).max(parts);
    }
    let joined = |parts: &[u32]| parts.iter().map(u32::to_string).collect::<Vec<_>>().join(".");
    Ok(needed.iter().map(|(package, parts)| format!("{package} (>= {})", joined(parts))).collect())
}

/// Library and version of every set of symbols that an ELF file needs.
fn symbol_versions(binary: &[u8]) -> Result<Vec<(String, String)>> {
    let header = FileHeader64::<Endianness>::parse(binary)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, binary)?;
    let (libraries, link) = sections.gnu_verneed(endian, binary)?.context("it needs no version of any library")?;
    let names = sections.section(link)?.strings(endian, binary)?.unwrap_or_else(StringTable::default);
    let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    let mut versions = Vec::new();
    for library in libraries {
        let (library, wanted) = library?;
        let library = library.file(endian, names).map(text)?;
        for version in wanted {
            versions.push((library.clone(), version?.name(endian, names).map(text)?));
        }
    }
    Ok(versions)
}
