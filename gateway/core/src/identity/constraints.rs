//! Name constraints of the forms directoryName and rfc822Name (RFC 5280, section 4.2.1.10).
//!
//! webpki processes dNSName and iPAddress, and refuses a chain that has another form in a constraint and in a name, permitted or not. For
//! the two forms here, it gets certificates and anchors without them ([`without_processed`], used by `spelling`), and a path that it found
//! is checked against them. Forms that neither processes stay with webpki, which refuses them.
//!
//! Owns the reading of the two forms and their comparison. A constraint that cannot be read permits nothing and excludes everything.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use super::elements::{split, wrap};
use super::name::Name;

const SEQUENCE: u8 = 0x30;
/// [0] and [1] of NameConstraints.
const PERMITTED: u8 = 0xa0;
const EXCLUDED: u8 = 0xa1;
/// [1] and [4] of GeneralName.
const RFC822_NAME: u8 = 0x81;
const DIRECTORY_NAME: u8 = 0xa4;

/// DER contents of the object identifiers of nameConstraints, 2.5.29.30, and emailAddress, 1.2.840.113549.1.9.1.
const NAME_CONSTRAINTS: [u8; 3] = [0x55, 0x1d, 0x1e];
const EMAIL_ADDRESS: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01];

/// A subtree of one of the two forms.
enum Subtree<'a> {
    Mail(&'a [u8]),
    /// The comparable relative names; `None` if it is not a name.
    Directory(Option<Vec<Vec<u8>>>),
}

/// A subtree as it is written.
struct Written<'a> {
    /// The tag of the list that it is in.
    list: u8,
    der: &'a [u8],
    /// Tag and contents of the base, if it is of one of the two forms.
    processed: Option<(u8, &'a [u8])>,
}

/// The subtrees of the two forms in one NameConstraints.
pub(super) struct Constraints<'a> {
    permitted: Vec<Subtree<'a>>,
    excluded: Vec<Subtree<'a>>,
}

/// The names of one certificate that the two forms apply to.
struct Names<'a> {
    mail: Vec<&'a [u8]>,
    /// Comparable relative names. `None` for one that cannot be read.
    directory: Vec<Option<Vec<Vec<u8>>>>,
}

impl<'a> Constraints<'a> {
    /// Reads the contents of a NameConstraints. `None` if they have neither form, or are not well-formed, which webpki finds.
    pub(super) fn read(contents: &'a [u8]) -> Option<Self> {
        let mut constraints = Self { permitted: Vec::new(), excluded: Vec::new() };
        each_subtree(contents, &mut |Written { list, processed, .. }| {
            let subtree = match processed {
                Some((RFC822_NAME, base)) => Subtree::Mail(base),
                Some((_, base)) => Subtree::Directory(Name::from_der(base).map(|name| name.comparable())),
                None => return,
            };
            if list == PERMITTED { &mut constraints.permitted } else { &mut constraints.excluded }.push(subtree);
        })?;
        (!constraints.permitted.is_empty() || !constraints.excluded.is_empty()).then_some(constraints)
    }

    /// Those of a certificate.
    pub(super) fn of(certificate: &'a X509Certificate<'_>) -> Option<Self> {
        Self::read(split(value(certificate)?).filter(|(tag, ..)| *tag == SEQUENCE)?.1)
    }

