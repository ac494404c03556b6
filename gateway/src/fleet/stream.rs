//! A stream that hosts share: found or made, and judged.
//!
//! Owns what every one of them must be like. One that is there is never changed. Must not know what it is for: [`super::connection`] and
//! [`super::spool`] say what they want.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Display;

use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::{Config, DiscardPolicy, PersistenceMode, StorageType, Stream};
use async_nats::jetstream::{Context, ErrorCode};

use crate::cause::Cause;

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
pub(super) async fn find(context: &Context, wanted: Config, told: &Told) -> Result<Stream, Missing> {
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
    let config = &found.cached_info().config;
    match judge(&wanted, config) {
        Some(wrong) => Err(Missing::Unfit { name: wanted.name, wrong }),
        None => {
            told.warn(&wanted, config);
            Ok(found)
        }
    }
}

fn is_absent(kind: &GetStreamErrorKind) -> bool {
    // JetStream's code of an unknown stream.
    matches!(kind, GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// What is wrong with a stream that is there, if something is: it could lose what it has, or refuse what is to be stored or removed.
fn judge(wanted: &Config, found: &Config) -> Option<&'static str> {
    let forgets = !found.max_age.is_zero() && (wanted.max_age.is_zero() || found.max_age < wanted.max_age);
    let is_bounded = |wanted: i64, found: i64| wanted <= 0 && found > 0;
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
        (found.discard_new_per_subject, "it refuses a message whose subject has one (discard_new_per_subject)"),
        (found.num_replicas < wanted.num_replicas, "it has fewer copies than [fleet] replicas says"),
        (!wanted.subjects.iter().all(|subject| found.subjects.contains(subject)), "it lacks subjects"),
        (found.sealed, "it is sealed: nothing can be stored there or removed"),
        (found.deny_delete && !wanted.deny_delete, "it denies deletions, so what was taken would stay (deny_delete)"),
        (found.no_ack, "it acknowledges nothing (no_ack)"),
        (
            found.persist_mode == Some(PersistenceMode::Async),
            "it acknowledges what it has not stored yet (persist_mode)",
        ),
        (
            found.duplicate_window < wanted.duplicate_window,
            "it knows the ids of messages for too short a time, so one that is sent again would be stored twice (duplicate_window)",
        ),
        (
            is_bounded(wanted.max_message_size.into(), found.max_message_size.into()),
            "it refuses long messages (max_msg_size)",
        ),
        (
            is_bounded(wanted.max_messages, found.max_messages),
            "it has a bound of messages (max_msgs); max_entries of durable is that of a route",
        ),
        (
            is_bounded(wanted.max_consumers.into(), found.max_consumers.into()),
            "it has a bound of consumers, of which each route needs one (max_consumers)",
        ),
    ];
    wrongs.into_iter().find_map(|(is_wrong, what)| is_wrong.then_some(what))
}

/// Of which streams it was said that they have another bound of bytes, and which. So it is said once.
#[derive(Debug, Default)]
pub(super) struct Told(RefCell<HashMap<String, i64>>);

impl Told {
    /// Warns if a stream has another bound of bytes than it would be made with, unless that was said. The bound loses nothing, and may be meant.
    fn warn(&self, wanted: &Config, found: &Config) {
        if self.is_new(wanted, found) {
            let (stream, cause) = (&wanted.name, Cause::Gateway.label());
            let bytes = |config: &Config| Some(config.max_bytes).filter(|bytes| *bytes > 0);
            tracing::warn!(
                stream,
                max_bytes = bytes(found),
                configured = bytes(wanted),
                cause,
                "the stream has another bound of bytes than max_bytes of [fleet], and that of the stream holds; change it by nats stream edit (buckets have none)"
            );
        }
    }

