//! One attempt to get a certificate: account, order, challenges, key, and what came.
//!
//! Owns the order of these steps, and which of them an error belongs to. Decides neither when there is an attempt nor what follows one:
//! `task` does.

use std::sync::Arc;
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationState, AuthorizationStatus, CertificateIdentifier, ChallengeStatus, ChallengeType, Error,
    ExternalAccountKey, Identifier, NewAccount, NewOrder, Order, OrderStatus, Problem, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until, timeout_at};
use zeroize::Zeroizing;

use super::failure::{Failure, Step, of_problem};
use super::store::AccountRecord;
use super::transport::Transport;
use super::{Place, Proofs};
use crate::config::{AcmeOrder, FeedUrl, ServerCertificate, chain_of_pem};
use crate::control::fetcher::{configured_roots, system_roots, tls_settings};
use crate::snapshot::Challenge;
use crate::state::StateDirectory;

/// How long an authority may take for the verification of all names, and again for the certificate.
const LONGEST_WAIT: Duration = Duration::from_secs(180);

/// How the authority is asked for the certificate: after a quarter of a second, and then ever less often.
const POLLING: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(250)).backoff(1.5).timeout(LONGEST_WAIT);

/// How long the order alone is looked at before each name is: half as long again each time, up to the longest. In one round the order is asked
/// for once, unless the authority asks for more, so there are at most 15 rounds in [`LONGEST_WAIT`].
const FIRST_ROUND: Duration = Duration::from_secs(1);
const LONGEST_ROUND: Duration = Duration::from_secs(30);

/// The problem of an account that the authority does not know (any more).
const UNKNOWN_ACCOUNT: &str = "urn:ietf:params:acme:error:accountDoesNotExist";

/// The account at the authority of an order, which is made if there is none.
pub(super) async fn account(place: &Place) -> Result<Account, Failure> {
    let Place { order, state, accounts, .. } = place;
    // Certificates of one authority share an account, and the first of them makes it.
    let _one = accounts.lock().await;
    let transport = transport(order)?;
    transport.look().await.map_err(|error| Failure::new(Step::Directory, error))?;
    if let Some(record) = AccountRecord::read(state, order) {
        return known(order, state, record, transport).await;
    }
    make(order, state, transport).await
}

fn transport(order: &AcmeOrder) -> Result<Transport, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new(Step::Directory, error);
    let roots = match &order.directory.roots {
        Some(roots) => configured_roots(roots),
        None => system_roots().map_err(|error| failed(&error))?,
    };
    Ok(Transport::new(&order.directory, tls_settings(roots).map_err(|error| failed(&error))?))
}

/// The account that is kept. It is written again in any case: an order whose certificate could not be kept would cost the authority one more
/// with each start of this process.
async fn known(
    order: &Arc<AcmeOrder>,
    state: &StateDirectory,
    record: AccountRecord,
    transport: Transport,
) -> Result<Account, Failure> {
    let record = keep(order, state, record).await?;
    let AccountRecord { contact, credentials, .. } = record;
    let builder = Account::builder_with_http(Box::new(transport));
    let account = builder.from_credentials(credentials).await.map_err(Failure::of(Step::Account))?;
    if contact != order.contact {
        let contacts: Vec<&str> = order.contact.iter().map(String::as_str).collect();
        match account.update_contacts(&contacts).await {
            Ok(()) => {}
            // The order will find that out, and make another.
            Err(Error::Api(problem)) if problem.r#type.as_deref() == Some(UNKNOWN_ACCOUNT) => return Ok(account),
            Err(error) => return Err(Failure::of(Step::Account)(error)),
        }
        if let Some(mut record) = AccountRecord::read(state, order) {
            record.contact.clone_from(&order.contact);
            keep(order, state, record).await?;
        }
    }
    Ok(account)
}

