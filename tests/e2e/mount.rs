//! A daemon in its own mount namespace, in which a directory of the test has another path. The namespace ends with the daemon.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use hookgate_testkit::gateway::GatewayOptions;

use crate::environment::{BINARY, Environment};

const SCRIPT: &str = r#"#!/bin/sh
[ -z "$IS_JOURNAL" ] || export JOURNAL_STREAM="$(stat --dereference --format=%d:%i /proc/self/fd/2)"
exec unshare --mount sh -c '
  [ -d "$AT" ] || { mount -t tmpfs tmpfs /run && mkdir -p "$AT"; } || exit
  mount --bind "$MOUNTED" "$AT" && exec "$GATEWAY" "$@"' sh "$@"
"#;

/// Options that start the daemon with `directory` mounted at `at`, which must exist or be below `/run`. Needs root. If
/// `is_journal`, the daemon is told that its standard error is the journal.
pub(crate) fn mounted(environment: &Environment, directory: &Path, at: &str, is_journal: bool) -> GatewayOptions {
    let script = environment.write("mounted", SCRIPT).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
    let mut options = GatewayOptions::new(script);
    options.environment = vec![
        ("MOUNTED".into(), directory.into()),
        ("AT".into(), at.into()),
        ("GATEWAY".into(), BINARY.into()),
        ("IS_JOURNAL".into(), if is_journal { "yes" } else { "" }.into()),
    ];
    options
}
