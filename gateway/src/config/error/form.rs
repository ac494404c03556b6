//! What a file is that holds no PEM section, as far as its first bytes say, and how a PEM file is made of it.
//!
//! Owns the advice alone. Must not refuse a file: its reader has done that.

/// The form of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileForm {
    /// Nothing but white space.
    Empty,
    /// PKCS#7 (RFC 2315) in DER: `.p7b`, `.p7c`.
    Pkcs7,
    /// PKCS#12 (RFC 7292): `.p12`, `.pfx`.
    Pkcs12,
    /// DER of another kind.
    Der,
    /// Anything else, such as text.
    Other,
}

/// id-signedData of PKCS#7, 1.2.840.113549.1.7.2, in DER.
const SIGNED_DATA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
/// Version 3, the first field of PKCS#12.
const VERSION_3: &[u8] = &[0x02, 0x01, 0x03];

impl FileForm {
    /// The form of these bytes.
    pub(in crate::config) fn of(file: &[u8]) -> Self {
        // A SEQUENCE of more than 127 bytes. OpenSSL writes PKCS#12 with an indefinite length (0x80) on request.
        match file {
            [0x30, 0x80, contents @ ..]
            | [0x30, 0x81, _, contents @ ..]
            | [0x30, 0x82, _, _, contents @ ..]
            | [0x30, 0x83, _, _, _, contents @ ..] => match contents {
                contents if contents.starts_with(SIGNED_DATA) => Self::Pkcs7,
                contents if contents.starts_with(VERSION_3) => Self::Pkcs12,
                _ => Self::Der,
            },
            file if file.trim_ascii().is_empty() => Self::Empty,
            _ => Self::Other,
        }
    }

    /// What to do about a file that should hold a certificate.
    pub(super) fn certificate_advice(self) -> &'static str {
        match self {
            Self::Empty => "it is empty; name the file with the certificate",
            Self::Pkcs7 => "convert PKCS#7 with `openssl pkcs7 -inform der -print_certs -in FILE -out FILE.pem`",
            Self::Pkcs12 => "convert PKCS#12 with `openssl pkcs12 -nokeys -in FILE -out FILE.pem`",
            Self::Der => "convert a DER file with `openssl x509 -inform der -in FILE -out FILE.pem`",
            Self::Other => "name the file with the certificate",
        }
    }

    /// What to do about a file that should hold a private key.
    pub(super) fn key_advice(self) -> &'static str {
        match self {
            Self::Empty => "it is empty; name the file with the key",
            Self::Pkcs12 => "convert PKCS#12 with `openssl pkcs12 -nocerts -nodes -in FILE -out FILE.key`",
            Self::Der => "convert a DER file with `openssl pkey -inform der -in FILE -out FILE.key`",
            Self::Pkcs7 | Self::Other => {
                "name the file with PKCS#8 (BEGIN PRIVATE KEY), PKCS#1 (BEGIN RSA PRIVATE KEY) or SEC1 (BEGIN EC PRIVATE KEY)"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_of_a_file_say_what_to_do_with_it() {
        let after = |begin: &[u8], contents: &[u8]| FileForm::of(&[begin, contents, &[0x30, 0x82]].concat());
        for begin in [&[0x30, 0x80][..], &[0x30, 0x81, 0x90], &[0x30, 0x82, 1, 0], &[0x30, 0x83, 1, 0, 0]] {
            assert_eq!(after(begin, SIGNED_DATA), FileForm::Pkcs7);
            assert_eq!(after(begin, VERSION_3), FileForm::Pkcs12);
            assert_eq!(after(begin, &[0x02, 0x01, 0x00]), FileForm::Der);
        }
        for (file, form) in [("", FileForm::Empty), (" \r\n", FileForm::Empty), ("<html>", FileForm::Other)] {
            assert_eq!(FileForm::of(file.as_bytes()), form, "{file:?}");
        }
        assert_eq!(FileForm::of("0\u{1}".as_bytes()), FileForm::Other);
    }
}
