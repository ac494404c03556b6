//! Every reason of a refusal in words: the page docs/reasons.md, and one entry of it for the terminal.
//!
//! Owns their form. What a reason means stands beside it in `core::reject`, and nowhere else.

use std::fmt::Write as _;

use hookgate_core::reject::{Blame, Reject, Stage};

/// What stands before the entries.
const HEAD: &str = "# Reasons

Every refusal has one reason: a code that never changes. It is the `reason` of the problem document and the end of its `type`, the label `reason` of
`hookgate_rejections_total`, and the field `reason` of the log. `hookgate explain REASON` prints an entry of this page, and
[`hookgate explain ID`](explain.md) says for one refusal which line of the configuration decided.

This page is made from the table in `gateway/core/src/reject.rs`, and a test compares the two.

*Status* is the HTTP status of the answer. *Alert* is the TLS alert if there is no answer: for reasons of the stage `identity` with
`on_failure = \"abort\"`. A refusal for which there is evidence of a rotation has status 503 instead of 403
([rotation.md](rotation.md)); `refusal`, `refusal_status` and `replay` of a provider change further answers.
";

/// The page.
pub fn page() -> String {
    let mut page = HEAD.to_owned();
    // Writing to a String cannot fail.
    for stage in Stage::ALL {
        let _ = write!(page, "\n## {}\n\n{}\n", heading(stage), introduction(stage));
        for reject in Reject::ALL.iter().filter(|reject| reject.stage() == stage) {
            let _ = write!(page, "\n### `{}`\n\n{}\n", reject.row().reason, body(*reject, true));
        }
    }
    page
}

/// One entry, for a terminal: without the marks of Markdown.
pub fn entry(reject: Reject) -> String {
    format!("{}: {}\n\n{}\n", reject.row().reason, reject.row().title, body(reject, false)).replace('`', "")
}

fn body(reject: Reject, is_page: bool) -> String {
    let row = reject.row();
    let fault = match row.blame {
        Blame::Peer => "the sender, or the configuration about it",
        Blame::Handler => "the handler",
        Blame::Gateway => "this receiver",
    };
    let answer = match (reject, reject.stage()) {
        (Reject::StreamLimit, _) => "none: the stream is reset with REFUSED_STREAM".to_owned(),
        (Reject::FrameFlood, _) => "none: the connection ends with ENHANCE_YOUR_CALM".to_owned(),
        (Reject::ResponseTimeout, _) => "none: the answer that had begun breaks off".to_owned(),
        (_, Stage::Accept) => "none: the connection is closed".to_owned(),
        (_, Stage::Proxy) => format!("alert {}", alert(reject)),
        (_, Stage::Tls) => format!("status {} where there is an answer, alert {}", row.status, alert(reject)),
        (_, Stage::Identity) => format!("status {}, or alert {}", row.status, alert(reject)),
        (_, Stage::Admission | Stage::Http | Stage::Route | Stage::Auth | Stage::Upstream) => {
            format!("status {}", row.status)
        }
    };
    let mut lines = vec![row.meaning().to_owned(), String::new()];
    if is_page {
        lines.push(format!("- Title: {}", row.title));
    }
    lines.push(format!("- Answer: {answer}"));
    lines.push(format!("- Who has to act: {fault}"));
    if let Some(text) = row.for_peer() {
        lines.push(format!("- The sender: {text}"));
    }
    if let Some(text) = row.for_operator() {
        lines.push(format!("- The operator: {text}"));
    }
    lines.join("\n")
}

/// The name and number of the alert (RFC 8446, section 6).
fn alert(reject: Reject) -> String {
    let alert = reject.row().alert;
    let mut name = String::new();
    let camel = format!("{alert:?}");
    let mut former = 'A';
    for character in camel.chars() {
        if character.is_ascii_uppercase() && former.is_ascii_lowercase() {
            name.push('_');
        }
        name.push(character.to_ascii_lowercase());
        former = character;
    }
    // RFC 8446 writes it with an underscore, and rustls without a change of case.
    let name = if name == "unknown_ca" || name == "unknownca" { "unknown_ca".to_owned() } else { name };
    format!("{name} ({})", u8::from(alert))
}

fn heading(stage: Stage) -> &'static str {
    match stage {
        Stage::Accept => "The connection (`accept`)",
        Stage::Proxy => "The header of a proxy (`proxy`)",
        Stage::Tls => "The handshake (`tls`)",
        Stage::Identity => "The client certificate (`identity`)",
        Stage::Admission => "The sender on this route (`admission`)",
        Stage::Http => "The form of the request (`http`)",
        Stage::Route => "The route (`route`)",
        Stage::Auth => "The proof of the request (`auth`)",
        Stage::Upstream => "The handler and the host (`upstream`)",
    }
}

fn introduction(stage: Stage) -> &'static str {
    match stage {
        Stage::Accept => "Before a byte of the peer is read, or to make room.",
        Stage::Proxy => {
            "With `proxy_protocol` in `[listen]`: before the handshake. See *Behind a proxy* in [configuration.md](configuration.md)."
        }
        Stage::Tls => "Before the certificate of the client is judged.",
        Stage::Identity => "The chain is judged for the providers of the server name, and then for those of the route.",
        Stage::Admission => "The certificate is good, or none is needed, but not from here or not for this route.",
        Stage::Http => "Framing, sizes and times.",
        Stage::Route => "Host, path and method.",
        Stage::Auth => "Tokens, signatures, secrets and replay: see *Proofs* in [configuration.md](configuration.md).",
        Stage::Upstream => "The request is authenticated; what is missing is on this host.",
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

    use std::path::Path;

    use super::*;

    /// With `HOOKGATE_BLESS=1`, writes the page.
    #[test]
    fn the_page_is_what_the_table_says() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reasons.md");
        if std::env::var_os("HOOKGATE_BLESS").is_some() {
            std::fs::write(&path, page()).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            written == page(),
            "docs/reasons.md differs from gateway/core/src/reject.rs: run this test with HOOKGATE_BLESS=1"
        );
    }

    #[test]
    fn an_alert_is_named_as_its_specification_does() {
        assert_eq!(alert(Reject::UnknownIssuer), "unknown_ca (48)");
        assert_eq!(alert(Reject::CertificateExpired), "certificate_expired (45)");
    }
}
