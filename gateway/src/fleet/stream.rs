//! A stream that hosts share: found or made, and judged.
//!
//! Owns what every one of them must be like. One that is there is never changed. Must not know what it is for: [`super::connection`] and
//! [`super::spool`] say what they want.

use std::fmt::Display;

use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType, Stream};
use async_nats::jetstream::{Context, ErrorCode};

/// The servers gave no answer, or none that is known.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Failed(String);

/// An error of the client as [`Failed`].
pub(super) fn failed(error: impl Display) -> Failed {
    Failed(error.to_string())
}

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub(super) enum Missing {
    /// The servers do not say whether there is one.
    #[error(transparent)]
    NoAnswer(Failed),
    /// There is one that does not do.
    #[error("stream {name}: {wrong}; correct it (`nats stream edit {name}`), or write another name in [fleet]")]
    Unfit {
        /// Its name.
        name: String,
        /// What is wrong with it.
        wrong: &'static str,
    },
}

/// What every stream is made with; in files, and it refuses what does not fit. `replicas` copies.
pub(super) fn wanted(name: String, replicas: usize) -> Config {
    Config {
        name,
        storage: StorageType::File,
        num_replicas: replicas,
        discard: DiscardPolicy::New,
        allow_direct: true,
        ..Config::default()
    }
}

/// Finds a stream, or makes it. Not by `create_key_value` for a bucket, which asks for the account in a form that NATS 2.9 does not have.
pub(super) async fn find(context: &Context, wanted: Config) -> Result<Stream, Missing> {
    let no_answer = |error: &dyn Display| Missing::NoAnswer(failed(error));
    let found = match context.get_stream(&wanted.name).await {
        Ok(found) => found,
        Err(error) if is_absent(&error.kind()) => {
            let made = context.create_stream(wanted.clone()).await.map_err(|error| no_answer(&error))?;
            tracing::info!(stream = wanted.name, "made a stream of the fleet");
            made
        }
        Err(error) => return Err(no_answer(&error)),
    };
    match judge(&wanted, &found.cached_info().config) {
        Some(wrong) => Err(Missing::Unfit { name: wanted.name, wrong }),
        None => Ok(found),
    }
}

fn is_absent(kind: &GetStreamErrorKind) -> bool {
    // JetStream's code of an unknown stream.
    matches!(kind, GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// What is wrong with a stream that is there, if something is.
fn judge(wanted: &Config, found: &Config) -> Option<&'static str> {
    let forgets = !found.max_age.is_zero() && (wanted.max_age.is_zero() || found.max_age < wanted.max_age);
    // The servers write -1 for no bound.
    let keeps_others = wanted.max_messages_per_subject.max(0) != found.max_messages_per_subject.max(0);
    let wrongs = [
        (found.storage != StorageType::File, "it is in memory, and must be in files"),
        (
            found.retention != wanted.retention,
            "its retention is another (workqueue for the spool, limits for all else)",
        ),
        (found.discard != DiscardPolicy::New, "it discards old messages when it is full"),
        (forgets, "it forgets earlier than it may (the memory: keep_s of [fleet])"),
        (keeps_others, "it keeps another number of messages of a subject"),
        (found.num_replicas < wanted.num_replicas, "it has fewer copies than [fleet] replicas says"),
        (!wanted.subjects.iter().all(|subject| found.subjects.contains(subject)), "it lacks subjects"),
    ];
    wrongs.into_iter().find_map(|(is_wrong, what)| is_wrong.then_some(what))
}
