//! Revocation lists: what is on them, what they do not cover, and when they are out of date.
