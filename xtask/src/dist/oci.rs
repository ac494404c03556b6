//! The container image: an OCI image layout (image-spec 1.0), and the same as one file for `podman load` and `skopeo copy`.
//!
//! Owns what is in the image: two layers, one with the libraries of a release of Debian, its certificate authorities and nothing to run, one with
//! the gateway, its presets and its user. The same input makes the same bytes. mmdebstrap fetches Debian's packages, and unpacks them without
//! running any of their programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::tree::{Tree, gzip};
use super::{control, run_quietly};

/// The user and group of the gateway: `nonroot` of the distroless images, which Kubernetes recognizes as not root because it is a number.
const USER: u64 = 65_532;

/// What the binary needs of Debian, and the authorities of the host.
const PACKAGES: &str = "libc6,libgcc-s1,libsystemd0,ca-certificates";

/// Libraries of other programs in these packages' dependencies: those of openssl, which makes the links of the authorities.
const UNUSED: [&str; 2] = ["libssl", "libcrypto"];

/// The file in which OpenSSL, and rustls-native-certs, look for authorities on Debian.
const AUTHORITIES: &str = "etc/ssl/certs/ca-certificates.crt";

/// What the container has of the gateway's package: the rest is for systemd, shells and readers.
const OF_PACKAGE: [&str; 3] =
    ["usr/bin/hookgate", "usr/share/doc/hookgate/copyright", "usr/share/doc/hookgate/hookgate.cdx.json.gz"];

/// Where the configuration is mounted.
const CONFIGURATION: &str = "etc/hookgate";

/// Where a volume for state is mounted. The gateway makes its directory in it, because that of a volume often has another owner or mode.
const STATE: &str = "var/lib/hookgate";

/// What goes into an image.
pub(super) struct Image<'a> {
    pub(super) version: &'a str,
    /// The date of every file, and of the image; seconds since 1970.
    pub(super) epoch: u64,
    /// The release of Debian, such as `bookworm`. Its C library must not be older than that of the machine that linked the binary.
    pub(super) debian: &'a str,
    pub(super) gateway: &'a Tree,
    pub(super) presets: &'a Tree,
    /// Compressed layers take a third of the space, and a minute for a binary that was not built for release.
    pub(super) is_compressed: bool,
}

