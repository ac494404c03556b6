//! Dependencies that a crate must not have in its manifest.
//!
//! Only direct dependencies count, because a crate can name no others. Those of tests do not count.

use anyhow::{Context, Result};
use toml::{Table, Value};

use super::layout::File;

/// A crate's folder, a dependency, and the forbidden features of it. Without features, the dependency itself is forbidden.
const FORBIDDEN: &[(&str, &str, &[&str])] = &[
    ("gateway/core", "tokio", &[]),
    ("gateway/core", "tokio-uring", &[]),
    ("gateway/core", "hyper", &["client", "server", "full"]),
    ("gateway/core", "hyper-util", &[]),
    ("gateway/core", "rustix", &[]),
    ("gateway/core", "socket2", &[]),
    ("gateway/core", "aya", &[]),
    ("gateway/core", "io-uring", &[]),
    ("gateway/client", "hookgate-io", &[]),
    ("gateway/client", "hookgate-filter", &[]),
];

/// Returns what contradicts [`FORBIDDEN`]. With `is_required`, a listed crate that does not exist is a problem too.
pub(super) fn check(files: &[File], is_required: bool) -> Result<Vec<String>> {
    let read = |path: &str| -> Result<Option<Table>> {
        let Some(file) = files.iter().find(|file| file.path == path) else { return Ok(None) };
        file.text.parse().map(Some).with_context(|| path.to_owned())
    };
    let shared = read("Cargo.toml")?.unwrap_or_default();
    let mut problems = Vec::new();
    for (folder, name, features) in FORBIDDEN {
        let path = format!("{folder}/Cargo.toml");
        let Some(manifest) = read(&path)? else {
            if is_required {
                problems.push(format!("there is no {path}: correct the list in {}", file!()));
            }
            continue;
        };
        let depended = dependencies(&manifest).into_iter().find(|(key, value)| package(key, value) == *name);
        let Some((key, value)) = depended else { continue };
        let workspace = shared.get("workspace").and_then(|all| all.get("dependencies")).and_then(|all| all.get(key));
        let enabled = [Some(value), workspace].into_iter().flatten().flat_map(listed_features);
        let enabled: Vec<&str> = enabled.filter(|feature| features.contains(feature)).collect();
        match (features.is_empty(), enabled.is_empty()) {
            (true, _) => problems.push(format!("{path}: {folder} must not depend on {name}")),
            (false, false) => problems.push(format!("{path}: {folder} must not use {name}'s {}", enabled.join(", "))),
            (false, true) => {}
        }
    }
    problems.dedup();
    Ok(problems)
}

/// The dependencies of all targets, and of the build script.
fn dependencies(manifest: &Table) -> Vec<(&str, &Value)> {
    let targets = manifest.get("target").and_then(Value::as_table).into_iter().flat_map(|targets| targets.values());
    let tables = targets.filter_map(Value::as_table).chain([manifest]);
    let mut found = Vec::new();
    for table in tables {
        for kind in ["dependencies", "build-dependencies"] {
            let listed = table.get(kind).and_then(Value::as_table).into_iter().flatten();
            found.extend(listed.map(|(key, value)| (key.as_str(), value)));
        }
    }
    found
}

/// The name of the package, which may be renamed.
fn package<'v>(key: &'v str, value: &'v Value) -> &'v str {
    value.get("package").and_then(Value::as_str).unwrap_or(key)
}

fn listed_features(value: &Value) -> impl Iterator<Item = &str> {
    value.get("features").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}
