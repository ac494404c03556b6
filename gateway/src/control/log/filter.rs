//! Which events are logged, by level and module; a reload replaces it.
//!
//! Owns the filter. `tracing` asks it once for each place in the source, and again after a change, so an event costs no look at it. Must not
//! know where the levels come from: [`super::levels`] does.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::Context;

use crate::config::Levels;

/// The filter in force, shared by the layer that asks it and by what replaces it.
#[derive(Clone)]
pub(super) struct Filter(Arc<ArcSwap<Targets>>);

impl Filter {
    /// The filter of these levels, or of the default.
    pub(super) fn new(levels: Option<&Levels>) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(targets(levels))))
    }

    /// Puts other levels in force.
    pub(super) fn replace(&self, levels: Option<&Levels>) {
        self.0.store(Arc::new(targets(levels)));
        tracing::callsite::rebuild_interest_cache();
        // What comes through the `log` crate has a limit of its own, which is set once.
        let most = match LevelFilter::current() {
            LevelFilter::OFF => log::LevelFilter::Off,
            LevelFilter::ERROR => log::LevelFilter::Error,
            LevelFilter::WARN => log::LevelFilter::Warn,
            LevelFilter::INFO => log::LevelFilter::Info,
            LevelFilter::DEBUG => log::LevelFilter::Debug,
            _ => log::LevelFilter::Trace,
        };
        log::set_max_level(most);
    }
}

impl<S: Subscriber> Layer<S> for Filter {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        match self.is_wanted(metadata) {
            true => Interest::always(),
            false => Interest::never(),
        }
    }

    /// Asked for events of libraries, whose place in the source is not known.
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.is_wanted(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let most = self.0.load().iter().map(|(_, level)| level).max();
        most.max(self.0.load().default_level())
    }
}

impl Filter {
    fn is_wanted(&self, metadata: &Metadata<'_>) -> bool {
        self.0.load().would_enable(metadata.target(), metadata.level())
    }
}

/// The filter of these levels, or of the default.
fn targets(levels: Option<&Levels>) -> Targets {
    let default = Levels::default();
    let Levels { default, modules } = levels.unwrap_or(&default);
    Targets::new().with_default(*default).with_targets(modules.iter().map(|(name, level)| (name.as_str(), *level)))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

    use tracing::Level;

    use super::*;

    /// How many of the five levels are admitted of a module of hookgate.
    fn admitted(levels: &str) -> usize {
        let levels: Levels = levels.parse().unwrap();
        let filter = targets(Some(&levels));
        let levels = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
        levels.into_iter().filter(|level| filter.would_enable("hookgate::tls::stream", level)).count()
    }

    #[test]
    fn the_longest_module_decides() {
        assert_eq!(admitted("off"), 0);
        assert_eq!(admitted("warn"), 2);
        assert_eq!(admitted("warn,hookgate::tls=debug"), 4);
        assert_eq!(admitted("trace,hookgate=error"), 1);
        assert_eq!(admitted("trace,hookgate=error,hookgate::tls=info"), 3);
        assert_eq!(admitted("error,rustls=trace"), 1);
    }

    #[test]
    fn the_most_verbose_level_is_the_hint() {
        let hint = |levels: &str| {
            let filter = Filter::new(Some(&levels.parse().unwrap()));
            <Filter as Layer<tracing_subscriber::Registry>>::max_level_hint(&filter)
        };
        assert_eq!(hint("info"), Some(LevelFilter::INFO));
        assert_eq!(hint("warn,rustls=trace"), Some(LevelFilter::TRACE));
        assert_eq!(hint("debug,rustls=off"), Some(LevelFilter::DEBUG));
        assert_eq!(hint("off"), Some(LevelFilter::OFF));
    }
}
