//! The package with a small binary: its files, its dependencies, and that it is reproducible.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

const EPOCH: u64 = 1_780_272_000;

/// A binary of this machine that is linked with libc: this test.
fn binary() -> Vec<u8> {
    fs::read(std::env::current_exe().unwrap()).unwrap()
}

#[test]
fn the_same_input_makes_the_same_bytes() {
    // The dependencies come from this binary. The tree has a small one, because packing this one would take a minute.
    let binary = binary();
    let small = b"#!/bin/sh\n";
    let made = || {
        let directory = tempfile::tempdir().unwrap();
        let (package, tarball) = (directory.path().join("package.deb"), directory.path().join("package.tar.gz"));
        let tree = Tree::collect(small, "1.2.3", EPOCH).unwrap();
        let content = Content::Gateway(&binary);
        make_package(&Control { version: "1.2.3", content, tree: &tree }, EPOCH, &package, false).unwrap();
        make_tarball(&tree, "1.2.3", EPOCH, &tarball).unwrap();
        [fs::read(package).unwrap(), fs::read(tarball).unwrap()]
    };
    let (first, second) = (made(), made());
    assert!(first == second, "two packages of the same input differ");
    assert!(first.iter().all(|file| file.len() > 10_000));
}

#[test]
fn libraries_are_needed_in_the_version_of_their_symbols() {
    let dependencies = control::dependencies(&binary()).unwrap();
    let libc = dependencies.iter().find_map(|dependency| dependency.strip_prefix("libc6 (>= 2.")).unwrap();
    let minor: u32 = libc.trim_end_matches(')').parse().unwrap();
    assert!((17..100).contains(&minor), "{dependencies:?}");
    assert!(dependencies.iter().all(|dependency| !dependency.contains("libm")), "{dependencies:?}");
    assert!(control::dependencies(b"#!/bin/sh\n").is_err());
}

#[test]
fn every_file_has_its_path() {
    let tree = Tree::collect(b"", "1.2.3", EPOCH).unwrap();
    let paths: Vec<_> = tree.paths().collect();
    for path in [
        "etc/hookgate/hookgate.toml",
        "usr/bin/hookgate",
        "usr/lib/systemd/system/hookgate.service",
        "usr/lib/sysusers.d/hookgate.conf",
        "usr/lib/tmpfiles.d/hookgate.conf",
        "usr/share/bash-completion/completions/hookgate",
        "usr/share/doc/hookgate/docs/configuration.md",
        "usr/share/doc/hookgate/docs/status.png",
        "usr/share/doc/hookgate/monitoring/hookgate.dashboard.json",
        "usr/share/doc/hookgate/monitoring/hookgate.rules.test.yml",
        "usr/share/doc/hookgate/monitoring/hookgate.rules.yml",
        "usr/share/doc/hookgate/copyright",
        "usr/share/doc/hookgate/hookgate.cdx.json.gz",
        "usr/share/man/man5/hookgate.toml.5.gz",
        "usr/share/man/man8/hookgate.8.gz",
    ] {
        assert!(paths.contains(&path), "{path} is missing: {paths:#?}");
    }
}

#[test]
fn the_presets_are_a_package_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let (package, files) = (directory.path().join("presets.deb"), directory.path().join("files"));
    let tree = Tree::collect_presets("1.2.3", EPOCH).unwrap();
    let control = Control { version: "1.2.3", content: Content::Presets, tree: &tree };
    make_package(&control, EPOCH, &package, true).unwrap();
    let dpkg_deb = |arguments: &[&str]| {
        let output = Command::new("dpkg-deb").args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let package = package.to_str().unwrap();
    let field = |name: &str| dpkg_deb(&["--field", package, name]).trim().to_owned();
    assert_eq!([field("Package"), field("Architecture")], ["hookgate-presets", "all"]);
    let postinst = dpkg_deb(&["--info", package, "postinst"]);
    assert!(postinst.contains("systemctl --quiet is-active hookgate.service"), "{postinst}");
    dpkg_deb(&["--extract", package, files.to_str().unwrap()]);
    // Every root that a preset names is beside it.
    let presets = files.join("usr/share/hookgate/presets");
    let mut count = 0;
    for entry in fs::read_dir(&presets).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
        let text = fs::read_to_string(entry).unwrap();
        for name in text.split('"').filter(|name| name.starts_with("./")) {
            count += 1;
            assert!(presets.join(name).is_file(), "{name} is missing");
        }
    }
    assert!(count >= 20, "only {count} roots");
}

#[test]
fn the_manual_says_what_the_command_line_and_the_documentation_do() {
    let command = manual::command("1.2.3").unwrap();
    for text in ["hookgate run", "hookgate filter status", "\\-\\-config", "SIGHUP", ".TH hookgate 8"] {
        assert!(command.contains(text), "{text} is missing:\n{command}");
    }
    let file = manual::file("1.2.3").unwrap();
    let documentation = tree::read("docs/configuration.md").unwrap();
    let keys = documentation.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let mut count = 0;
    for key in keys {
        count += 1;
        assert!(file.contains(&key.replace('-', "\\-")), "{key} is missing");
    }
    assert!(count > 80, "only {count} keys");
}

#[test]
fn the_bill_of_materials_names_what_is_compiled_in_and_nothing_of_the_tests() {
    let bill: serde_json::Value = serde_json::from_str(&sbom::text("1.2.3").unwrap()).unwrap();
    assert_eq!(bill["metadata"]["component"]["version"], "1.2.3");
    let components = bill["components"].as_array().unwrap();
    let find = |name: &str| components.iter().find(|component| component["name"] == name);
    let rustls = find("rustls").unwrap();
    assert_eq!(rustls["hashes"][0]["alg"], "SHA-256");
    assert!(rustls["licenses"][0]["expression"].as_str().unwrap().contains("MIT"));
    assert!(find("hookgate-core").is_some() && find("proptest").is_none() && find("hookgate-testkit").is_none());
    assert_eq!(sbom::text("1.2.3").unwrap(), sbom::text("1.2.3").unwrap());
}