    /// Whether all names of the certificate are permitted and none is excluded.
    pub(super) fn permit(&self, certificate: &X509Certificate<'_>) -> bool {
        let Some(names) = Names::of(certificate) else { return false };
        let mail = names.mail.iter().all(|name| {
            let is_mail = |subtree: &&Subtree<'_>| matches!(subtree, Subtree::Mail(_));
            allows(
                self.permitted.iter().filter(is_mail),
                self.excluded.iter().filter(is_mail),
                |subtree, unclear| matches!(subtree, Subtree::Mail(base) if mail_is_within(name, base, unclear)),
            )
        });
        let directory = names.directory.iter().all(|name| {
            let is_directory = |subtree: &&Subtree<'_>| matches!(subtree, Subtree::Directory(_));
            let (permitted, excluded) = (self.permitted.iter(), self.excluded.iter());
            allows(permitted.filter(is_directory), excluded.filter(is_directory), |subtree, unclear| {
                match (subtree, name) {
                    (Subtree::Directory(Some(base)), Some(name)) => name.starts_with(base),
                    (Subtree::Directory(_), _) => unclear,
                    (Subtree::Mail(_), _) => false,
                }
            })
        });
        mail && directory
    }
}

/// The value of the name constraints extension.
fn value<'a>(certificate: &X509Certificate<'a>) -> Option<&'a [u8]> {
    let mut extensions = certificate.extensions().iter();
    extensions.find(|extension| extension.oid.as_bytes() == NAME_CONSTRAINTS).map(|extension| extension.value)
}

/// Whether the certificate has name constraints.
pub(super) fn are_present(certificate: &X509Certificate<'_>) -> bool {
    value(certificate).is_some()
}

/// Whether the certificate has name constraints that constrain nothing, which RFC 5280, section 4.2.1.10, forbids.
pub(super) fn are_void(certificate: &X509Certificate<'_>) -> bool {
    value(certificate).is_some_and(|value| {
        let mut is_void = true;
        let contents = split(value).map(|(_, contents, _)| contents).unwrap_or_default();
        each_subtree(contents, &mut |_| is_void = false).is_some() && is_void
    })
}

/// Whether a name is within one of the permitted subtrees of its form, if there are any, and within none of the excluded ones. The second
/// argument of `is_within` is its answer for what cannot be read.
fn allows<'s, 'a: 's>(
    permitted: impl Iterator<Item = &'s Subtree<'a>>,
    mut excluded: impl Iterator<Item = &'s Subtree<'a>>,
    is_within: impl Fn(&Subtree<'_>, bool) -> bool,
) -> bool {
    let mut permitted = permitted.peekable();
    let is_permitted = permitted.peek().is_none() || permitted.any(|subtree| is_within(subtree, false));
    is_permitted && !excluded.any(|subtree| is_within(subtree, true))
}

impl<'a> Names<'a> {
    /// `None` if the certificate has a name of one of the forms that cannot be read.
    fn of(certificate: &'a X509Certificate<'_>) -> Option<Self> {
        let mut names = Self { mail: Vec::new(), directory: Vec::new() };
        let subject = Name::from_der(certificate.subject().as_raw())?;
        if !subject.is_empty() {
            names.directory.push(Some(subject.comparable()));
        }
        match certificate.subject_alternative_name().ok()? {
            Some(extension) => {
                for name in &extension.value.general_names {
                    match name {
                        GeneralName::RFC822Name(mail) => names.mail.push(mail.as_bytes()),
                        GeneralName::DirectoryName(name) => {
                            names.directory.push(Name::from_der(name.as_raw()).map(|name| name.comparable()));
                        }
                        GeneralName::Invalid(..) => return None,
                        _ => {}
                    }
                }
            }
            // Without alternative names, the addresses in the subject count.
            None => {
                for attribute in certificate.subject().iter_attributes() {
                    if attribute.attr_type().as_bytes() == EMAIL_ADDRESS {
                        names.mail.push(attribute.attr_value().data);
                    }
                }
            }
        }
        Some(names)
    }
}