    fn is_new(&self, wanted: &Config, found: &Config) -> bool {
        let (name, bytes) = (&wanted.name, found.max_bytes.max(0));
        let mut told = self.0.borrow_mut();
        if wanted.max_bytes.max(0) == bytes {
            told.remove(name);
            return false;
        }
        told.insert(name.clone(), bytes) != Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use async_nats::jetstream::stream::RetentionPolicy;

    use super::*;

    /// As the spool is made, with its bound of bytes.
    fn spool() -> Config {
        Config {
            subjects: vec!["a.>".to_owned()],
            retention: RetentionPolicy::WorkQueue,
            duplicate_window: Duration::from_secs(600),
            max_bytes: 1000,
            ..wanted("spool".to_owned(), 3)
        }
    }

    /// As the memory is made.
    fn memory() -> Config {
        Config {
            subjects: vec!["$KV.a.>".to_owned()],
            max_messages_per_subject: 1,
            max_age: Duration::from_secs(60),
            deny_delete: true,
            ..wanted("memory".to_owned(), 1)
        }
    }

    /// As servers show a stream that was made so: they write -1 for no bound.
    fn shown(config: Config) -> Config {
        let shown = |bound: i64| if bound == 0 { -1 } else { bound };
        Config {
            max_bytes: shown(config.max_bytes),
            max_messages: shown(config.max_messages),
            max_messages_per_subject: shown(config.max_messages_per_subject),
            max_message_size: -1,
            max_consumers: -1,
            duplicate_window: config.duplicate_window.max(Duration::from_secs(60)),
            ..config
        }
    }

    fn check(wanted: &Config, change: impl FnOnce(&mut Config), wrong: Option<&str>) {
        let mut found = shown(wanted.clone());
        change(&mut found);
        let judged = judge(wanted, &found);
        let is_right = match wrong {
            Some(words) => judged.is_some_and(|wrong| wrong.contains(words)),
            None => judged.is_none(),
        };
        assert!(is_right, "{judged:?}, not {wrong:?}");
    }

    #[test]
    fn a_stream_that_could_lose_or_refuse_something_is_wrong() {
        let wrong = |change: fn(&mut Config), words| check(&spool(), change, Some(words));
        wrong(|it| it.storage = StorageType::Memory, "in memory");
        wrong(|it| it.retention = RetentionPolicy::Limits, "retention");
        wrong(|it| it.retention = RetentionPolicy::Interest, "retention");
        wrong(|it| it.discard = DiscardPolicy::Old, "discards old messages");
        wrong(|it| it.max_age = Duration::from_secs(86_400), "forgets");
        wrong(|it| it.max_messages_per_subject = 1, "messages of a subject");
        wrong(|it| it.discard_new_per_subject = true, "discard_new_per_subject");
        wrong(|it| it.num_replicas = 2, "fewer copies");
        wrong(|it| it.subjects = vec!["b.>".to_owned()], "lacks subjects");
        wrong(|it| it.subjects = Vec::new(), "lacks subjects");
        wrong(|it| it.sealed = true, "sealed");
        wrong(|it| it.deny_delete = true, "deny_delete");
        wrong(|it| it.no_ack = true, "no_ack");
        wrong(|it| it.persist_mode = Some(PersistenceMode::Async), "persist_mode");
        wrong(|it| it.duplicate_window = Duration::from_secs(599), "duplicate_window");
        wrong(|it| it.max_message_size = 1 << 20, "max_msg_size");
        wrong(|it| it.max_messages = 1_000_000, "max_msgs");
        wrong(|it| it.max_consumers = 100, "max_consumers");
        check(&memory(), |it| it.max_age = Duration::from_secs(59), Some("keep_s"));
        check(&memory(), |it| it.max_messages_per_subject = 64, Some("messages of a subject"));
        check(&memory(), |it| it.retention = RetentionPolicy::WorkQueue, Some("retention"));
    }

    #[test]
    fn a_stream_that_keeps_more_is_right() {
        let rights: [fn(&mut Config); 7] = [
            |_| {},
            |it| it.num_replicas = 5,
            |it| it.subjects.push("b.>".to_owned()),
            |it| it.duplicate_window = Duration::from_secs(3600),
            |it| it.max_bytes = 500,
            |it| it.persist_mode = Some(PersistenceMode::Default),
            |it| it.allow_direct = false,
        ];
        for change in rights {
            check(&spool(), change, None);
        }
        check(&memory(), |_| {}, None);
        check(&memory(), |it| it.max_age = Duration::ZERO, None);
        check(&memory(), |it| it.max_age = Duration::from_secs(61), None);
        check(&memory(), |it| it.deny_delete = false, None);
    }

    #[test]
    fn another_bound_of_bytes_is_new_once() {
        let told = Told::default();
        let is_new = |wanted: &Config, max_bytes| told.is_new(wanted, &Config { max_bytes, ..wanted.clone() });
        assert_eq!(
            [1000, 900, 900, 800, 1000, 800, -1, -1].map(|bytes| is_new(&spool(), bytes)),
            [false, true, false, true, false, true, true, false]
        );
        assert_eq!([-1, 0, 7, 7].map(|bytes| is_new(&memory(), bytes)), [false, false, true, false]);
    }
}
