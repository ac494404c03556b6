//! The clients against OpenSSL's own server.
