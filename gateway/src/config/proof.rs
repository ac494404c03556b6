//! `proof` and `replay`: the proofs that a provider or a route demands beside the certificate.
//!
//! Owns how proofs combine, and how a provider completes the proof of its preset. A proof that a preset demands is never dropped
//! silently: if the operator's part is missing, that is an error. Must not know the keys of a single proof: the modules below do.

mod addition;
mod keys;
mod replay;
mod secret;
mod session_parameter;
mod signature;
mod static_credential;
mod token;

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::document::{self, WordOr};
use super::error::{Problem, ProofProblem};
use super::key_source::{KeySource, KeySources};
use super::report::Report;
use hookgate_client::sender::{DeliveryId as SenderDeliveryId, Proof as SenderProof};
use hookgate_core::auth::proof_policy::ProofPolicyError;
use hookgate_core::auth::{Binding, Clause, Proof, ProofPolicy, ReplayRule};

pub use self::addition::{Addition, AdditionForm, FileKind, Usual};
pub(in crate::config) use self::replay::DEFAULT_WINDOW_SECONDS;
pub(super) use self::replay::RawReplay;
pub(super) use self::secret::{RawSecret, read_secret};
pub(super) use self::session_parameter::RawSessionParameter;
pub(super) use self::signature::RawSignature;
pub(super) use self::static_credential::{RawBasic, RawFieldSecret};
pub(super) use self::token::RawToken;
#[cfg(test)]
pub(super) use self::{signature::DEFAULT_TOLERANCE_SECONDS, token::DEFAULT_LEEWAY_SECONDS};

/// The word for no proof beside the certificate.
const CERTIFICATE: &str = "certificate";

/// The keys of the operator's parts of a preset's proof.
const PARTS: [&str; 5] = ["token", "session_parameter", "signature", "secret", "basic"];

/// The file with the public key of a sender, in messages, if the preset does not know its name.
const KEY_FILE: &str = "sender.pem";

const WRITE_PROOFS: &str = "proofs, such as [{ signature = { … } }]; or write proof = \"certificate\" to demand none";

/// The proofs that providers and routes demand beside the certificate, and the keys that verify them.
#[derive(Debug)]
pub struct Proofs {
    /// By [`ProviderId`](hookgate_core::identity::ProviderId): one per provider.
    pub providers: Vec<Arc<ProofPolicy>>,
    /// By the index of the route. A route's policy replaces those of its providers; `None` keeps them.
    pub routes: Vec<Option<Arc<ProofPolicy>>>,
    /// By [`KeySourceId`](hookgate_core::auth::KeySourceId): `[[key_source]]` in the order of the file, then the built-in source if
    /// a token needs it.
    pub key_sources: Vec<KeySource>,
}

impl Proofs {
    /// For how long the rule that remembers deliveries longest does so; zero without one.
    #[must_use]
    pub fn longest_window(&self) -> Duration {
        let policies = self.providers.iter().chain(self.routes.iter().flatten());
        let longest = policies.filter_map(|policy| policy.replay_window_seconds()).max();
        Duration::from_secs(longest.unwrap_or_default())
    }
}

/// A table of `proof`: a proof, or a group of proofs.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawClause {
    #[serde(default, deserialize_with = "document::tables")]
    all: Option<Spanned<Vec<Spanned<RawClause>>>>,
    #[serde(default, deserialize_with = "document::tables")]
    any: Option<Spanned<Vec<Spanned<RawClause>>>>,
    #[serde(default, deserialize_with = "document::table")]
    token: Option<Spanned<RawToken>>,
    #[serde(default, deserialize_with = "document::table")]
    session_parameter: Option<Spanned<RawSessionParameter>>,
    #[serde(default, deserialize_with = "document::table")]
    signature: Option<Spanned<RawSignature>>,
    #[serde(default, deserialize_with = "document::table")]
    secret: Option<Spanned<RawFieldSecret>>,
    #[serde(default, deserialize_with = "document::table")]
    basic: Option<Spanned<RawBasic>>,
}