async fn make(order: &Arc<AcmeOrder>, state: &StateDirectory, transport: Transport) -> Result<Account, Failure> {
    let contacts: Vec<&str> = order.contact.iter().map(String::as_str).collect();
    // The configuration demands the agreement.
    let new = NewAccount { contact: &contacts, terms_of_service_agreed: true, only_return_existing: false };
    let external = order.external_account.as_ref();
    let external = external.map(|account| ExternalAccountKey::new(account.key_id.clone(), account.key.bytes()));
    let builder = Account::builder_with_http(Box::new(transport));
    let made = builder.create(&new, order.directory.url.to_string(), external.as_ref()).await;
    let (account, credentials) = made.map_err(Failure::of(Step::Account))?;
    // Kept, it would make every later order fail.
    if FeedUrl::parse(account.id()).is_err() {
        let why = format!("the authority gives an account whose URL cannot be used: {:?}", account.id());
        return Err(Failure::new(Step::Account, why));
    }
    keep(order, state, AccountRecord::new(order, credentials)).await?;
    tracing::info!(directory = order.directory.name(), account = account.id(), "an account was made");
    Ok(account)
}

/// Writes an account on a thread that may wait for the disk.
async fn keep(order: &Arc<AcmeOrder>, state: &StateDirectory, record: AccountRecord) -> Result<AccountRecord, Failure> {
    let (order, state) = (Arc::clone(order), state.clone());
    let failed = |error: &dyn std::fmt::Display| Failure::new(Step::State, error);
    let written = spawn_blocking(move || record.write(&state, &order).map(|()| record)).await;
    written.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
}

/// Asks for a certificate, and returns what senders accept. `before` is the one that it replaces.
pub(super) async fn obtain(
    place: &Place,
    proofs: &Proofs,
    before: Option<&ServerCertificate>,
) -> Result<ServerCertificate, Failure> {
    let account = account(place).await?;
    let order = match new_order(&account, &place.order, before).await {
        Err(Error::Api(problem)) if problem.r#type.as_deref() == Some(UNKNOWN_ACCOUNT) => {
            // The authority has forgotten it, as one for tests does when it starts.
            let _one = place.accounts.lock().await;
            let account = make(&place.order, &place.state, transport(&place.order)?).await?;
            new_order(&account, &place.order, None).await
        }
        other => other,
    };
    let mut order = order.map_err(Failure::of(Step::Order))?;
    let proven = prove(&mut order, &place.order, proofs).await;
    // Whatever came of it, no handshake is answered any more.
    proofs.withdraw().await;
    proven?;
    finalize(&mut order, place).await
}

/// The order, as the replacement of the one before if the authority takes that.
async fn new_order(account: &Account, order: &AcmeOrder, before: Option<&ServerCertificate>) -> Result<Order, Error> {
    let identifiers: Vec<Identifier> = order.domains.iter().cloned().map(Identifier::Dns).collect();
    let new = || {
        let new = NewOrder::new(&identifiers);
        match &order.profile {
            Some(profile) => new.profile(profile),
            None => new,
        }
    };
    let replaced = before.and_then(|before| CertificateIdentifier::try_from(before.chain.first()?).ok());
    if let Some(replaced) = replaced {
        match account.new_order(&new().replaces(replaced)).await {
            Ok(order) => return Ok(order),
            // It would say that again.
            Err(Error::Api(problem)) if !is_about_replacement(&problem) => return Err(Error::Api(problem)),
            // No such feature, or another authority's certificate: the order does not need it.
            Err(error) => tracing::debug!(%error, "the authority takes the order for no replacement"),
        }
    }
    account.new_order(&new()).await
}

/// Whether an authority may refuse an order for its `replaces` (RFC 9773, section 5).
fn is_about_replacement(problem: &Problem) -> bool {
    let kind = problem.r#type.as_deref().and_then(|kind| kind.strip_prefix("urn:ietf:params:acme:error:"));
    matches!(kind, Some("alreadyReplaced" | "malformed" | "unauthorized") | None)
}

/// Proves every name that the authority wants proven, and waits until it has looked.
async fn prove(order: &mut Order, wanted: &AcmeOrder, proofs: &Proofs) -> Result<(), Failure> {
    let own = |why: String| Failure::new(Step::Challenge, why);
    let count = order.state().authorizations.len();
    if count > wanted.domains.len() {
        return Err(own(format!("the authority wants {count} proofs for {} names", wanted.domains.len())));
    }
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(Failure::of(Step::Order))?;
        match authorization.status {
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            status => return Err(own(format!("the authorization of {} is {status:?}", authorization.identifier()))),
        }
        let identifier = authorization.identifier().to_string();
        let Some(domain) = wanted.domains.iter().find(|domain| identifier.eq_ignore_ascii_case(domain)) else {
            return Err(own(format!("the authority wants a proof for {identifier}, which was not asked for")));
        };
        let Some(mut challenge) = authorization.challenge(ChallengeType::TlsAlpn01) else {
            return Err(own(format!(
                "the authority does not verify {domain} by tls-alpn-01, and hookgate knows nothing else"
            )));
        };
        let digest = challenge.key_authorization().digest();
        let answer = answer(domain, digest.as_ref()).map_err(|error| own(error.to_string()))?;
        proofs.show(answer).await.map_err(own)?;
        challenge.set_ready().await.map_err(Failure::of(Step::Challenge))?;
    }
    match order.state().status {
        OrderStatus::Ready | OrderStatus::Valid => Ok(()),
        _ => wait_until_proven(order).await,
    }
}

