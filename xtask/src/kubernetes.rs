//! `cargo xtask kubernetes`: checks the manifests in `kubernetes/` against the schemas of Kubernetes, and that they fit each other.
//!
//! Owns the validator, which it installs below the target directory. Needs no cluster and no kubectl. Must not judge what the gateway is told: the
//! tests of the image run it with these files.

mod fit;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::command::{self, root};
use crate::setup;
use fit::Kustomization;

/// The validator, of PyPI. Its package has the schemas, so a check needs no network.
const VALIDATOR: (&str, &str) = ("kubernetes-validate", "1.37.0");

/// The oldest and the newest version that docs/containers.md promises.
const VERSIONS: [&str; 2] = ["1.28", "1.37"];

/// The directory of the manifests.
const DIRECTORY: &str = "kubernetes";

/// What kustomize reads first.
const KUSTOMIZATION: &str = "kustomization.yaml";

/// Prints the documents of a YAML file as a JSON array.
const TO_JSON: &str =
    "import json, sys, yaml; json.dump([d for d in yaml.safe_load_all(open(sys.argv[1])) if d], sys.stdout)";

/// Checks the manifests.
///
/// # Errors
///
/// A manifest has a key or value that a version of Kubernetes does not know, or names what no other has; or the validator cannot be installed.
pub(crate) fn check() -> Result<()> {
    setup::require(setup::Task::Kubernetes)?;
    let validator = Validator::installed()?;
    let at = |name: &str| root().join(DIRECTORY).join(name);
    let [kustomization] = <[Value; 1]>::try_from(validator.documents(&at(KUSTOMIZATION))?)
        .map_err(|documents| anyhow::anyhow!("{KUSTOMIZATION} has {} documents, and needs one", documents.len()))?;
    let kustomization: Kustomization =
        serde_json::from_value(kustomization).with_context(|| format!("reading {KUSTOMIZATION}"))?;
    let mut manifests = Vec::new();
    for name in &kustomization.resources {
        let documents = validator.documents(&at(name))?;
        validator.check(&at(name), &documents)?;
        manifests.extend(documents);
    }
    validator.check_that_it_refuses(&manifests)?;
    let mut names = Vec::new();
    for entry in fs::read_dir(root().join(DIRECTORY))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    let misfits = fit::misfits(&kustomization, &manifests, &names);
    ensure!(misfits.is_empty(), "{DIRECTORY}: {}", misfits.join("; "));
    println!("kubernetes: {} manifests fit Kubernetes {}, and each other", manifests.len(), VERSIONS.join(" and "));
    Ok(())
}

/// The installed validator.
struct Validator {
    /// The directory of its programs.
    programs: PathBuf,
}

impl Validator {
    /// Installs it into an environment of its own, unless it is there. That takes some seconds, and PyPI.
    fn installed() -> Result<Self> {
        let (name, version) = VALIDATOR;
        let directory = command::target()?.join(format!("{name}-{version}"));
        let validator = Self { programs: directory.join("bin") };
        let done = directory.join("installed");
        // The interpreter is a link to that of the system, which may be gone.
        if done.is_file() && validator.programs.join("python").exists() {
            return Ok(validator);
        }
        if directory.exists() {
            fs::remove_dir_all(&directory).with_context(|| format!("removing {}", directory.display()))?;
        }
        command::run(Command::new("python3").args(["-m", "venv"]).arg(&directory))?;
        let mut pip = Command::new(validator.programs.join("python"));
        pip.args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]);
        command::run(pip.arg(format!("{name}=={version}")))?;
        fs::write(done, "")?;
        Ok(validator)
    }

    /// The documents of a YAML file.
    fn documents(&self, file: &Path) -> Result<Vec<Value>> {
        ensure!(file.is_file(), "{} is missing", file.display());
        let output = output(Command::new(self.programs.join("python")).args(["-c", TO_JSON]).arg(file))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{} is no YAML: {}", file.display(), said.trim());
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Validates a file against each of [`VERSIONS`]. Unknown keys are refused.
    fn validate(&self, file: &Path) -> Result<Output> {
        let mut command = Command::new(self.programs.join(VALIDATOR.0));
        for version in VERSIONS {
            command.args(["--kubernetes-version", version]);
        }
        output(command.arg("--strict").arg(file))
    }

    /// Checks that each document of a file was found valid for each version: one without a schema is only a warning to the validator.
    fn check(&self, file: &Path, documents: &[Value]) -> Result<()> {
        let output = self.validate(file)?;
        let printed = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}\n{printed}{errors}", output.status);
        for document in documents {
            let (kind, name) = (fit::text(document, "/kind")?, fit::text(document, "/metadata/name")?);
            for version in VERSIONS {
                let found = format!("passed for resource {}/{name} against version {version}", kind.to_lowercase());
                let is_valid = printed.lines().any(|line| line.starts_with("INFO") && line.ends_with(&found));
                ensure!(is_valid, "{kind} {name} was not compared with Kubernetes {version}:\n{printed}{errors}");
            }
        }
        Ok(())
    }

    /// Fails if the validator takes a key that Kubernetes does not know.
    fn check_that_it_refuses(&self, manifests: &[Value]) -> Result<()> {
        let Some(mut wrong) = manifests.iter().find(|manifest| manifest["kind"] == "DaemonSet").cloned() else {
            bail!("no DaemonSet among the manifests");
        };
        wrong["spec"]["template"]["spec"]["hostNetworks"] = json!(true);
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("wrong.yaml");
        // JSON is YAML.
        fs::write(&file, wrong.to_string())?;
        let output = self.validate(&file)?;
        let printed = String::from_utf8_lossy(&output.stdout);
        let refusals =
            printed.lines().filter(|line| line.starts_with("ERROR") && line.contains("hostNetworks")).count();
        let is_refused = !output.status.success() && refusals == VERSIONS.len();
        ensure!(is_refused, "the validator takes a key that Kubernetes does not know:\n{printed}");
        Ok(())
    }
}

fn output(command: &mut Command) -> Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.output().with_context(|| format!("starting {program}"))
}
