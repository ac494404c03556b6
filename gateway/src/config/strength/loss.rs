//! What a configuration no longer demands, and which section is about it.
//!
//! Owns the sentence with its section. Must not compare: the other parts do.

use std::fmt;
use std::sync::Arc;

/// The section that has lost a demand.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// The provider of this name.
    Provider(Arc<str>),
    /// A route of this name.
    Route(Arc<str>),
    /// `[filter]`
    Filter,
    /// `[listen]`
    Listen,
    /// `[log]`
    Log,
    /// `[tls]`
    Tls,
}

/// What a configuration no longer demands. Ordered by its sentence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Loss {
    text: String,
    about: About,
}

impl Loss {
    pub(super) fn of_provider(name: &Arc<str>, loss: &impl fmt::Display) -> Self {
        Self { text: format!("provider {name}: {loss}"), about: About::Provider(Arc::clone(name)) }
    }

    /// `text` names the route itself.
    pub(super) fn of_route(name: &Arc<str>, text: String) -> Self {
        Self { text, about: About::Route(Arc::clone(name)) }
    }

    pub(super) fn of_filter(loss: &impl fmt::Display) -> Self {
        Self { text: format!("filter: {loss}"), about: About::Filter }
    }

    pub(super) fn of_listen(loss: &impl fmt::Display) -> Self {
        Self { text: format!("listen: {loss}"), about: About::Listen }
    }

    pub(super) fn of_log(loss: &impl fmt::Display) -> Self {
        Self { text: format!("log: {loss}"), about: About::Log }
    }

    pub(super) fn of_tls(loss: &impl fmt::Display) -> Self {
        Self { text: format!("tls: {loss}"), about: About::Tls }
    }

    /// The sentence, without a place.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The section that a place in the file has to be looked for of.
    pub fn about(&self) -> &About {
        &self.about
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}