impl Image<'_> {
    /// Writes the layout as a directory of `output`, and as a tar file beside it. Returns both paths.
    ///
    /// # Errors
    ///
    /// mmdebstrap fails, or a file cannot be read or written.
    pub(super) fn write(&self, output: &Path) -> Result<[PathBuf; 2]> {
        let name = format!("hookgate-{}-{}", self.version, std::env::consts::ARCH);
        let layers = [
            (self.base()?, format!("libraries and authorities of Debian {}", self.debian)),
            (self.application()?, format!("hookgate {}", self.version)),
        ];
        let mut blobs = Blobs::default();
        let mut described = Vec::new();
        for (tar, _) in &layers {
            described.push(match self.is_compressed {
                true => blobs.add("application/vnd.oci.image.layer.v1.tar+gzip", gzip(tar)?),
                false => blobs.add("application/vnd.oci.image.layer.v1.tar", tar.clone()),
            });
        }
        let configuration = serde_json::to_vec(&self.configuration(&layers)?)?;
        let configuration = blobs.add("application/vnd.oci.image.config.v1+json", configuration);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": configuration,
            "layers": described,
        });
        let mut manifest = blobs.add("application/vnd.oci.image.manifest.v1+json", serde_json::to_vec(&manifest)?);
        manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": format!("hookgate:{}", self.version) });
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [manifest],
        });
        let mut files = vec![
            ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
            ("index.json".to_owned(), serde_json::to_vec(&index)?),
        ];
        files.extend(blobs.0);
        let layout = output.join(format!("{name}.oci"));
        if layout.exists() {
            fs::remove_dir_all(&layout).with_context(|| format!("removing {}", layout.display()))?;
        }
        let mut archive = Layer::new(self.epoch);
        archive.directory("blobs", 0o755, 0)?;
        archive.directory("blobs/sha256", 0o755, 0)?;
        for (path, content) in &files {
            super::tree::write(&layout.join(path), 0o644, content)?;
            archive.file(path, 0o644, content)?;
        }
        let tarball = output.join(format!("{name}.oci.tar"));
        fs::write(&tarball, archive.finish()?).with_context(|| format!("writing {}", tarball.display()))?;
        Ok([layout, tarball])
    }

    /// How the image is run.
    fn configuration(&self, layers: &[(Vec<u8>, String)]) -> Result<Value> {
        let created = OffsetDateTime::from_unix_timestamp(i64::try_from(self.epoch)?)?.format(&Rfc3339)?;
        let history =
            |made: &String| json!({ "created": created, "created_by": "cargo xtask dist --oci", "comment": made });
        Ok(json!({
            "created": created,
            "architecture": control::architecture()?,
            "os": "linux",
            "config": {
                "User": format!("{USER}:{USER}"),
                "Env": ["PATH=/usr/bin", format!("STATE_DIRECTORY=/{STATE}/state")],
                "Entrypoint": ["/usr/bin/hookgate"],
                "Cmd": ["run", "--config", format!("/{CONFIGURATION}/hookgate.toml")],
                "WorkingDir": "/",
                "Volumes": { format!("/{STATE}"): {} },
                "StopSignal": "SIGTERM",
                "Labels": {
                    "org.opencontainers.image.title": "hookgate",
                    "org.opencontainers.image.description": "gateway that receives webhooks over mutual TLS",
                    "org.opencontainers.image.version": self.version,
                    "org.opencontainers.image.licenses": "MIT OR Apache-2.0",
                    "org.opencontainers.image.base.name": format!("debian:{}", self.debian),
                },
            },
            "rootfs": { "type": "layers", "diff_ids": layers.iter().map(|(tar, _)| sha256(tar)).collect::<Vec<_>>() },
            "history": layers.iter().map(|(_, made)| history(made)).collect::<Vec<_>>(),
        }))
    }

    /// The layer of Debian.
    fn base(&self) -> Result<Vec<u8>> {
        let directory = tempfile::tempdir().context("making a directory for Debian's packages")?;
        let root = directory.path().join("root");
        let mut mmdebstrap = Command::new("mmdebstrap");
        mmdebstrap.args(["--variant=extract", "--format=directory", "--quiet", "--include", PACKAGES]);
        run_quietly(mmdebstrap.arg(self.debian).arg(&root))?;
        let mut layer = Layer::new(self.epoch);
        for path in ["etc", "etc/ssl", "etc/ssl/certs"] {
            layer.directory(path, 0o755, 0)?;
        }
        layer.file(AUTHORITIES, 0o644, &authorities(&root)?)?;
        for path in ["lib", "lib64"] {
            let merged = format!("usr/{path}");
            match fs::symlink_metadata(root.join(path)) {
                Ok(found) if found.is_dir() => layer.copy(&root, path)?,
                // From Debian 13 on the packages have everything below /usr.
                _ if root.join(&merged).is_dir() => layer.link(path, &merged)?,
                _ => {}
            }
        }
        layer.directory("usr", 0o755, 0)?;
        for path in ["usr/lib", "usr/lib64"] {
            layer.copy(&root, path)?;
        }
        layer.directory("tmp", 0o1777, 0)?;
        layer.directory("usr/share", 0o755, 0)?;
        layer.directory("usr/share/doc", 0o755, 0)?;
        for package in names(&root.join("usr/share/doc"))? {
            let copyright = format!("usr/share/doc/{package}/copyright");
            if let Ok(text) = fs::read(root.join(&copyright)) {
                layer.directory(&format!("usr/share/doc/{package}"), 0o755, 0)?;
                layer.file(&copyright, 0o644, &text)?;
            }
        }
        layer.finish()
    }

    /// The layer of the gateway.
    fn application(&self) -> Result<Vec<u8>> {
        let mut layer = Layer::new(self.epoch);
        layer.directory("etc", 0o755, 0)?;
        layer.file("etc/passwd", 0o644, format!("root:x:0:0:root:/:\nhookgate:x:{USER}:{USER}::/:\n").as_bytes())?;
        layer.file("etc/group", 0o644, format!("root:x:0:\nhookgate:x:{USER}:\n").as_bytes())?;
        layer.directory(CONFIGURATION, 0o755, 0)?;
        layer.directory("var", 0o755, 0)?;
        layer.directory("var/lib", 0o755, 0)?;
        layer.directory(STATE, 0o700, USER)?;
        let of_package = self.gateway.files().filter(|(path, ..)| OF_PACKAGE.contains(path));
        for (path, mode, content) in of_package.chain(self.presets.files()) {
            layer.file(path, mode, content)?;
        }
        layer.finish()
    }
}

