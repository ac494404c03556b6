//! The problems of presets, as a closed list with their messages.
//!
//! Owns these messages. Must not decide: `preset` finds the problems.

/// A trust anchor other than the one that the preset knows.
#[derive(Debug, thiserror::Error)]
#[error(
    "{file}: the trust anchor {subject} has the SHA-256 {found}, but the preset expects {expected}: the file is damaged, is another one, or \
     was changed on its way. Download {download} from {page} again, and compare the fingerprint with the one that is published. If the sender \
     has another trust anchor now, write its file beside the known one: trust_anchors = [\"{download}\", \"…\"]"
)]
pub struct OtherAnchor {
    /// The file.
    pub file: String,
    /// The subject of the anchor.
    pub subject: String,
    /// The SHA-256 of its DER.
    pub found: String,
    /// Those that the preset knows.
    pub expected: String,
    /// The name of the file that the preset knows.
    pub download: String,
    /// Where it is published.
    pub page: String,
}

/// What is wrong with a preset, or with its use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PresetProblem {
    /// A preset for a newer hookgate.
    #[error(
        "schema {found} is newer than this hookgate, which reads presets up to schema {known}; upgrade hookgate, or install an older \
         version of the preset"
    )]
    NewerSchema {
        /// The schema of the preset.
        found: i64,
        /// The newest schema that is read.
        known: i64,
    },
    /// Not the URL of a page.
    #[error("write the https URL of the provider's page")]
    Page,
    /// Not a fingerprint.
    #[error("not a SHA-256 fingerprint; write 64 hexadecimal digits, with or without colons")]
    Fingerprint,
    /// A trust anchor that the preset cannot contain.
    #[error(
        "missing; this preset cannot contain the trust anchor: download {file} from {page}, and write trust_anchors = [\"{file}\"]"
    )]
    Download {
        /// The name of the file.
        file: String,
        /// Where it is published.
        page: String,
    },
    /// A trust anchor other than the one that the preset knows.
    #[error(transparent)]
    OtherAnchor(#[from] Box<OtherAnchor>),
    /// A file without the end of its last line.
    #[error(
        "the last line has no end: the file may be half written. Install it again; if it is whole, end it with a newline"
    )]
    HalfWritten,
    /// A version of TLS that does not exist.
    #[error("not a version of TLS; write \"1.2\" or \"1.3\"")]
    TlsVersion,
    /// A cipher suite that does not exist.
    #[error(
        "not a cipher suite; write its name at IANA, such as \"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256\" (OpenSSL has names of its own)"
    )]
    CipherSuite,
    /// A header field that a request cannot have.
    #[error("\"{name}\" is not a header field with a value; write fields such as {{ user-agent = \"Sender/1.0\" }}")]
    HeaderField {
        /// The name.
        name: String,
    },
    /// A file whose name cannot be the name of a preset.
    #[error(
        "the name of the file is the name of the preset; write 1 to {maximum} of the characters a-z A-Z 0-9 . _ - before .toml"
    )]
    FileName {
        /// The most characters.
        maximum: usize,
    },
}
