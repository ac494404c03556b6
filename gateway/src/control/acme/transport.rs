//! The HTTP client under the ACME client: the one that also fetches lists and keys, with the same bounds.
//!
//! Owns the bounds of an exchange with an authority, and that what it says cannot break the client: URLs are https and lead to public
//! addresses, answers are bounded, and a wait that is asked for is. Must not know what is asked: `order` does.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::ClientConfig;
use serde_json::Value;
use tokio::time::timeout;

use crate::config::{Feed, FeedUrl, FetchLimits};
use crate::control::fetcher::{self, AGENT, FetchClient, FetchError, check_literal, failure, read, redirected};

/// The longest wait that is believed of an authority, in seconds: a day. Rate limits of a week end no sooner by asking less.
const LONGEST_RETRY_AFTER: u64 = 24 * 3600;

/// The URLs of a directory that every authority has (RFC 8555, section 7.1.1), and those that it may have.
const NEEDED: [&str; 3] = ["newNonce", "newAccount", "newOrder"];
const OPTIONAL: [&str; 4] = ["newAuthz", "revokeCert", "keyChange", "renewalInfo"];

/// Exchanges with one authority.
#[derive(Clone)]
pub(super) struct Transport {
    client: FetchClient<BodyWrapper<Bytes>>,
    directory: String,
    limits: FetchLimits,
}

impl Transport {
    pub(super) fn new(directory: &Feed, tls: Arc<ClientConfig>) -> Self {
        let client = fetcher::client(tls, &directory.limits, false);
        Self { client, directory: directory.url.to_string(), limits: directory.limits }
    }

    /// Looks whether the directory is there and is one.
    pub(super) async fn look(&self) -> Result<(), FetchError> {
        let mut request = Request::new(BodyWrapper::default());
        *request.uri_mut() =
            self.directory.parse().map_err(|_| FetchError::Document("the URL is malformed".to_owned()))?;
        self.exchange(request).await.map(drop)
    }

    async fn exchange(&self, request: Request<BodyWrapper<Bytes>>) -> Result<Response<Full<Bytes>>, FetchError> {
        let limit = self.limits.timeout;
        timeout(limit, self.exchange_unbounded(request)).await.unwrap_or(Err(FetchError::TimedOut(limit)))
    }

    async fn exchange_unbounded(
        &self,
        mut request: Request<BodyWrapper<Bytes>>,
    ) -> Result<Response<Full<Bytes>>, FetchError> {
        let text = request.uri().to_string();
        let url = FeedUrl::parse(&text)
            .map_err(|error| FetchError::Document(format!("it names a URL that is not used: {error}")))?;
        check_literal(&url, self.limits.allow_private)?;
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(AGENT));
        let response = self.client.request(request).await.map_err(|error| failure(&url, error))?;
        let (mut head, body) = response.into_parts();
        if head.status.is_redirection() {
            return Err(redirected(head.status, &head.headers));
        }
        let body = read(body, self.limits.max_bytes).await?;
        if text == self.directory {
            check_directory(head.status, &body)?;
        } else if !head.status.is_success() && !is_json(head.headers.get(CONTENT_TYPE)) {
            // The answer of a proxy or balancer, and not of the authority.
            return Err(FetchError::Status(head.status));
        }
        bound_retry_after(&mut head.headers);
        Ok(Response::from_parts(head, Full::new(body)))
    }
}

impl HttpClient for Transport {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let this = self.clone();
        Box::pin(async move {
            let response = this.exchange(request).await.map_err(|error| Error::Other(Box::new(error)))?;
            Ok(BytesResponse::from(response))
        })
    }
}

fn is_json(content_type: Option<&HeaderValue>) -> bool {
    content_type.and_then(|value| value.to_str().ok()).is_some_and(|value| value.contains("json"))
}

/// The client takes the URLs of a directory without a look, and ends the process at some that are none.
fn check_directory(status: StatusCode, body: &[u8]) -> Result<(), FetchError> {
    if status != StatusCode::OK {
        return Err(FetchError::Status(status));
    }
    let no_directory = |why: String| FetchError::Document(format!("it is no directory of an ACME server: {why}"));
    let directory: Value = serde_json::from_slice(body).map_err(|error| no_directory(error.to_string()))?;
    for name in NEEDED.iter().chain(&OPTIONAL) {
        let is_needed = NEEDED.contains(name);
        match directory.get(*name) {
            None | Some(Value::Null) if !is_needed => {}
            Some(Value::String(url)) => {
                FeedUrl::parse(url).map_err(|error| no_directory(format!("{name}: {error}")))?;
            }
            _ => return Err(no_directory(format!("it has no {name}"))),
        }
    }
    Ok(())
}

/// Shortens a wait beyond [`LONGEST_RETRY_AFTER`]: the client adds it to the time of day, whatever it is.
fn bound_retry_after(headers: &mut hyper::HeaderMap) {
    let Some(value) = headers.get(RETRY_AFTER) else { return };
    let text = value.to_str().unwrap_or_default().trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let bounded = match (is_number, text.parse::<u64>()) {
        (true, Ok(seconds)) if seconds <= LONGEST_RETRY_AFTER => return,
        (true, _) => LONGEST_RETRY_AFTER,
        (false, _) => match httpdate::parse_http_date(text) {
            Ok(date) => {
                let left = date.duration_since(std::time::SystemTime::now()).unwrap_or(Duration::ZERO);
                left.as_secs().min(LONGEST_RETRY_AFTER)
            }
            Err(_) => {
                headers.remove(RETRY_AFTER);
                return;
            }
        },
    };
    headers.insert(RETRY_AFTER, HeaderValue::from(bounded));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_without_usable_urls_is_none() {
        let check = |body: &str| check_directory(StatusCode::OK, body.as_bytes()).map_err(|error| error.to_string());
        let with = |nonce: &str| {
            format!(r#"{{"newNonce":{nonce},"newAccount":"https://a.example/a","newOrder":"https://a.example/o"}}"#)
        };
        assert_eq!(check(&with(r#""https://a.example/n""#)), Ok(()));
        for nonce in [r#""""#, r#""/n""#, r#""http://a.example/n""#, r#""https://a b/""#, "7", "null"] {
            let error = check(&with(nonce)).expect_err("it is no directory");
            assert!(error.contains("no directory of an ACME server") && error.contains("newNonce"), "{nonce}: {error}");
        }
        assert!(check("<html>").is_err());
        assert!(check_directory(StatusCode::NOT_FOUND, b"{}").is_err());
    }

    #[test]
    fn no_wait_is_longer_than_a_day() {
        for (sent, kept) in [
            ("0", Some("0")),
            ("86400", Some("86400")),
            ("86401", Some("86400")),
            ("18446744073709551615", Some("86400")),
            ("99999999999999999999999", Some("86400")),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some("86400")),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some("0")),
            ("soon", None),
            ("-1", None),
        ] {
            let mut headers = hyper::HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(sent));
            bound_retry_after(&mut headers);
            assert_eq!(headers.get(RETRY_AFTER).map(|value| value.to_str().unwrap_or_default()), kept, "{sent}");
        }
    }
}