/// Mozilla's authorities, one after the other, as update-ca-certificates writes them.
fn authorities(root: &Path) -> Result<Vec<u8>> {
    let directory = root.join("usr/share/ca-certificates/mozilla");
    let mut all = Vec::new();
    for name in names(&directory)? {
        all.extend(fs::read(directory.join(&name)).with_context(|| format!("reading {name}"))?);
    }
    ensure!(!all.is_empty(), "{} has no authority", directory.display());
    Ok(all)
}

/// The names in a directory, in order.
fn names(directory: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?;
    let mut names: Vec<String> =
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect::<Result<_>>()?;
    names.sort();
    Ok(names)
}

fn sha256(bytes: &[u8]) -> String {
    let digest = digest(&SHA256, bytes);
    digest.as_ref().iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

/// The blobs of a layout: path and content.
#[derive(Default)]
struct Blobs(Vec<(String, Vec<u8>)>);

impl Blobs {
    /// Adds a blob, and returns its descriptor.
    fn add(&mut self, media_type: &str, content: Vec<u8>) -> Value {
        let (digest, size) = (sha256(&content), content.len());
        self.0.push((format!("blobs/{}", digest.replace(':', "/")), content));
        json!({ "mediaType": media_type, "digest": digest, "size": size })
    }
}

/// A tar file that is written in order.
struct Layer {
    tar: Builder<Vec<u8>>,
    epoch: u64,
}

impl Layer {
    fn new(epoch: u64) -> Self {
        Self { tar: Builder::new(Vec::new()), epoch }
    }

    fn header(&self, kind: EntryType, mode: u32, owner: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_mtime(self.epoch);
        header.set_size(0);
        header
    }

    fn directory(&mut self, path: &str, mode: u32, owner: u64) -> Result<()> {
        let mut header = self.header(EntryType::Directory, mode, owner);
        Ok(self.tar.append_data(&mut header, format!("{path}/"), std::io::empty())?)
    }

    fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        let mut header = self.header(EntryType::Regular, mode, 0);
        header.set_size(content.len() as u64);
        Ok(self.tar.append_data(&mut header, path, content)?)
    }

    fn link(&mut self, path: &str, target: &str) -> Result<()> {
        let mut header = self.header(EntryType::Symlink, 0o777, 0);
        Ok(self.tar.append_link(&mut header, path, target)?)
    }

    /// Adds the shared libraries of a directory and of those with the name of an architecture in it.
    fn copy(&mut self, root: &Path, path: &str) -> Result<()> {
        let directory = root.join(path);
        if !directory.is_dir() {
            return Ok(());
        }
        self.directory(path, 0o755, 0)?;
        for name in names(&directory)? {
            let (inner, found) = (format!("{path}/{name}"), directory.join(&name));
            let kind = fs::symlink_metadata(&found)?;
            let is_wanted = name.contains(".so") && !UNUSED.iter().any(|unused| name.starts_with(unused));
            if kind.is_dir() && name.ends_with("-linux-gnu") {
                self.copy(root, &inner)?;
            } else if kind.is_symlink() && is_wanted {
                let target = fs::read_link(&found)?;
                self.link(&inner, &target.to_string_lossy())?;
            } else if kind.is_file() && is_wanted {
                self.file(&inner, 0o755, &fs::read(&found)?)?;
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Vec<u8>> {
        Ok(self.tar.into_inner()?)
    }
}
