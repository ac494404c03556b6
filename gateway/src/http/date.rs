//! The field Date (RFC 9110, section 6.6.1), made once in a second.

use std::cell::RefCell;
use std::time::{Duration, UNIX_EPOCH};

use hyper::header::HeaderValue;
use rustls_pki_types::UnixTime;

/// The last value, with its second.
#[derive(Default)]
pub(super) struct DateField(RefCell<Option<(u64, HeaderValue)>>);

impl DateField {
    /// The value for `now`.
    pub(super) fn now(&self, now: UnixTime) -> HeaderValue {
        let mut last = self.0.borrow_mut();
        match &*last {
            Some((second, value)) if *second == now.as_secs() => value.clone(),
            _ => {
                let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(now.as_secs()));
                // Letters, digits, spaces, commas and colons are valid in a field.
                let value = HeaderValue::try_from(date).unwrap_or_else(|_| HeaderValue::from_static(""));
                last.insert((now.as_secs(), value)).1.clone()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_that_of_the_second() {
        let field = DateField::default();
        let at = |seconds| field.now(UnixTime::since_unix_epoch(Duration::from_secs(seconds)));
        for _ in 0..2 {
            assert_eq!(at(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
            assert_eq!(at(784_111_778), "Sun, 06 Nov 1994 08:49:38 GMT");
        }
    }
}