/// Waits until the authority has found every name proven. The order alone does not tell: some authorities leave it pending when they refuse a
/// name.
async fn wait_until_proven(order: &mut Order) -> Result<(), Failure> {
    let failed = Failure::of(Step::Challenge);
    let own = |why: String| Failure::new(Step::Challenge, why);
    let deadline = Instant::now() + LONGEST_WAIT;
    let mut round = FIRST_ROUND;
    loop {
        let next = match order.poll_ready(&POLLING.initial_delay(round / 4).timeout(round)).await {
            Ok(OrderStatus::Ready) => return Ok(()),
            Ok(status) => {
                return Err(own(refused(order, true).await.unwrap_or_else(|| format!("the order is {status:?}"))));
            }
            Err(error @ Error::Api(_)) => return Err(refused(order, true).await.map_or_else(|| failed(error), own)),
            // When the authority wants to be asked again, if it says that.
            Err(Error::Timeout(next)) => next.map_or_else(Instant::now, Instant::from_std),
            Err(error) => return Err(failed(error)),
        };
        if let Ok(Some(why)) = timeout_at(deadline, refused(order, false)).await {
            return Err(own(why));
        }
        if next + round > deadline {
            return Err(failed(Error::Timeout(None)));
        }
        sleep_until(next).await;
        round = (round * 3 / 2).min(LONGEST_ROUND);
    }
}

/// What the authority says of a name that it did not find proven. `is_over`: the order has failed.
async fn refused(order: &mut Order, is_over: bool) -> Option<String> {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        if let Ok(state) = authorization.refresh().await
            && let Some(why) = refusal(state, is_over)
        {
            return Some(why);
        }
    }
    None
}

/// Why the authority does not find this name proven. While the order is open, the error of a challenge may be that of an attempt which the
/// authority repeats (RFC 8555, section 8.2), so it counts only if the challenge or the authorization has failed.
fn refusal(authorization: &AuthorizationState, is_over: bool) -> Option<String> {
    use AuthorizationStatus::{Pending, Valid};
    let domain = authorization.identifier();
    let is_invalid = |status| status == ChallengeStatus::Invalid;
    let mut own = authorization.challenges.iter().filter(|challenge| challenge.r#type == ChallengeType::TlsAlpn01);
    let has_failed =
        !matches!(authorization.status, Pending | Valid) || own.any(|challenge| is_invalid(challenge.status));
    if !has_failed && !is_over {
        return None;
    }
    match authorization.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
        Some(problem) => Some(format!("the authority could not verify {domain}: {}", of_problem(problem))),
        // The order may say more.
        None if is_over => None,
        None => Some(format!("the authority could not verify {domain}, and does not say why")),
    }
}

/// A self-signed certificate for the name, with the digest of the key authorization (RFC 8737, section 3).
fn answer(domain: &str, digest: &[u8]) -> Result<Challenge, rcgen::Error> {
    let key = Zeroizing::new(KeyPair::generate()?);
    let mut params = CertificateParams::new([domain.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = CertificateDer::from(params.self_signed(&*key)?);
    Ok(Challenge { domain: domain.into(), certificate, key: private_key(&key) })
}

fn private_key(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()))
}

/// Sends a new key, and judges what comes.
async fn finalize(order: &mut Order, place: &Place) -> Result<ServerCertificate, Failure> {
    let failed = |error: rcgen::Error| Failure::new(Step::Finalize, error);
    let key = Zeroizing::new(KeyPair::generate().map_err(failed)?);
    let mut params = CertificateParams::new(place.order.domains.clone()).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&*key).map_err(failed)?;
    order.finalize_csr(request.der()).await.map_err(Failure::of(Step::Finalize))?;
    let chain = order.poll_certificate(&POLLING).await.map_err(Failure::of(Step::Finalize))?;
    let unfit = |error| Failure::new(Step::Certificate, error);
    let chain = chain_of_pem(&chain).map_err(unfit)?;
    let certificate = place.order.certificate(chain, private_key(&key), &place.path).map_err(unfit)?;
    place.order.judge(&certificate, UnixTime::now()).map_err(unfit)?;
    Ok(certificate)
}