/// The operator's parts of a preset's proofs, which stand beside `preset`.
#[derive(Clone, Copy, Default)]
pub(super) struct Completion<'r> {
    pub(super) token: Option<&'r Spanned<RawToken>>,
    pub(super) session_parameter: Option<&'r Spanned<RawSessionParameter>>,
    pub(super) signature: Option<&'r Spanned<RawSignature>>,
    pub(super) secret: Option<&'r Spanned<RawFieldSecret>>,
    pub(super) basic: Option<&'r Spanned<RawBasic>>,
}

/// The proof and the replay rule of a preset. The proof lacks the operator's part.
#[derive(Debug, Default)]
pub(super) struct PresetProofs {
    pub(super) proof: Option<RawClause>,
    pub(super) replay: Option<Spanned<RawReplay>>,
    /// The public key of the sender: the name of the file, and the page that shows it.
    pub(super) key_file: Option<(String, String)>,
}

/// All keys of a provider and its preset that are about proofs.
pub(super) struct ProviderProofs<'r> {
    pub(super) proof: Option<&'r Spanned<WordOr<RawClause>>>,
    pub(super) replay: Option<&'r Spanned<WordOr<RawReplay>>>,
    pub(super) own: Completion<'r>,
    /// The name of the preset, and its proofs.
    pub(super) preset: Option<(&'r str, &'r PresetProofs)>,
    /// Whether a certificate proves the sender too.
    pub(super) has_certificate: bool,
}

/// Parses the policy of the provider in `table`; reports errors.
pub(super) fn of_provider<T>(
    table: &Spanned<T>,
    proofs: &ProviderProofs<'_>,
    name: &str,
    sources: &mut KeySources<'_>,
    report: &mut Report<'_>,
) -> Option<Arc<ProofPolicy>> {
    let preset = proofs.preset.filter(|(_, preset)| preset.proof.is_some());
    let policy = match (proofs.proof, preset) {
        (Some(raw), _) => {
            proofs.own.refuse(&|_| true, &|| ProofProblem::Replaced, report);
            explicit(raw, sources, report)
        }
        (None, Some((preset, own))) => completed(table, (preset, own), proofs, sources, report),
        (None, None) => {
            proofs.own.refuse(&|_| true, &|| ProofProblem::NothingToComplete, report);
            Some(ProofPolicy::certificate_alone())
        }
    };
    let scope = format!("provider {name}");
    // The replay rule of the preset goes with the proof of the preset, which makes the ids trustworthy.
    let preset_rule = proofs.preset.filter(|_| proofs.proof.is_none()).and_then(|(_, preset)| preset.replay.as_ref());
    let (rule, at) = match (proofs.replay, preset_rule) {
        (Some(raw), _) => (replay::choice(raw, &scope, report), raw.span()),
        (None, Some(rule)) => {
            let rule = Spanned::new(table.span(), rule.get_ref().clone());
            (replay::rule(&rule, &scope, report).map(Some), table.span())
        }
        (None, None) => (Some(None), table.span()),
    };
    let policy = policy?;
    if let (None, Some(replay), Some((name, _))) = (proofs.replay, preset_rule, proofs.preset)
        && policy.binding() == Binding::Static
    {
        let problem = ProofProblem::ReplayOfSigned { preset: name.to_owned(), ids: replay.get_ref().describe() };
        report.missing_one_of(table, "replay", &[], problem.into());
        return Some(Arc::new(policy));
    }
    with_rule(policy, rule?, &at, report)
}

