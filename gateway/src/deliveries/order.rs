//! What makes one delivery wait for another: the order key.
//!
//! Pure. A key is the beginning of a SHA-256, so that the spool has no second copy of what a sender wrote.

use std::fmt;

use hyper::header::HeaderMap;
use ring::digest;

use crate::config::OrderBy;

/// Bytes of a key. Two values share one by chance after some 2^64 of them, and then one waits for the other.
const BYTES: usize = 16;

/// The order key of a delivery: deliveries of one route with equal keys go one after the other.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct OrderKey([u8; BYTES]);

impl OrderKey {
    /// The key of a request with these fields, as sent, and this body. `None` if it has not exactly one such value: it waits for no other.
    pub fn of(order_by: &OrderBy, fields: &HeaderMap, body: &[u8]) -> Option<Self> {
        match order_by {
            OrderBy::Nothing => None,
            OrderBy::Field(name) => {
                let mut values = fields.get_all(name).iter();
                match (values.next(), values.next()) {
                    (Some(only), None) => Some(Self::of_value(only.as_bytes())),
                    _ => None,
                }
            }
            OrderBy::Pointer(pointer) => {
                let only = pointer.only_scalar(body).ok()??;
                Some(Self::of_value(only.as_bytes()))
            }
        }
    }

    fn of_value(value: &[u8]) -> Self {
        let mut key = [0; BYTES];
        let whole = digest::digest(&digest::SHA256, value);
        key.iter_mut().zip(whole.as_ref()).for_each(|(byte, of)| *byte = *of);
        Self(key)
    }

    /// In hexadecimal digits.
    pub fn to_hex(self) -> String {
        data_encoding::HEXLOWER.encode(&self.0)
    }

    /// As a row has it.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As a row had it; `None` if it has another length.
    pub(super) fn of_row(bytes: &[u8]) -> Option<Self> {
        Some(Self(bytes.try_into().ok()?))
    }
}

impl fmt::Debug for OrderKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.to_hex())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use hookgate_core::auth::JsonPointer;

    use super::*;

    #[test]
    fn a_key_is_one_value_of_a_field_or_of_the_body() {
        let mut fields = HeaderMap::new();
        fields.append("x-account", "a".parse().unwrap());
        fields.append("x-two", "a".parse().unwrap());
        fields.append("x-two", "a".parse().unwrap());
        let of = |order_by: &OrderBy, body: &str| OrderKey::of(order_by, &fields, body.as_bytes());
        let field = |name: &str| OrderBy::Field(name.parse().unwrap());
        let pointer = OrderBy::Pointer(JsonPointer::parse("/id").unwrap());
        let a = of(&field("x-account"), "").unwrap();
        assert_eq!(of(&pointer, "{\"id\":\"a\"}"), Some(a));
        assert_ne!(of(&pointer, "{\"id\":\"b\"}"), Some(a));
        assert_eq!(of(&pointer, "{\"id\":7}"), of(&pointer, "{\"id\":\"7\"}"));
        for (order_by, body) in
            [(&field("x-two"), ""), (&field("x-none"), ""), (&pointer, "{}"), (&pointer, "no"), (&OrderBy::Nothing, "")]
        {
            assert_eq!(of(order_by, body), None, "{order_by:?} {body}");
        }
        assert_eq!(OrderKey::of_row(a.as_bytes()), Some(a));
        assert_eq!(OrderKey::of_row(b"short"), None);
    }
}