/// A constraint is a mailbox, a host, or a domain with a dot in front. The local part is compared exactly, the host without regard to case
/// (RFC 5280, section 7.5). An empty constraint is unclear, and so is an address without host
/// or with a second separator.
fn mail_is_within(name: &[u8], base: &[u8], unclear: bool) -> bool {
    let at = |text: &[u8]| text.iter().rposition(|byte| *byte == b'@');
    let Some(place) = at(name).filter(|place| *place > 0 && place + 1 < name.len()) else { return unclear };
    let (local, host) = (&name[..place], &name[place + 1..]);
    // Only a quoted local part may contain the separator (RFC 5321, section 4.1.2).
    let is_quoted = matches!(local, [b'"', .., b'"']);
    if local.contains(&b'@') && !is_quoted {
        return unclear;
    }
    match (at(base), base) {
        (_, []) => unclear,
        (Some(place), _) => local == &base[..place] && host.eq_ignore_ascii_case(&base[place + 1..]),
        (None, [b'.', ..]) => host.len() > base.len() && host[host.len() - base.len()..].eq_ignore_ascii_case(base),
        (None, _) => host.eq_ignore_ascii_case(base),
    }
}

/// Calls `found` for each subtree. `None` if the constraints are not well-formed. A subtree with a minimum or maximum, which RFC 5280
/// forbids, is left to webpki.
fn each_subtree<'a>(mut contents: &'a [u8], found: &mut dyn FnMut(Written<'a>)) -> Option<()> {
    while !contents.is_empty() {
        let (list, mut subtrees, rest) = split(contents)?;
        if ![PERMITTED, EXCLUDED].contains(&list) {
            return None;
        }
        while !subtrees.is_empty() {
            let (_, subtree, after) = split(subtrees)?;
            let (tag, base, limits) = split(subtree)?;
            let is_processed = limits.is_empty() && [RFC822_NAME, DIRECTORY_NAME].contains(&tag);
            let der = &subtrees[..subtrees.len() - after.len()];
            found(Written { list, der, processed: is_processed.then_some((tag, base)) });
            subtrees = after;
        }
        contents = rest;
    }
    Some(())
}

/// Whether these contents of a NameConstraints are well-formed and have a subtree of one of the two forms. Reads no name.
fn have_processed(contents: &[u8]) -> bool {
    let mut found = false;
    each_subtree(contents, &mut |Written { processed, .. }| found |= processed.is_some()).is_some() && found
}

/// The contents of a NameConstraints without the two forms; empty if nothing else is in it. `None` if there is nothing to remove.
pub(super) fn without_processed(contents: &[u8]) -> Option<Vec<u8>> {
    if !have_processed(contents) {
        return None;
    }
    let (mut permitted, mut excluded) = (Vec::new(), Vec::new());
    each_subtree(contents, &mut |Written { list, der, processed }| {
        if processed.is_none() {
            if list == PERMITTED { &mut permitted } else { &mut excluded }.extend_from_slice(der);
        }
    })?;
    let lists = [(PERMITTED, permitted), (EXCLUDED, excluded)];
    let lists = lists.into_iter().filter(|(_, kept)| !kept.is_empty());
    Some(lists.flat_map(|(list, kept)| wrap(list, &[&kept])).collect())
}

/// Whether these extensions (contents) have name constraints of one of the two forms. Reads no name: a stranger's certificate may have many.
pub(super) fn are_in(mut extensions: &[u8]) -> bool {
    let processed_in = |fields: &[u8]| {
        // `critical` may precede the value.
        let (_, value, after) = split(fields)?;
        let value = if after.is_empty() { value } else { split(after)?.1 };
        let (_, contents, _) = split(value)?;
        Some(have_processed(contents))
    };
    while let Some((_, extension, rest)) = split(extensions) {
        if let Some((_, id, fields)) = split(extension)
            && id == NAME_CONSTRAINTS
        {
            return processed_in(fields).unwrap_or(false);
        }
        extensions = rest;
    }
    false
}

