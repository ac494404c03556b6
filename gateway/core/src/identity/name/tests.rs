//! The two text forms of a name, and the printed one.

use super::{DistinguishedName, Name, NameError, canonical_contents, printable_name};

/// Checks that both texts are the same name, printed as the second.
fn check(openssl: &str, rfc4514: &str) {
    let parsed = DistinguishedName::parse(openssl).expect(openssl);
    assert_eq!(parsed, DistinguishedName::parse(rfc4514).expect(rfc4514), "{openssl}");
    assert_eq!(parsed.to_string(), rfc4514, "{openssl}");
}

#[test]
fn both_forms_give_the_same_name() {
    check("/CN=a", "CN=a");
    check("/C=US/O=Example/CN=a", "CN=a,O=Example,C=US");
    check("/C=US/O=Percolate Industries, Inc./CN=x=y", "CN=x=y,O=Percolate Industries\\, Inc.,C=US");
    check(r"/O=a\/b\+c\\d/CN=#1", r"CN=\#1,O=a/b\+c\\d");
    check("/O= a b /CN=\";<>", r#"CN=\"\;\<\>,O=\ a b\ "#);
    check("/C=DE/CN=a+OU=b", "CN=a+OU=b,C=DE");
    check("/CN=B\u{fc}cher", r"CN=B\C3\BCcher");
    check("/1.2.3.4=a", "1.2.3.4=a");
    check("/CN=a#b c#", "CN=a#b c#");
    check("/emailAddress=a@b.example/DC=example", "DC=example,emailAddress=a@b.example");
}

/// A `Name` of one common name: SEQUENCE, SET, SEQUENCE, OBJECT IDENTIFIER, UTF8String.
const NAME: [u8; 14] = [0x30, 0x0c, 0x31, 0x0a, 0x30, 0x08, 0x06, 0x03, 0x55, 0x04, 0x03, 0x0c, 0x01, b'\n'];

#[test]
fn a_name_is_printed_from_its_der_with_and_without_the_outermost_tag() {
    for der in [&NAME[..], &NAME[2..]] {
        assert_eq!(printable_name(der).as_deref(), Some("CN=\\0A"));
    }
    for malformed in [&NAME[..13], &NAME[4..], b"CN=a"] {
        assert_eq!(printable_name(malformed), None, "{malformed:?}");
    }
}

#[test]
fn a_name_of_a_chain_is_compared_by_its_bytes_beyond_a_length() {
    // SET, SEQUENCE, OBJECT IDENTIFIER, PrintableString: 17 bytes beside the text.
    let name = |letters: usize| {
        let long = |tag: u8, contents: &[u8]| {
            let length = u16::try_from(contents.len()).expect("short").to_be_bytes();
            [&[tag, 0x82, length[0], length[1]], contents].concat()
        };
        let value = long(0x13, &vec![b'A'; letters]);
        long(0x31, &long(0x30, &[&[0x06, 0x03, 0x55, 0x04, 0x03], value.as_slice()].concat()))
    };
    for (bytes, is_folded) in [(300, true), (1024, true), (1025, false), (4000, false)] {
        let name = name(bytes - 17);
        assert_eq!(name.len(), bytes);
        assert_eq!(canonical_contents(&name) != name, is_folded, "{bytes} bytes");
    }
}

#[test]
fn a_value_has_no_nul_in_any_spelling() {
    for text in ["CN=a\\00b", "CN=\\00", "CN=a\0", "/CN=a\0b"] {
        assert!(DistinguishedName::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn a_name_tells_its_attributes_unless_one_is_no_text() {
    let name = |text: &str| DistinguishedName::parse(text).expect(text);
    let attributes: [(&[u8], &str); 2] = [(&[0x55, 0x04, 0x06], "US"), (&[0x55, 0x04, 0x03], "a")];
    assert_eq!(name("/C=US/CN=a").attributes().as_deref(), Some(attributes.as_slice()));
    assert_eq!(name("CN=a,1.2.3=#0500").attributes(), None);
}

#[test]
fn names_of_attribute_types_have_synonyms_in_any_case() {
    for (text, printed) in [
        ("/countryName=US", "C=US"),
        ("/cn=a", "CN=a"),
        ("/2.5.4.3=a", "CN=a"),
        ("/S=NY", "ST=NY"),
        ("/e=a", "emailAddress=a"),
        ("/givenname=a/SN=b", "SN=b,GN=a"),
        ("/SERIALNUMBER=5", "serialNumber=5"),
        ("/street=a/postalCode=1/title=x/UID=u", "UID=u,title=x,postalCode=1,STREET=a"),
        ("/businessCategory=a/organizationIdentifier=b", "organizationIdentifier=b,businessCategory=a"),
        ("/jurisdictionC=US/jurisdictionST=NY/jurisdictionL=x", "jurisdictionL=x,jurisdictionST=NY,jurisdictionC=US"),
        ("CN=#0C0161", "CN=#0c0161"),
        (r"CN=\61\c3\a9", r"CN=a\C3\A9"),
    ] {
        assert_eq!(DistinguishedName::parse(text).expect(text).to_string(), printed);
    }
}

#[test]
fn ambiguous_texts_are_errors_that_say_what_to_write() {
    for (text, words) in [
        ("", "empty"),
        ("/", "empty"),
        ("/CN", "type=value"),
        ("/CN=a/", "type=value"),
        ("//CN=a", "type=value"),
        ("/CN=http://x", r#""/" as "\/""#),
        ("/O=A+B/CN=x", r#""\+""#),
        ("/CN=", "empty value"),
        ("/CN=a\0", "NUL"),
        ("/X=a", "known types are C, ST, L"),
        ("/9.9.9.=a", "is unknown"),
        (r"/CN=a\,b", "not an escape sequence"),
        ("/CN=a\\", "not an escape sequence"),
        ("a", "type=value"),
        ("CN=a,", "type=value"),
        ("CN=a,b", r#""," as "\,""#),
        ("CN=a, O=b", "-nameopt RFC2253"),
        ("C = US, CN = a", "-nameopt RFC2253"),
        ("CN=a ,O=b", "-nameopt RFC2253"),
        ("CN= a", "-nameopt RFC2253"),
        ("CN=\"a, b\"", "no quotes"),
        ("CN=a;O=b", "only separators"),
        ("CN=a<b", r"\<"),
        ("CN=", "empty value"),
        (r"CN=\00", "NUL"),
        (r"CN=\ff", "not UTF-8"),
        (r"CN=\zz", "two hexadecimal digits"),
        ("CN=a\\", "two hexadecimal digits"),
        ("CN=#", "hexadecimal form"),
        ("CN=#0c", "hexadecimal form"),
        ("CN=#0c0161ff", "hexadecimal form"),
        ("CN=#hello", "hexadecimal form"),
    ] {
        let error = DistinguishedName::parse(text).expect_err(text).to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
    assert_eq!(DistinguishedName::parse("/"), Err(NameError::Empty));
}

#[test]
fn a_name_is_a_sequence_of_sets_of_universal_class() {
    // CN=a
    let name = [0x30, 0x0c, 0x31, 0x0a, 0x30, 0x08, 0x06, 0x03, 0x55, 0x04, 0x03, 0x0c, 0x01, 0x61];
    assert_eq!(Name::from_der(&name).map(|name| name.to_string()).as_deref(), Some("CN=a"));
    for place in [0, 2, 4] {
        // Another class, another tag, not constructed.
        for tag in [name[place] | 0x40, name[place] | 0xc0, name[place] ^ 0x02, name[place] & !0x20] {
            let mut odd = name;
            odd[place] = tag;
            assert!(Name::from_der(&odd).is_none(), "{tag:#x} at {place}");
        }
    }
}
