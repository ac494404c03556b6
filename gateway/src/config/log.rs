//! `[log]`: what is logged, and in which form.
//!
//! Owns its bounds and defaults. Must not write anything: `control` does.

use serde::Deserialize;
use toml::Spanned;

use super::bound::Bound;
use super::error::Problem;
use super::levels::Levels;
use super::report::Report;
use crate::access::{Access, AccessRules};

/// The default of `access_per_s`: twice what strangers or senders can cause. At some 500 bytes a line that is 4.3 GB a day, if all of it
/// is used.
pub const DEFAULT_ACCESS_PER_SECOND: u32 = 100;

/// More than a host answers. The log counts up to 2^20 events of one second.
const ACCESS_PER_SECOND: Bound = Bound::new(1, 1_000_000, "");
/// One line in a million requests is as good as none.
const SAMPLE: Bound = Bound::new(1, 1_000_000, "");

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSection {
    /// The form of an event; `None` leaves the choice to standard error: the journal if it is one, otherwise text.
    pub format: Option<LogFormat>,
    /// What is logged, unless the command line or the environment says otherwise.
    pub levels: Option<Levels>,
    /// Which requests and handshakes have an event.
    pub access: AccessRules,
    /// Most events about answered requests per second, over all workers.
    pub access_per_second: u32,
}

impl Default for LogSection {
    fn default() -> Self {
        Self {
            format: None,
            levels: None,
            access: AccessRules::default(),
            access_per_second: DEFAULT_ACCESS_PER_SECOND,
        }
    }
}

/// The form of an event, and where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A line on standard error: time, level, event, and fields in logfmt.
    Text,
    /// A line on standard error: one JSON object.
    Json,
    /// An entry of the journal.
    Journal,
}

/// `[log]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLog {
    format: Option<LogFormat>,
    level: Option<Spanned<String>>,
    access: Option<RawAccess>,
    access_per_s: Option<Spanned<i64>>,
    access_sample: Option<Spanned<i64>>,
    path: Option<bool>,
}

/// `access` as written.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged, expecting = "write true, false or \"refused\"")]
enum RawAccess {
    Switch(bool),
    Word(AccessWord),
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum AccessWord {
    Refused,
}

/// Parses `[log]`. Reports what is wrong.
pub(super) fn log(raw: Option<&Spanned<RawLog>>, report: &mut Report<'_>) -> LogSection {
    let Some(raw) = raw.map(Spanned::get_ref) else { return LogSection::default() };
    let levels = raw.level.as_ref().and_then(|text| match text.get_ref().parse() {
        Ok(levels) => Some(levels),
        Err(source) => {
            report.error(text, Problem::Levels { source });
            None
        }
    });
    let access = match raw.access {
        None | Some(RawAccess::Switch(true)) => Access::All,
        Some(RawAccess::Switch(false)) => Access::Off,
        Some(RawAccess::Word(AccessWord::Refused)) => Access::Refused,
    };
    let mut number = |bound: Bound, raw: Option<&Spanned<i64>>, default: u32| {
        bound.check(raw, report).and_then(|value| u32::try_from(value).ok()).unwrap_or(default)
    };
    let sample = number(SAMPLE, raw.access_sample.as_ref(), 1);
    let access_per_second = number(ACCESS_PER_SECOND, raw.access_per_s.as_ref(), DEFAULT_ACCESS_PER_SECOND);
    let path = raw.path.unwrap_or(true);
    LogSection { format: raw.format, levels, access: AccessRules { access, sample, path }, access_per_second }
}