/// The contents of the extensions of a certificate, without the two forms. `None` if they are not well-formed.
pub(super) fn extensions_without_processed(mut extensions: &[u8]) -> Option<Vec<u8>> {
    let mut output = Vec::new();
    while !extensions.is_empty() {
        let (tag, extension, rest) = split(extensions)?;
        let whole = &extensions[..extensions.len() - rest.len()];
        extensions = rest;
        let (_, id, fields) = split(extension)?;
        if id != NAME_CONSTRAINTS {
            output.extend_from_slice(whole);
            continue;
        }
        // `critical` may precede the value.
        let (_, _, after) = split(fields)?;
        let (before, value) =
            if after.is_empty() { ([].as_slice(), fields) } else { fields.split_at(fields.len() - after.len()) };
        let (octets, constraints, _) = split(value)?;
        let (sequence, contents, _) = split(constraints)?;
        match without_processed(contents) {
            None => output.extend_from_slice(whole),
            Some(left) if left.is_empty() => {}
            Some(left) => {
                let id = &extension[..extension.len() - fields.len()];
                let value = wrap(octets, &[&wrap(sequence, &[&left])]);
                output.extend(wrap(tag, &[id, before, &value]));
            }
        }
    }
    Some(output)
}

#[cfg(test)]
mod tests {
    use super::{EXCLUDED, NAME_CONSTRAINTS, PERMITTED, extensions_without_processed, mail_is_within, wrap};

    /// A subtree (RFC 5280, section 4.2.1.10) of this form.
    fn subtree(form: u8, base: &[u8]) -> Vec<u8> {
        wrap(0x30, &[&wrap(form, &[base])])
    }

    fn extension(id: &[u8], value: &[u8]) -> Vec<u8> {
        wrap(0x30, &[&wrap(0x06, &[id]), &wrap(0x04, &[value])])
    }

    #[test]
    fn the_constraints_that_are_checked_here_are_left_out() {
        let (mail, host) = (subtree(0x81, b"example.com"), subtree(0x82, b"example.com"));
        let constraints = |lists: &[(u8, &[u8])]| {
            let lists: Vec<u8> = lists.iter().flat_map(|(list, subtrees)| wrap(*list, &[subtrees])).collect();
            extension(&NAME_CONSTRAINTS, &wrap(0x30, &[&lists]))
        };
        let other = extension(&[0x55, 0x1d, 0x13], &[0x30, 0x00]);
        let both = [mail.as_slice(), &host].concat();
        for (extensions, expected) in [
            (other.clone(), other.clone()),
            (constraints(&[(PERMITTED, &host)]), constraints(&[(PERMITTED, &host)])),
            (constraints(&[(PERMITTED, &mail)]), Vec::new()),
            ([other.as_slice(), &constraints(&[(EXCLUDED, &mail)])].concat(), other),
            (constraints(&[(PERMITTED, &both), (EXCLUDED, &mail)]), constraints(&[(PERMITTED, &host)])),
        ] {
            assert_eq!(extensions_without_processed(&extensions), Some(expected), "{extensions:02x?}");
        }
        assert_eq!(extensions_without_processed(&[0x30]), None);
    }

    #[test]
    fn a_mail_address_without_local_part_or_host_is_unclear() {
        for base in ["", "a@example.com", "example.com", ".example.com"] {
            for address in ["a@", "@example.com", "@", "a", "", "a@b@example.com"] {
                for unclear in [false, true] {
                    let found = mail_is_within(address.as_bytes(), base.as_bytes(), unclear);
                    assert_eq!(found, unclear, "{address:?} within {base:?}");
                }
            }
        }
        let within = |address: &str, base: &str| mail_is_within(address.as_bytes(), base.as_bytes(), false);
        for (address, base, expected) in [
            ("a@example.com", "a@EXAMPLE.com", true),
            ("A@example.com", "a@example.com", false),
            ("a@example.com", "example.com", true),
            ("a@b", "b", true),
            ("a@x.example.com", "example.com", false),
            ("a@x.example.com", ".example.com", true),
            ("a@example.com", ".example.com", false),
            ("a@.example.com", ".example.com", false),
            ("\"a@b\"@example.com", "example.com", true),
        ] {
            assert_eq!(within(address, base), expected, "{address:?} within {base:?}");
        }
    }
}
