//! Whether the manifests fit each other: what a schema cannot see.
//!
//! Owns which names must be the same in which places. Pure: must not read a file.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

/// kustomization.yaml: the keys that are used here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Kustomization {
    api_version: String,
    kind: String,
    namespace: String,
    /// The manifests, as files beside it.
    pub(super) resources: Vec<String>,
    config_map_generator: Vec<Generator>,
    generator_options: GeneratorOptions,
}

/// A ConfigMap that kustomize makes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Generator {
    name: String,
    files: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GeneratorOptions {
    disable_name_suffix_hash: bool,
}

/// What does not fit. `files` are the names in the directory.
pub(super) fn misfits(kustomization: &Kustomization, manifests: &[Value], files: &[String]) -> Vec<String> {
    let Kustomization { api_version, kind, namespace, resources, config_map_generator, generator_options } =
        kustomization;
    let mut found = Vec::new();
    if (api_version.as_str(), kind.as_str()) != ("kustomize.config.k8s.io/v1beta1", "Kustomization") {
        found.push(format!("kustomization.yaml is {kind} of {api_version}"));
    }
    if !generator_options.disable_name_suffix_hash {
        found.push("a change of the ConfigMap restarts the gateway, since its name has a hash".to_owned());
    }
    let named = resources.iter().chain(config_map_generator.iter().flat_map(|generator| &generator.files));
    found.extend(
        named
            .filter(|name| !files.contains(name))
            .map(|name| format!("kustomization.yaml names {name}, which is missing")),
    );
    let is_manifest = |name: &&String| name.ends_with(".yaml") && *name != "kustomization.yaml";
    let unnamed = files.iter().filter(is_manifest).filter(|name| !resources.contains(name));
    found.extend(unnamed.map(|name| format!("kustomization.yaml does not name {name}")));
    let generated: BTreeSet<&str> = config_map_generator.iter().map(|generator| generator.name.as_str()).collect();
    for manifest in manifests {
        let place = if manifest["kind"] == "Namespace" { "/metadata/name" } else { "/metadata/namespace" };
        if text(manifest, place).ok() != Some(namespace.as_str()) {
            found.push(format!("{} of {} is not {namespace}", place, manifest["kind"]));
        }
        found.extend(misfits_of_volumes(manifest, &generated));
    }
    found
}

/// Each mount has a volume, each volume a mount, and each ConfigMap is made.
fn misfits_of_volumes(manifest: &Value, generated: &BTreeSet<&str>) -> Vec<String> {
    let Some(pod) = manifest.pointer("/spec/template/spec") else { return Vec::new() };
    let elements = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let name = |value: &Value| text(value, "/name").unwrap_or_default().to_owned();
    let volumes: BTreeSet<String> = elements(pod, "volumes").iter().map(name).collect();
    let containers = elements(pod, "containers");
    let mounted: BTreeSet<String> =
        containers.iter().flat_map(|container| elements(container, "volumeMounts")).map(|mount| name(&mount)).collect();
    let differing = volumes.symmetric_difference(&mounted).map(|name| format!("{name} is a volume or a mount alone"));
    let configuration = elements(pod, "volumes").into_iter().filter_map(|volume| {
        let name = text(&volume, "/configMap/name").ok()?.to_owned();
        (!generated.contains(name.as_str())).then(|| format!("the ConfigMap {name} is mounted, and not made"))
    });
    differing.chain(configuration).collect()
}

/// The text at a place of a manifest.
///
/// # Errors
///
/// There is none.
pub(super) fn text<'v>(manifest: &'v Value, place: &str) -> Result<&'v str> {
    manifest.pointer(place).and_then(Value::as_str).with_context(|| format!("a manifest has no {place}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kustomization(resources: &[&str]) -> Kustomization {
        let value = json!({
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": "gate",
            "resources": resources,
            "configMapGenerator": [{ "name": "settings", "files": ["settings.toml"] }],
            "generatorOptions": { "disableNameSuffixHash": true },
        });
        serde_json::from_value(value).expect("it has the keys")
    }

    fn workload(mount: &str, map: &str) -> Value {
        json!({
            "kind": "DaemonSet",
            "metadata": { "name": "gate", "namespace": "gate" },
            "spec": { "template": { "spec": {
                "containers": [{ "volumeMounts": [{ "name": mount }] }],
                "volumes": [{ "name": "configuration", "configMap": { "name": map } }],
            } } },
        })
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let files = ["all.yaml", "kustomization.yaml", "settings.toml"].map(str::to_owned);
        let good = workload("configuration", "settings");
        let other = json!({ "kind": "Service", "metadata": { "name": "gate", "namespace": "other" } });
        let space = json!({ "kind": "Namespace", "metadata": { "name": "gate" } });
        for (resources, manifests, expected) in [
            (&["all.yaml"][..], vec![space, good.clone()], ""),
            (&["all.yaml", "more.yaml"], vec![], "names more.yaml, which is missing"),
            (&[], vec![], "does not name all.yaml"),
            (&["all.yaml"], vec![other], "/metadata/namespace of \"Service\" is not gate"),
            (&["all.yaml"], vec![workload("secrets", "settings")], "secrets is a volume or a mount alone"),
            (&["all.yaml"], vec![workload("configuration", "other")], "the ConfigMap other is mounted, and not made"),
        ] {
            let found = misfits(&kustomization(resources), &manifests, &files).join("; ");
            assert!(found.contains(expected) && found.is_empty() == expected.is_empty(), "{found}: {expected}");
        }
        let without = misfits(&kustomization(&["all.yaml"]), &[good], &files[..2]).join("; ");
        assert!(without.contains("names settings.toml, which is missing"), "{without}");
    }

    #[test]
    fn a_key_that_kustomize_would_ignore_or_refuse_is_an_error() {
        let value = json!({ "apiVersion": "x", "kind": "x", "namespace": "x", "resource": [] });
        let error = serde_json::from_value::<Kustomization>(value).err().expect("resource is no key").to_string();
        assert!(error.contains("unknown field `resource`"), "{error}");
    }
}
