//! What hosts share over NATS servers: set up before the first request.
//!
//! Owns whom its connections trust, as whom they are made, what the thread that makes them may do, and the file with what the servers told of pauses.
//! Must not connect: `fleet` does.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rustls::ClientConfig;
use tokio::time::sleep;

use super::confine::restricted;
use super::fetcher::{configured_roots, system_roots, tls_builder};
use crate::config::{self, OnStateFailure};
use crate::deliveries::Pauses;
use crate::fleet::{self, Fleet, Parts, Prepared, Settings};
use crate::state::StateDirectory;

/// Between two looks whether what is paused has changed.
const LOOK: Duration = Duration::from_secs(1);

/// Of the file with what is paused: the names of more routes than a configuration has.
const PAUSED_BYTES: usize = 1024 * 1024;

/// Where workers ask, and the thread that answers them. What an earlier process knew is in `state`.
///
/// # Errors
///
/// The certificate or the credentials cannot be used, or this host trusts no authority.
pub(super) fn prepare(
    fleet: &config::Fleet,
    on_failure: OnStateFailure,
    state: Option<&StateDirectory>,
) -> anyhow::Result<Parts> {
    let paused = state.and_then(|state| kept_pauses(state, &name_of(&fleet.name)));
    let settings = Settings { fleet: fleet.clone(), tls: tls(fleet)?, on_failure, paused };
    Ok(fleet::prepare(settings)?)
}

/// The file with the routes that were paused when the servers of this fleet told last.
fn name_of(fleet: &str) -> String {
    format!("fleet-paused-{fleet}")
}

/// What was paused when the servers told last; `None` if that is not known, as without the file.
fn kept_pauses(state: &StateDirectory, name: &str) -> Option<Pauses> {
    let bytes = match state.read(name, PAUSED_BYTES) {
        Ok(bytes) => bytes?,
        Err(error) => {
            tracing::warn!(%error, "the routes that were paused last cannot be read");
            return None;
        }
    };
    let paused = serde_json::from_slice(&bytes);
    if let Err(error) = &paused {
        tracing::warn!(name, %error, "the file with the routes that were paused last is damaged");
    }
    paused.ok()
}

/// Keeps what the servers tell of pauses, for the time without them and after a restart, as long as the process runs. The file has `kept`.
pub(super) async fn keep_pauses(fleet: Arc<Fleet>, name: Arc<str>, state: StateDirectory, mut kept: Option<Pauses>) {
    let name = name_of(&name);
    let mut is_failing = false;
    loop {
        let paused = fleet.paused();
        if let Some(now) = paused.as_ref().filter(|_| paused != kept) {
            // Names always serialize. It is tried again with the next look.
            let text = serde_json::to_vec(now).unwrap_or_default();
            match state.write(&name, &text) {
                Ok(()) => (kept, is_failing) = (paused, false),
                Err(error) if !is_failing => {
                    is_failing = true;
                    tracing::warn!(%error, "the routes that are paused cannot be kept for the next start; it is tried again");
                }
                Err(_) => {}
            }
        }
        sleep(LOOK).await;
    }
}

/// Starts the thread, which reads what servers send, and writes no file. After the process is confined.
///
/// # Errors
///
/// The kernel makes no thread, or rejects the rules.
pub(super) fn start(thread: Prepared) -> anyhow::Result<()> {
    Ok(restricted(|| thread.start())??)
}

fn tls(fleet: &config::Fleet) -> anyhow::Result<ClientConfig> {
    let is_plain = fleet.servers.iter().all(|server| server.starts_with("nats://"));
    let roots = match fleet.trust_anchors.as_slice() {
        // No server of these presents a certificate.
        [] if is_plain => rustls::RootCertStore::empty(),
        [] => system_roots().context("[fleet]: write trust_anchors, or install ca-certificates")?,
        anchors => configured_roots(anchors),
    };
    let builder = tls_builder(roots)?;
    match &fleet.certificate {
        Some((chain, key)) => {
            let config = builder.with_client_auth_cert(chain.clone(), key.clone_key());
            config.context("[fleet] certificate cannot be used")
        }
        None => Ok(builder.with_no_client_auth()),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::config::{Fallback, FleetSpool};

    fn state() -> (tempfile::TempDir, StateDirectory) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let state = StateDirectory::open(directory.path()).unwrap();
        (directory, state)
    }

    #[test]
    fn what_was_paused_is_known_after_a_start() {
        let (_directory, state) = state();
        let config = config::Fleet {
            servers: vec!["nats://127.0.0.1:4222".to_owned()],
            name: "hooks".into(),
            replicas: 1,
            spool: FleetSpool::Stream,
            fallback: Fallback::Disk,
            max_bytes: 1 << 20,
            keep: Duration::from_secs(120),
            trust_anchors: Vec::new(),
            certificate: None,
            credentials: None,
        };
        let prepared = || prepare(&config, OnStateFailure::Refuse, Some(&state)).unwrap().fleet;
        assert_eq!(prepared().paused(), None);
        state.write("fleet-paused-hooks", b"[\"orders\"]").unwrap();
        let fleet = prepared();
        assert_eq!(fleet.paused(), Some(["orders".to_owned()].into_iter().collect()));
        let (levels, _) = fleet.overview().spool.unwrap();
        assert!(levels.is_paused("orders") && !levels.is_paused("refunds"));
        assert!(!fleet.may_hand_over("orders") && !fleet.may_hand_over("refunds"), "the servers may tell more");
    }

    #[test]
    fn what_was_paused_is_known_only_if_the_file_says_so() {
        let (_directory, state) = state();
        let kept = |text: &[u8]| {
            state.write("fleet-paused-hooks", text).unwrap();
            kept_pauses(&state, "fleet-paused-hooks")
        };
        assert_eq!(kept_pauses(&state, "fleet-paused-hooks"), None);
        assert_eq!(kept(b"[]"), Some(Pauses::default()));
        assert_eq!(kept(b"[\"orders\",\"\"]"), Some(["orders".to_owned(), String::new()].into_iter().collect()));
        assert_eq!(kept_pauses(&state, "fleet-paused-other"), None, "another fleet");
        for damaged in [&b""[..], b"[\"orders\"", b"{}", b"[1]"] {
            assert_eq!(kept(damaged), None);
        }
        assert_eq!(kept(&vec![b' '; PAUSED_BYTES + 1]), None);
    }
}
