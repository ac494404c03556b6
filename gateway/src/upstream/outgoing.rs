//! The request that a handler gets, and the only ways to one.
//!
//! Owns that nothing reaches a handler but what every check has passed: an [`AuthenticatedRequest`], or a [`StoredRequest`], which was one when it was
//! stored. Must not choose the fields of the first: [`super::headers`] does.

use std::cell::Cell;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::HeaderValue;
use hyper::{Method, Request, Version};

use super::headers::{self, Forwarded, X_HOOKGATE_ATTEMPT, X_HOOKGATE_DELIVERY};
use crate::deliveries::{RequestParts, StoredRequest};
use hookgate_core::auth::AuthenticatedRequest;

/// A request for a handler. It is made anew for each connection that it is tried on, so that a request that is sent once is not copied.
pub struct Outgoing<'a> {
    origin: Origin<'a>,
    begun: Option<&'a Cell<bool>>,
}

#[expect(
    clippy::large_enum_variant,
    reason = "there is one for each request in flight, and a box would be an allocation for each"
)]
enum Origin<'a> {
    Authenticated { request: AuthenticatedRequest, forwarded: Forwarded<'a> },
    Stored { request: StoredRequest, delivery: HeaderValue, attempt: u32 },
}

impl<'a> Outgoing<'a> {
    /// Of a request that every check has passed, with what hookgate adds.
    pub fn of_authenticated(request: AuthenticatedRequest, forwarded: Forwarded<'a>) -> Self {
        Self { origin: Origin::Authenticated { request, forwarded }, begun: None }
    }

    /// Of a stored delivery with this id, for its attempt with this number, from 1.
    pub fn of_stored(request: StoredRequest, id: &str, attempt: u32) -> Self {
        // The id is one of hookgate's: hexadecimal digits.
        let delivery = HeaderValue::from_str(id).unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        Self { origin: Origin::Stored { request, delivery, attempt }, begun: None }
    }

    /// The same, which sets `begun` before a handler gets a byte of it.
    pub fn noting(self, begun: &'a Cell<bool>) -> Self {
        Self { begun: Some(begun), ..self }
    }

    /// Its method.
    pub(super) fn method(&self) -> &Method {
        match &self.origin {
            Origin::Authenticated { request, .. } => &request.head().method,
            Origin::Stored { request, .. } => &request.parts().method,
        }
    }

    /// As it is sent, which begins now.
    pub(super) fn request(&self) -> Request<Full<Bytes>> {
        if let Some(begun) = self.begun {
            begun.set(true);
        }
        match &self.origin {
            Origin::Authenticated { request, forwarded } => headers::outgoing(request, forwarded),
            Origin::Stored { request, delivery, attempt } => {
                let RequestParts { method, target, fields, body } = request.parts();
                let mut request = Request::new(Full::new(body.clone()));
                *request.method_mut() = method.clone();
                *request.uri_mut() = target.clone();
                *request.version_mut() = Version::HTTP_11;
                *request.headers_mut() = fields.clone();
                request.headers_mut().insert(X_HOOKGATE_DELIVERY, delivery.clone());
                request.headers_mut().insert(X_HOOKGATE_ATTEMPT, HeaderValue::from(*attempt));
                request
            }
        }
    }

    /// What is stored of it.
    pub fn to_parts(&self) -> RequestParts {
        let (head, _) = self.request().into_parts();
        let body = match &self.origin {
            Origin::Authenticated { request, .. } => request.body(),
            Origin::Stored { request, .. } => &request.parts().body,
        };
        RequestParts { method: head.method, target: head.uri, fields: head.headers, body: body.clone() }
    }
}