/// The window in which the authority advises to renew the certificate, and when to ask again; `None` if it does not say.
pub(super) async fn advice(
    place: &Place,
    certificate: &Arc<ServerCertificate>,
) -> Result<Option<((u64, u64), Duration)>, Failure> {
    let Some(Ok(id)) = certificate.chain.first().map(CertificateIdentifier::try_from) else { return Ok(None) };
    // Without an account there is nothing to ask as, and one is made with the next order.
    if AccountRecord::read(&place.state, &place.order).is_none() {
        return Ok(None);
    }
    let account = account(place).await?;
    match account.renewal_info(&id).await {
        Ok((info, again)) => {
            let seconds = |time: time::OffsetDateTime| u64::try_from(time.unix_timestamp()).unwrap_or(0);
            let window = (seconds(info.suggested_window.start), seconds(info.suggested_window.end));
            // RFC 9773, section 4.2: such a window is none.
            Ok((window.0 < window.1).then_some((window, again)))
        }
        Err(Error::Unsupported(_)) => Ok(None),
        Err(error) => Err(Failure::of(Step::Order)(error)),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

    use serde_json::json;

    use super::*;

    #[test]
    fn an_order_is_repeated_without_what_it_replaces_only_if_that_may_be_the_cause() {
        let check = |kind: Option<&str>, expected: bool| {
            let problem =
                Problem { r#type: kind.map(str::to_owned), detail: None, status: Some(400), subproblems: Vec::new() };
            assert_eq!(is_about_replacement(&problem), expected, "{kind:?}");
        };
        let of_acme = |kind: &str, expected| check(Some(&format!("urn:ietf:params:acme:error:{kind}")), expected);
        for kind in ["alreadyReplaced", "malformed", "unauthorized"] {
            of_acme(kind, true);
        }
        // Repeated, these would cost another of the orders that an authority allows, or say the same.
        for kind in
            ["rateLimited", "rejectedIdentifier", "caa", "serverInternal", "invalidProfile", "accountDoesNotExist"]
        {
            of_acme(kind, false);
        }
        // A server without ACME's types says nothing of the cause.
        check(None, true);
        check(Some("about:blank"), true);
    }

    #[test]
    fn a_name_that_was_refused_is_known_from_its_authorization_or_its_challenge() {
        let error = json!({ "type": "urn:ietf:params:acme:error:connection", "detail": "it timed out" });
        let check = |authorization: &str, challenge: &str, error: &serde_json::Value, expected: [Option<&str>; 2]| {
            let url = "https://a.example/c";
            let other = json!({ "type": "http-01", "url": url, "token": "t", "status": "pending" });
            let own = json!({ "type": "tls-alpn-01", "url": url, "token": "t", "status": challenge, "error": error });
            let identifier = json!({ "type": "dns", "value": "b.example" });
            let state = json!({ "identifier": identifier, "status": authorization, "challenges": [other, own] });
            let state: AuthorizationState = serde_json::from_value(state).unwrap();
            let found = [false, true].map(|is_over| refusal(&state, is_over));
            let found = found.each_ref().map(Option::as_deref);
            assert_eq!(found, expected, "{authorization} {challenge} {error}");
        };
        let told = Some("the authority could not verify b.example: connection: it timed out");
        let untold = Some("the authority could not verify b.example, and does not say why");
        let null = serde_json::Value::Null;
        check("invalid", "invalid", &error, [told, told]);
        check("pending", "invalid", &error, [told, told]);
        check("invalid", "pending", &error, [told, told]);
        check("invalid", "invalid", &null, [untold, None]);
        check("pending", "invalid", &null, [untold, None]);
        check("deactivated", "pending", &null, [untold, None]);
        // The authority may try again.
        check("pending", "processing", &error, [None, told]);
        check("pending", "pending", &null, [None, None]);
        check("valid", "valid", &null, [None, None]);
    }
}
