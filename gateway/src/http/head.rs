//! What the head of a request says of its host and of the framing of its body.
//!
//! Owns that there is one host, that it is the one of the connection, and which transfer codings are taken. Pure. Must not choose a route.

use std::borrow::Cow;

use http_body::Body;
use hyper::Version;
use hyper::header::{COOKIE, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;

use super::request_body::RequestBody;
use hookgate_core::limits::Limits;
use hookgate_core::reject::{Refusal, Reject};

/// The host that the request is for, in lower case, without port and trailing dot; empty if an HTTP/1.0 request names none. Usually it
/// equals the `server_name` of the connection, and then nothing is parsed.
///
/// # Errors
///
/// `malformed_request`: there is no one host, or it is not well-formed.
pub fn requested_host<'a>(head: &Parts, server_name: Option<&'a str>) -> Result<Cow<'a, str>, Refusal> {
    let Parts { uri, headers, version, .. } = head;
    let malformed = |detail: &str| Refusal::new(Reject::MalformedRequest, detail);
    let mut fields = headers.get_all(HOST).iter();
    let field = fields.next();
    if fields.next().is_some() {
        return Err(malformed("The request has more than one Host field (RFC 9112, section 3.2)."));
    }
    if field.is_none() && *version == Version::HTTP_11 {
        return Err(malformed("The request has no Host field (RFC 9112, section 3.2)."));
    }
    let parsed;
    let authority = match (uri.authority(), field) {
        (Some(authority), _) => authority,
        (None, None) => return Ok(Cow::Borrowed("")),
        (None, Some(field)) if field.is_empty() => return Ok(Cow::Borrowed("")),
        (None, Some(field)) => {
            if let Some(name) = server_name.filter(|name| field == name && !name.ends_with('.')) {
                return Ok(Cow::Borrowed(name));
            }
            parsed = Authority::try_from(field.as_bytes()).map_err(|_| {
                malformed("The Host field is not a host with an optional port (RFC 9110, section 7.2).")
            })?;
            &parsed
        }
    };
    if authority.as_str().contains('@') {
        return Err(malformed("The host must not carry user information (RFC 9110, section 4.2.4)."));
    }
    let host = authority.host();
    // RFC 3986, section 3.2.3: a colon and digits, possibly none. The parser accepts more: a handler could take another part of
    // `[::1]8443` or `host:a` for the host. 65535 is the largest port of TCP.
    let is_port = |rest: &str| {
        let port = rest.strip_prefix(':');
        port.is_some_and(|port| {
            port.is_empty() || port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
        })
    };
    if !authority.as_str().strip_prefix(host).is_some_and(|rest| rest.is_empty() || is_port(rest)) {
        return Err(malformed(
            "The host is followed by something else than a port up to 65535 (RFC 9110, section 7.2).",
        ));
    }
    Ok(Cow::Owned(host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()))
}

/// A connection is verified for one server name; a request for another host needs another connection (RFC 9110, 15.5.20).
///
/// # Errors
///
/// `misdirected`.
pub fn check_direction(server_name: Option<&str>, host: &str) -> Result<(), Refusal> {
    match server_name {
        Some(server_name) if server_name != host => Err(Refusal::new(
            Reject::Misdirected,
            format!(
                "This connection is for the server name \"{server_name}\", not for the host of the request; open a connection for each host, \
                 with it as the server name."
            ),
        )),
        Some(_) | None => Ok(()),
    }
}

/// What h2 leaves to its users: the number of fields, values without white space around them, one statement about the host, and one field of
/// cookies, which is what a handler can read (RFC 9113, section 8.2.3).
///
/// # Errors
///
/// `head_too_large`; or `malformed_request` if `:authority` and Host differ (RFC 9113, section 8.3.1), or a value begins or ends with white space
/// (8.2.1): a handler takes it away, so that hookgate would compare another value than the handler sees.
pub(super) fn complete_stream_head(head: &mut Parts, limits: &Limits) -> Result<(), Refusal> {
    if head.headers.len() > limits.max_headers {
        let detail = format!("The request has more than {} fields (max_headers).", limits.max_headers);
        return Err(Refusal::new(Reject::HeadTooLarge, detail));
    }
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let is_padded = |value: &HeaderValue| is_space(value.as_bytes().first()) || is_space(value.as_bytes().last());
    if let Some((name, _)) = head.headers.iter().find(|(_, value)| is_padded(value)) {
        let detail =
            format!("The value of the field {name} begins or ends with white space (RFC 9113, section 8.2.1).");
        return Err(Refusal::new(Reject::MalformedRequest, detail));
    }
    if let (Some(authority), Some(field)) = (head.uri.authority(), head.headers.get(HOST))
        && !authority.as_str().as_bytes().eq_ignore_ascii_case(field.as_bytes())
    {
        let detail = "The field Host is another than :authority (RFC 9113, section 8.3.1).";
        return Err(Refusal::new(Reject::MalformedRequest, detail));
    }
    let crumbs = head.headers.get_all(COOKIE);
    if crumbs.iter().nth(1).is_some() {
        let crumbs: Vec<&[u8]> = crumbs.iter().map(HeaderValue::as_bytes).collect();
        // Of values of fields and what separates cookies, so it is one.
        if let Ok(cookies) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
            head.headers.insert(COOKIE, cookies);
        }
    }
    Ok(())
}