/// Parses the policy of a route, which replaces that of its providers; reports errors. `Some(None)` if the route has none.
pub(super) fn of_route(
    proof: Option<&Spanned<WordOr<RawClause>>>,
    replay: Option<&Spanned<WordOr<RawReplay>>>,
    name: &str,
    sources: &mut KeySources<'_>,
    report: &mut Report<'_>,
) -> Option<Option<Arc<ProofPolicy>>> {
    let Some(proof) = proof else {
        if let Some(replay) = replay {
            report.error(replay, ProofProblem::ReplayWithoutProof.into());
        }
        return Some(None);
    };
    let policy = explicit(proof, sources, report);
    let (rule, at) = match replay {
        Some(raw) => (replay::choice(raw, &format!("route {name}"), report), raw.span()),
        None => (Some(None), proof.span()),
    };
    with_rule(policy?, rule?, &at, report).map(Some)
}

/// Adds `rule` to `policy`; reports at `at` if they do not fit.
fn with_rule(
    policy: ProofPolicy,
    rule: Option<ReplayRule>,
    at: &Range<usize>,
    report: &mut Report<'_>,
) -> Option<Arc<ProofPolicy>> {
    let Some(rule) = rule else { return Some(Arc::new(policy)) };
    let policy = policy.with_replay(rule).map_err(|error| report.error_at(at, ProofProblem::from(error).into()));
    policy.ok().map(Arc::new)
}

fn explicit(
    raw: &Spanned<WordOr<RawClause>>,
    sources: &mut KeySources<'_>,
    report: &mut Report<'_>,
) -> Option<ProofPolicy> {
    match raw.get_ref() {
        WordOr::Word(word) if word == CERTIFICATE => Some(ProofPolicy::certificate_alone()),
        WordOr::Word(word) => {
            report.error(raw, ProofProblem::Word { word: word.clone() }.into());
            None
        }
        WordOr::Table(clause) => policy(&Spanned::new(raw.span(), clause.clone()), sources, report),
    }
}

