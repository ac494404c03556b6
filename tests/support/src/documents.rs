//! The requests of the four providers' documents, with their bodies and fields.
//!
//! Body and fields of Dialogflow CX are those of its document. The ES document cuts its body short; it is completed here in the
//! same shape. The documents of PagerDuty and Percolate about mutual TLS show no request. The one of PagerDuty has the shape of its
//! V3 events; the one of Percolate is invented, fields included, and proves nothing about what Percolate sends. The bytes must not
//! change: the PagerDuty signature covers them.

use crate::pki::Sender;

/// The secret of the signature of [`PAGERDUTY`] (HMAC-SHA256 over the body).
pub const PAGERDUTY_SECRET: &str = "throwaway-pagerduty-secret";

/// One provider's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Document {
    /// The provider, and its preset: `pagerduty`, `dialogflow-cx`, `dialogflow-es`, `percolate`.
    pub provider: &'static str,
    /// The sender whose certificate it is sent with.
    pub sender: Sender,
    /// The path in the document, or one of the same kind.
    pub path: &'static str,
    /// The fields beside Host and Content-Length, in order.
    pub fields: &'static [(&'static str, &'static str)],
    /// The body, JSON.
    pub body: &'static str,
}

/// A PagerDuty V3 event.
pub const PAGERDUTY: Document = Document {
    provider: "pagerduty",
    sender: Sender::PagerDuty,
    path: "/pagerduty",
    fields: &[
        ("Content-Type", "application/json"),
        ("User-Agent", "PagerDuty-Webhook/V3.0"),
        ("Accept", "*/*"),
        ("X-Webhook-Id", "f5d9fe43-a1d5-4ad1-b0f5-7a2b2d4ff2c9"),
        ("X-Webhook-Subscription", "PWHS4RV"),
        ("X-PagerDuty-Signature", "v1=cfdc3ee17c798e84e9faf378ec0f003ac23b983a8dc9eb17787122543b8d7717"),
    ],
    body: include_str!("../documents/pagerduty.json"),
};

/// The fields that Dialogflow CX and ES send.
const DIALOGFLOW_FIELDS: &[(&str, &str)] = &[
    ("authorization", "Bearer ey.throwaway.token"),
    ("content-type", "application/json"),
    ("Connection", "keep-alive"),
    ("Accept", "*/*"),
    ("User-Agent", "Google-Dialogflow"),
    ("Accept-Encoding", "gzip, deflate, br"),
];

/// A Dialogflow CX `WebhookRequest`.
pub const DIALOGFLOW_CX: Document = Document {
    provider: "dialogflow-cx",
    sender: Sender::Dialogflow,
    path: "/shirts-agent-webhook",
    fields: DIALOGFLOW_FIELDS,
    body: include_str!("../documents/dialogflow-cx.json"),
};

/// A Dialogflow ES v2 `WebhookRequest`.
pub const DIALOGFLOW_ES: Document = Document {
    provider: "dialogflow-es",
    sender: Sender::Dialogflow,
    path: "/dialogflowFulfillment",
    fields: DIALOGFLOW_FIELDS,
    body: include_str!("../documents/dialogflow-es.json"),
};

/// An invented Percolate event.
pub const PERCOLATE: Document = Document {
    provider: "percolate",
    sender: Sender::Percolate,
    path: "/percolate",
    fields: &[("Content-Type", "application/json"), ("User-Agent", "Percolate-Webhooks"), ("Accept", "*/*")],
    body: include_str!("../documents/percolate.json"),
};

/// All documents.
pub const ALL: [Document; 4] = [PAGERDUTY, DIALOGFLOW_CX, DIALOGFLOW_ES, PERCOLATE];

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::{PAGERDUTY, PAGERDUTY_SECRET};
    use crate::process;

    #[test]
    fn the_pagerduty_signature_is_over_its_body() {
        let mut command = Command::new("openssl");
        command.args(["dgst", "-sha256", "-r", "-hmac", PAGERDUTY_SECRET]);
        let finished = process::run(command, PAGERDUTY.body.as_bytes(), Duration::from_secs(10)).expect("openssl runs");
        let digest = finished.stdout_text().split(' ').next().expect("openssl prints a digest").to_owned();
        assert!(PAGERDUTY.fields.contains(&("X-PagerDuty-Signature", format!("v1={digest}").as_str())), "{digest}");
    }
}
