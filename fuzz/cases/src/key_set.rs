//! Target `key_set`: a JSON Web Key Set, as a token issuer publishes it.

use hookgate_core::auth::KeySet;

use crate::token;

/// The most keys of a set.
const KEYS_MAX: usize = 64;

/// Parses the set, and checks a token with it. A set with no usable key, or with too many keys, must be an error.
pub fn judge(input: &[u8]) {
    match KeySet::parse(input) {
        Ok(set) => {
            let (usable, skipped) = (set.usable_keys(), set.skipped().len());
            assert!(usable > 0 && usable + skipped <= KEYS_MAX, "{usable} keys, {skipped} skipped");
            token::passes_with(set);
        }
        Err(error) => assert!(error.to_string().len() < 1024 + input.len()),
    }
}