/// The policy of a preset with a proof, completed by the operator's part.
fn completed<T>(
    table: &Spanned<T>,
    (name, preset): (&str, &PresetProofs),
    proofs: &ProviderProofs<'_>,
    sources: &mut KeySources<'_>,
    report: &mut Report<'_>,
) -> Option<ProofPolicy> {
    let clause = preset.proof.as_ref()?;
    let kinds = clause.kinds();
    proofs.own.refuse(&|kind| !kinds.contains(&kind), &|| ProofProblem::NothingToComplete, report);
    match proofs.own.complete(clause, &table.span()) {
        Some(clause) => policy(&Spanned::new(table.span(), clause), sources, report),
        None => {
            let (preset, write) = (name.to_owned(), preset.completions(clause));
            let problem = match proofs.has_certificate {
                true => ProofProblem::Incomplete { preset, write },
                false => ProofProblem::IncompleteAlone { preset, write },
            };
            report.missing_one_of(table, "proof", &PARTS, problem.into());
            None
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Token,
    SessionParameter,
    Signature,
    Secret,
    Basic,
}

impl Completion<'_> {
    /// Reports `problem` for each part of a kind that `which` selects.
    fn refuse(&self, which: &dyn Fn(Kind) -> bool, problem: &dyn Fn() -> ProofProblem, report: &mut Report<'_>) {
        let spans = [
            (Kind::Token, self.token.map(Spanned::span)),
            (Kind::SessionParameter, self.session_parameter.map(Spanned::span)),
            (Kind::Signature, self.signature.map(Spanned::span)),
            (Kind::Secret, self.secret.map(Spanned::span)),
            (Kind::Basic, self.basic.map(Spanned::span)),
        ];
        for span in spans.into_iter().filter(|(kind, _)| which(*kind)).filter_map(|(_, span)| span) {
            report.error_at(&span, problem().into());
        }
    }

    /// The preset's clause, completed by these parts. Alternatives without a part are left out. `None` if no alternative remains,
    /// or if a part of an `all` list is missing: the result never demands less than the preset does.
    fn complete(&self, preset: &RawClause, at: &Range<usize>) -> Option<RawClause> {
        let placed = |clauses: Vec<RawClause>| {
            Spanned::new(at.clone(), clauses.into_iter().map(|clause| Spanned::new(at.clone(), clause)).collect())
        };
        let mut clause = RawClause::default();
        if let Some(all) = &preset.all {
            let parts = all.get_ref().iter().map(|part| self.complete(part.get_ref(), at));
            clause.all = Some(placed(parts.collect::<Option<_>>()?));
        }
        if let Some(any) = &preset.any {
            let parts: Vec<_> = any.get_ref().iter().filter_map(|part| self.complete(part.get_ref(), at)).collect();
            clause.any = Some(placed(parts)).filter(|parts| !parts.get_ref().is_empty());
            clause.any.as_ref()?;
        }
        if let Some(preset) = &preset.token {
            let own = self.token?;
            clause.token = Some(Spanned::new(own.span(), own.get_ref().clone().over(preset.get_ref())));
        }
        if let Some(preset) = &preset.session_parameter {
            let own = self.session_parameter?;
            clause.session_parameter = Some(Spanned::new(own.span(), own.get_ref().clone().over(preset.get_ref())));
        }
        if let Some(preset) = &preset.signature {
            let own = self.signature?;
            clause.signature = Some(Spanned::new(own.span(), own.get_ref().clone().over(preset.get_ref())));
        }
        if let Some(preset) = &preset.secret {
            let own = self.secret?;
            clause.secret = Some(Spanned::new(own.span(), own.get_ref().clone().over(preset.get_ref())));
        }
        if preset.basic.is_some() {
            clause.basic = Some(self.basic?.clone());
        }
        Some(clause)
    }
}

impl RawClause {
    /// The clauses of the group; none for a single proof.
    fn parts(&self) -> impl Iterator<Item = &RawClause> {
        [&self.all, &self.any].into_iter().flatten().flat_map(|list| list.get_ref()).map(Spanned::get_ref)
    }

    /// The kinds of its proofs, at any depth.
    fn kinds(&self) -> Vec<Kind> {
        let mut kinds: Vec<Kind> = self.parts().flat_map(Self::kinds).collect();
        kinds.extend(self.token.as_ref().map(|_| Kind::Token));
        kinds.extend(self.session_parameter.as_ref().map(|_| Kind::SessionParameter));
        kinds.extend(self.signature.as_ref().map(|_| Kind::Signature));
        kinds.extend(self.secret.as_ref().map(|_| Kind::Secret));
        kinds.extend(self.basic.as_ref().map(|_| Kind::Basic));
        kinds
    }

    /// Reports what is wrong with the proof of a preset.
    fn check_preset(&self, report: &mut Report<'_>) {
        self.parts().for_each(|part| part.check_preset(report));
        self.signature.iter().for_each(|raw| signature::check_preset(raw, report));
        self.session_parameter.iter().for_each(|raw| session_parameter::check_preset(raw, report));
        self.secret.iter().for_each(|raw| static_credential::check_preset(raw, report));
    }

    /// The lines that complete it, for a message. `key_file` is the file with the public key of the sender.
    fn completions(&self, key_file: &str) -> String {
        let mut lines: Vec<String> = self.parts().map(|part| part.completions(key_file)).collect();
        lines.extend(self.token.as_ref().map(|token| token.get_ref().completion().to_owned()));
        lines.extend(self.session_parameter.as_ref().map(|_| session_parameter::COMPLETION.to_owned()));
        lines.extend(self.signature.as_ref().map(|signature| signature.get_ref().completion(key_file)));
        lines.extend(self.secret.as_ref().map(|_| static_credential::SECRET_COMPLETION.to_owned()));
        lines.extend(self.basic.as_ref().map(|_| static_credential::BASIC_COMPLETION.to_owned()));
        lines.dedup();
        lines.join(if self.any.is_some() { ", or " } else { ", and " })
    }

    fn describe(&self, text: &mut String) {
        if self.any.is_some() {
            text.push_str("  any one of these suffices; those that you do not complete are left out\n");
        }
        for part in self.parts() {
            part.describe(text);
        }
        // A write to a String cannot fail, here and below.
        if let Some(token) = &self.token {
            let _ = writeln!(text, "  token               {}", token.get_ref().describe());
        }
        if let Some(parameter) = &self.session_parameter {
            let _ = writeln!(text, "  session parameter   at {}", parameter.get_ref().describe());
        }
        if let Some(signature) = &self.signature {
            let _ = writeln!(text, "  signature           {}", signature.get_ref().describe());
        }
        if let Some(secret) = &self.secret {
            let _ = writeln!(text, "  secret              in {}", secret.get_ref().describe());
        }
        if self.basic.is_some() {
            let _ = writeln!(text, "  basic               a user name and a password");
        }
    }
}

impl RawClause {
    /// How the sender makes the proof: one of these suffices.
    fn sender_proofs(&self) -> Vec<SenderProof> {
        if self.any.is_some() {
            return self.parts().flat_map(Self::sender_proofs).collect();
        }
        let one = self.signature.as_ref().map(|signature| signature.get_ref().sender_proof());
        let one = one.or_else(|| self.token.as_ref().map(|_| SenderProof::Token));
        let one = one.or_else(|| Some(self.session_parameter.as_ref()?.get_ref().sender_proof()));
        let one = one.or_else(|| Some(self.secret.as_ref()?.get_ref().sender_proof()));
        let one = one.or_else(|| self.basic.as_ref().map(|_| SenderProof::Basic));
        vec![one.unwrap_or(SenderProof::Unsupported("it demands several proofs at a time"))]
    }
}

impl PresetProofs {
    /// How the sender makes its proof: one of these suffices. Empty if it has none.
    pub(super) fn sender_proofs(&self) -> Vec<SenderProof> {
        self.proof.as_ref().map(RawClause::sender_proofs).unwrap_or_default()
    }

    /// Where the sender writes the id of a delivery.
    pub(super) fn delivery_id(&self) -> Option<SenderDeliveryId> {
        self.replay.as_ref()?.get_ref().sender_delivery_id()
    }

    /// Reports what is wrong with them in the document of the preset, as far as that does not depend on the operator's part.
    pub(super) fn check(&self, report: &mut Report<'_>) {
        self.proof.iter().for_each(|clause| clause.check_preset(report));
        // The rule itself is made for each provider.
        self.replay.iter().for_each(|replay| drop(replay::rule(replay, "", report)));
    }

    /// The lines that complete `clause`, the proof, for a message, and where to find the key that they name.
    fn completions(&self, clause: &RawClause) -> String {
        match &self.key_file {
            Some((file, page)) => format!("{} (the key stands on {page})", clause.completions(file)),
            None => clause.completions(KEY_FILE),
        }
    }

    /// The proofs, and the lines that the operator adds, for `hookgate providers`. Empty if there is no proof.
    pub(super) fn describe(&self, has_certificate: bool) -> String {
        let Some(clause) = &self.proof else { return String::new() };
        let mut text = String::from("\nproof\n");
        clause.describe(&mut text);
        if let Some(replay) = &self.replay {
            let _ = writeln!(text, "  duplicates          {}", replay.get_ref().describe());
        }
        let _ = writeln!(text, "  you add             {}", self.completions(clause));
        if has_certificate {
            let _ = writeln!(text, "  or demand none      proof = \"{CERTIFICATE}\"");
        }
        text
    }
}

/// The content of a table of `proof`: exactly one of these.
enum Content<'r> {
    All(&'r Spanned<Vec<Spanned<RawClause>>>),
    Any(&'r Spanned<Vec<Spanned<RawClause>>>),
    Token(&'r Spanned<RawToken>),
    SessionParameter(&'r Spanned<RawSessionParameter>),
    Signature(&'r Spanned<RawSignature>),
    Secret(&'r Spanned<RawFieldSecret>),
    Basic(&'r Spanned<RawBasic>),
}

fn content<'r>(raw: &'r Spanned<RawClause>, report: &mut Report<'_>) -> Option<Content<'r>> {
    let RawClause { all, any, token, session_parameter, signature, secret, basic } = raw.get_ref();
    let mut contents = [
        all.as_ref().map(Content::All),
        any.as_ref().map(Content::Any),
        token.as_ref().map(Content::Token),
        session_parameter.as_ref().map(Content::SessionParameter),
        signature.as_ref().map(Content::Signature),
        secret.as_ref().map(Content::Secret),
        basic.as_ref().map(Content::Basic),
    ]
    .into_iter()
    .flatten();
    let first = contents.next();
    let count = contents.count() + usize::from(first.is_some());
    if count != 1 {
        report.empty(raw, ProofProblem::NotOne { count }.into());
        return None;
    }
    first
}

fn policy(raw: &Spanned<RawClause>, sources: &mut KeySources<'_>, report: &mut Report<'_>) -> Option<ProofPolicy> {
    let policy = match content(raw, report)? {
        Content::All(list) => ProofPolicy::all(clauses(list, sources, report)?),
        Content::Any(list) => ProofPolicy::any(clauses(list, sources, report)?),
        one => ProofPolicy::all(vec![Clause::One(proof(raw, one, sources, report)?)]),
    };
    policy.map_err(|error: ProofPolicyError| report.error(raw, ProofProblem::from(error).into())).ok()
}

fn clauses(
    list: &Spanned<Vec<Spanned<RawClause>>>,
    sources: &mut KeySources<'_>,
    report: &mut Report<'_>,
) -> Option<Vec<Clause>> {
    each(list, report, &mut |raw, report| {
        Some(match content(raw, report)? {
            Content::All(list) => Clause::All(proofs(list, sources, report)?),
            Content::Any(list) => Clause::Any(proofs(list, sources, report)?),
            one => Clause::One(proof(raw, one, sources, report)?),
        })
    })
}

fn proofs(
    list: &Spanned<Vec<Spanned<RawClause>>>,
    sources: &mut KeySources<'_>,
    report: &mut Report<'_>,
) -> Option<Vec<Proof>> {
    each(list, report, &mut |raw, report| {
        let one = content(raw, report)?;
        proof(raw, one, sources, report)
    })
}

/// Parses every entry of a list, which must not be empty, with `parse`. `None` if one has an error.
fn each<T>(
    list: &Spanned<Vec<Spanned<RawClause>>>,
    report: &mut Report<'_>,
    parse: &mut dyn FnMut(&Spanned<RawClause>, &mut Report<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    if list.get_ref().is_empty() {
        report.empty(list, Problem::Empty { write: WRITE_PROOFS });
        return None;
    }
    let parsed: Vec<Option<T>> = list.get_ref().iter().map(|raw| parse(raw, report)).collect();
    parsed.into_iter().collect()
}

fn proof(
    raw: &Spanned<RawClause>,
    content: Content<'_>,
    sources: &mut KeySources<'_>,
    report: &mut Report<'_>,
) -> Option<Proof> {
    match content {
        Content::Token(raw) => token::parse(raw, false, sources, report).map(Proof::Token),
        Content::SessionParameter(raw) => session_parameter::parse(raw, sources, report).map(Proof::SessionParameter),
        Content::Signature(raw) => signature::parse(raw, sources, report).map(Proof::Signature),
        Content::Secret(raw) => static_credential::secret(raw, report).map(Proof::Secret),
        Content::Basic(raw) => static_credential::basic(raw, report).map(Proof::Basic),
        Content::All(_) | Content::Any(_) => {
            report.error(raw, ProofProblem::TooDeep.into());
            None
        }
    }
}