/// hyper undoes `chunked`, and ignores what comes before it; a handler would take a body that is still coded for the body itself.
///
/// # Errors
///
/// `transfer_coding_unknown`, or `malformed_request` if `chunked` is applied twice.
pub(super) fn check_coding(headers: &HeaderMap, body: &RequestBody) -> Result<(), Refusal> {
    // HTTP/2 has no transfer codings, and h2 refuses the field (RFC 9113, section 8.2.2).
    if body.size_hint().exact().is_some() || matches!(body, RequestBody::Http2(_)) {
        return Ok(());
    }
    let fields = headers.get_all(TRANSFER_ENCODING).iter();
    let codings = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    let (chunked, other): (Vec<&[u8]>, Vec<&[u8]>) =
        codings.filter(|coding| !coding.is_empty()).partition(|coding| coding.eq_ignore_ascii_case(b"chunked"));
    match (chunked.len(), other.len()) {
        (1, 0) => Ok(()),
        (_, 0) => {
            let detail = "The body has the transfer coding \"chunked\" more than once (RFC 9112, section 6.1).";
            Err(Refusal::new(Reject::MalformedRequest, detail))
        }
        _ => {
            let detail =
                "The body has a transfer coding other than \"chunked\"; send it without, or as a Content-Encoding.";
            Err(Refusal::new(Reject::TransferCodingUnknown, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

    use hyper::Request;

    use super::*;

    #[test]
    fn the_host_is_the_one_of_the_target_or_of_the_one_host_field() {
        let check = |uri: &str, hosts: &[&str], version: Version, expected: Result<&str, ()>| {
            let mut request = Request::builder().uri(uri).version(version);
            for host in hosts {
                request = request.header(HOST, *host);
            }
            let head = request.body(()).unwrap().into_parts().0;
            // The name of the connection, which some of the hosts are, changes nothing.
            for server_name in [None, Some("hooks.example.com"), Some("hooks.example.com.")] {
                let found = requested_host(&head, server_name).map_err(|_| ());
                assert_eq!(found.as_deref(), expected.as_ref().copied(), "{uri} {hosts:?} {server_name:?}");
            }
        };
        check("/", &["Hooks.Example.com"], Version::HTTP_11, Ok("hooks.example.com"));
        check("/", &["hooks.example.com"], Version::HTTP_11, Ok("hooks.example.com"));
        check("/", &["hooks.example.com:8443"], Version::HTTP_11, Ok("hooks.example.com"));
        check("/", &["hooks.example.com."], Version::HTTP_11, Ok("hooks.example.com"));
        check("/", &["[::1]:443"], Version::HTTP_11, Ok("[::1]"));
        check("https://a.example/", &["b.example"], Version::HTTP_11, Ok("a.example"));
        check("/", &[""], Version::HTTP_11, Ok(""));
        check("/", &[], Version::HTTP_10, Ok(""));
        check("/", &[], Version::HTTP_11, Err(()));
        check("/", &["a", "a"], Version::HTTP_11, Err(()));
        check("/", &["user@a"], Version::HTTP_11, Err(()));
        check("/", &["a b"], Version::HTTP_11, Err(()));
        check("/", &["a/b"], Version::HTTP_11, Err(()));
        check("/", &["a:"], Version::HTTP_11, Ok("a"));
        check("/", &["a:65535"], Version::HTTP_11, Ok("a"));
        check("/", &["[::1]:0443"], Version::HTTP_11, Ok("[::1]"));
        for port in [":abc", ":65536", ":99999", ":+443", ":-1", ":443:443", ":4 4"] {
            check("/", &[&format!("a{port}")], Version::HTTP_11, Err(()));
            check("/", &[&format!("[::1]{port}")], Version::HTTP_11, Err(()));
        }
        check("/", &["[::1]8443"], Version::HTTP_11, Err(()));
        check("/", &["[::1]a.example"], Version::HTTP_11, Err(()));
        check("https://[::1]a.example/", &["b"], Version::HTTP_11, Err(()));
    }

    #[test]
    fn a_host_other_than_the_server_name_is_misdirected() {
        assert!(check_direction(Some("a.example"), "a.example").is_ok());
        assert!(check_direction(None, "a.example").is_ok());
        assert_eq!(check_direction(Some("a.example"), "b.example").unwrap_err().reject, Reject::Misdirected);
        assert_eq!(check_direction(Some("a.example"), "").unwrap_err().reject, Reject::Misdirected);
    }
}
