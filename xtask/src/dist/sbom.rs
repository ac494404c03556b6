//! The bill of materials of the packaged binary, in CycloneDX: every crate that is compiled into it, with licence, checksum and dependencies.
//!
//! Owns which crates those are: what Cargo resolves for the package alone, without tests, on this machine's target. The same Cargo.lock makes
//! the same bytes: no date, no serial number. C sources in crates, such as those of ring and mimalloc, count as parts of their crates;
//! libsystemd is a library of the system, which the package names as a dependency.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use cyclonedx_bom::external_models::normalized_string::NormalizedString;
use cyclonedx_bom::external_models::spdx::SpdxExpression;
use cyclonedx_bom::external_models::uri::Purl;
use cyclonedx_bom::models::bom::Bom;
use cyclonedx_bom::models::component::{Classification, Component, Components};
use cyclonedx_bom::models::dependency::{Dependencies, Dependency};
use cyclonedx_bom::models::hash::{Hash, HashAlgorithm, HashValue, Hashes};
use cyclonedx_bom::models::license::{LicenseChoice, Licenses};
use cyclonedx_bom::models::metadata::Metadata;
use cyclonedx_bom::validation::Validate as _;
use serde::Deserialize;

use crate::command::{cargo, root};

/// The package whose binary is packed.
const PACKAGE: &str = "hookgate";

/// A crate: name and version. Cargo.lock has no two of one name and version.
type Id = (String, String);

/// What `cargo metadata` says about all crates of the workspace.
#[derive(Deserialize)]
struct Workspace {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    dependencies: Vec<String>,
}

/// The part of Cargo.lock that has checksums.
#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    checksum: Option<String>,
}

/// The bill of materials as JSON, for a package of `version`.
///
/// # Errors
///
/// Cargo fails, or a crate has no SPDX licence.
pub(super) fn text(version: &str) -> Result<String> {
    let compiled = compiled()?;
    let workspace: Workspace = serde_json::from_slice(&run(&["metadata", "--locked", "--format-version", "1"])?)?;
    let lock: Lock = toml::from_str(&std::fs::read_to_string(root().join("Cargo.lock"))?)?;
    let checksum = |package: &Package| {
        let locked = lock.package.iter().find(|it| it.name == package.name && it.version == package.version);
        locked.and_then(|locked| locked.checksum.clone())
    };
    let ids: BTreeMap<&str, Id> =
        workspace.packages.iter().map(|it| (it.id.as_str(), (it.name.clone(), it.version.clone()))).collect();
    let mut packages: Vec<&Package> =
        workspace.packages.iter().filter(|it| compiled.contains(&(it.name.clone(), it.version.clone()))).collect();
    packages.sort_by_key(|package| (&package.name, &package.version));
    ensure!(packages.len() == compiled.len(), "cargo tree and cargo metadata name different crates");
    let (mut components, mut dependencies, mut main) = (Vec::new(), Vec::new(), None);
    for package in packages {
        let component = component(package, checksum(package))?;
        if package.name == PACKAGE {
            main = Some(Component {
                component_type: Classification::Application,
                version: Some(NormalizedString::new(version)),
                ..component
            });
        } else {
            components.push(component);
        }
        let node = workspace.resolve.nodes.iter().find(|node| node.id == package.id);
        let of_node = node.into_iter().flat_map(|node| &node.dependencies).filter_map(|id| ids.get(id.as_str()));
        let names: BTreeSet<String> = of_node.filter(|id| compiled.contains(*id)).map(reference).collect();
        let id = (package.name.clone(), package.version.clone());
        dependencies.push(Dependency { dependency_ref: reference(&id), dependencies: names.into_iter().collect() });
    }
    let main = main.with_context(|| format!("{PACKAGE} is not among its own crates"))?;
    let bom = Bom {
        serial_number: None,
        metadata: Some(Metadata { component: Some(main), ..Metadata::default() }),
        components: Some(Components(components)),
        dependencies: Some(Dependencies(dependencies)),
        ..Bom::default()
    };
    ensure!(bom.validate().passed(), "the bill of materials is not valid: {:?}", bom.validate());
    let mut json = Vec::new();
    bom.output_as_json_v1_5(&mut json)?;
    Ok(String::from_utf8(json)? + "\n")
}

/// The crates that are compiled into the binary, or run while it is built.
fn compiled() -> Result<BTreeSet<Id>> {
    let tree = run(&[
        "tree",
        "--locked",
        "--package",
        PACKAGE,
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ])?;
    let text = String::from_utf8(tree)?;
    let lines = text.lines().filter(|line| !line.is_empty());
    let id = |line: &str| {
        let mut words = line.split(' ');
        let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
        Some((name.to_owned(), version.to_owned()))
    };
    lines.map(|line| id(line).with_context(|| format!("cargo tree printed {line}"))).collect()
}

fn component(package: &Package, checksum: Option<String>) -> Result<Component> {
    let id = (package.name.clone(), package.version.clone());
    let mut component = Component::new(Classification::Library, &package.name, &package.version, Some(reference(&id)));
    let licence = package.license.as_deref().with_context(|| format!("{} has no licence", package.name))?;
    // Some crates still write the slash of old manifests for `OR`.
    let expression = SpdxExpression::new(&licence.replace('/', " OR "));
    component.licenses = Some(Licenses(vec![LicenseChoice::Expression(expression)]));
    component.purl = Some(Purl::new("cargo", &package.name, &package.version)?);
    let hash = |checksum| Hash { alg: HashAlgorithm::SHA_256, content: HashValue(checksum) };
    component.hashes = checksum.map(|checksum| Hashes(vec![hash(checksum)]));
    Ok(component)
}

/// The name of a crate within the document.
fn reference((name, version): &Id) -> String {
    format!("{name}@{version}")
}

fn run(arguments: &[&str]) -> Result<Vec<u8>> {
    let mut command: Command = cargo();
    let output = command.args(arguments).current_dir(root()).output().context("starting cargo")?;
    ensure!(output.status.success(), "cargo {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}
