//! Tests of templates: the messages that they write, and that no two requests give one message.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::HashMap;

use http::header::HeaderValue;
use http::uri::PathAndQuery;
use http::{Method, Uri};
use proptest::prelude::*;

use super::*;

/// Stands for `{url}`: a text that pieces can contain too.
const URL: &str = "1./A";

fn parse(template: &str) -> Result<MessageTemplate, TemplateError> {
    MessageTemplate::parse(template, template.contains(super::URL).then_some(URL))
}

#[test]
fn writes_the_messages_that_providers_document() {
    let parts = MessageParts { id: b"msg", timestamp: b"12", method: b"POST", path: b"/a?b", body: b"{}" };
    for (template, expected) in [
        ("{body}", "{}"),
        ("v0:{timestamp}:{body}", "v0:12:{}"),
        ("{timestamp}.{body}", "12.{}"),
        ("{id}.{timestamp}.{body}", "msg.12.{}"),
        ("{url}{body}", "1./A{}"),
        ("{method} {path}\n{body}!", "POST /a?b\n{}!"),
    ] {
        assert_eq!(message(&parse(template).unwrap(), &parts), expected.as_bytes(), "{template}");
    }
}

fn message(template: &MessageTemplate, parts: &MessageParts<'_>) -> Vec<u8> {
    let mut written = Vec::new();
    template.write(parts, &mut |bytes| written.extend_from_slice(bytes));
    written
}

#[test]
fn refuses_templates_that_do_not_prove_the_body() {
    let template = |text: &str| text.to_owned();
    for (text, error) in [
        ("", TemplateError::Body { template: template("") }),
        ("{timestamp}", TemplateError::Body { template: template("{timestamp}") }),
        ("{body}.{body}", TemplateError::Body { template: template("{body}.{body}") }),
        ("{id}.{id}.{body}", TemplateError::Repeated { template: template("{id}.{id}.{body}") }),
        (
            "{nonce}.{body}",
            TemplateError::UnknownPiece { template: template("{nonce}.{body}"), found: template("{nonce}") },
        ),
        ("{body", TemplateError::UnknownPiece { template: template("{body"), found: template("{body") }),
        ("{url}{url}{body}", TemplateError::Repeated { template: template("{url}{url}{body}") }),
        (
            "{timestamp:10}{timestamp}.{body}",
            TemplateError::Repeated { template: template("{timestamp:10}{timestamp}.{body}") },
        ),
        (
            "{timestamp:9}{body}",
            TemplateError::UnknownPiece { template: template("{timestamp:9}{body}"), found: template("{timestamp:9}") },
        ),
        ("a}{body}", TemplateError::UnknownPiece { template: template("a}{body}"), found: template("}") }),
    ] {
        assert_eq!(parse(text), Err(error), "{text}");
    }
    assert_eq!(parse(&"x".repeat(257)), Err(TemplateError::TooLong { bytes: 257 }));
}

#[test]
fn accepts_templates_that_tell_where_each_piece_ends() {
    for template in [
        "{body}",
        "prefix{body}suffix",
        "{timestamp}.{body}",
        "{timestamp}{path}\n{body}",
        "{timestamp:10}{body}",
        "{body}{timestamp:10}",
        "{id}.{timestamp:10}{body}",
        "{timestamp:10}{method} {body}",
        "{url}{body}",
        "{id}{url}{body}",
        "v0:{timestamp}:{body}",
        "{id}.{body}",
        "{id}--{timestamp}--{body}",
        "{id}.{timestamp}.{body}",
        "{method} {path}\n{timestamp}\n{body}",
        "{method}:{path}\n{id}\n{body}",
        "{method}-{timestamp}\n{body}",
        "{method}{path} {body}",
        "{method}.{path} {body}",
        // What is read from the end of the message.
        "{body}.{timestamp}",
        "{body} {method} {path}",
        "{body}\n{id}",
        "{timestamp}.{body} {method}",
    ] {
        assert_eq!(parse(template).err(), None, "{template}");
    }
    let longest = format!("{{id}}{}{{body}}", "a".repeat(246));
    assert!(parse(&longest).is_ok());
}

/// For each refused template, two requests that it would give one message.
#[test]
fn refuses_templates_that_give_one_message_to_two_requests() {
    let check = |template: &str, one: &str, other: &str| {
        let error = parse(template).unwrap_err().to_string();
        assert!(error.contains(&format!("to different requests: {one}, and {other}; write")), "{error}");
        assert!(!error.contains('\n'), "an error is one line: {error}");
        assert_collides(template, &collision::find(&pieces(template, Some(URL)).unwrap()).unwrap());
    };
    check("{body}.{id}", "body \"\" with id \".\"", "body \".\" with id \"\"");
    check("{body}.{id}.{timestamp}", "body \"\" with id \".\"", "body \".\" with id \"\"");
    check("{body}:{path}", "body \"\" with path \"/:/\"", "body \":/\" with path \"/\"");
    check("{body}{timestamp}", "body \"\" with timestamp \"00\"", "body \"0\" with timestamp \"0\"");
    check("{id}{body}", "id \"\" with body \"a\"", "id \"a\" with body \"\"");
    check("{timestamp}{body}", "timestamp \"0\" with body \"0\"", "timestamp \"00\" with body \"\"");
    check("{method}{body}", "method \"a\" with body \"a\"", "method \"aa\" with body \"\"");
    check("{path}.{body}", "path \"/\" with body \".\"", "path \"/.\" with body \"\"");
    check("{path}:{timestamp}:{body}", "path \"/\" with body \"0:\"", "path \"/:0\" with body \"\"");
    check("{id}{timestamp}.{body}", "id \"\" with timestamp \"00\"", "id \"0\" with timestamp \"0\"");
    check("{timestamp}{method} {body}", "timestamp \"0\" with method \"0a\"", "timestamp \"00\" with method \"a\"");
}

#[test]
fn an_id_must_not_contain_the_text_that_ends_it() {
    let check = |template: &str, id: &str, expected: bool| {
        let parts = MessageParts { id: id.as_bytes(), timestamp: b"1", method: b"POST", path: b"/", body: b"-x" };
        assert_eq!(parse(template).unwrap().has_early_end(&parts), expected, "{template} {id:?}");
    };
    check("{id}.{timestamp}.{body}", "msg", false);
    check("{id}.{timestamp}.{body}", "", false);
    check("{id}.{timestamp}.{body}", "m.sg", true);
    check("{id}.{timestamp}.{body}", ".", true);
    check("{timestamp} {id}--{body}", "a-b", false);
    check("{timestamp} {id}--{body}", "a--b", true);
    // "a-" before "x" signs "a---x" as "a" before "-x" does.
    check("{timestamp} {id}--{body}", "a-", true);
    check("{id}aba{body}", "xab", true);
    check("{id}aba{body}", "xb", false);
    check("{id}abc{body}", "xab", false);
    check("{timestamp}.{body}\n{id}", "a\tb.c", false);
}

#[test]
fn the_pieces_contain_what_requests_can_contain() {
    for byte in 0..=u8::MAX {
        let is_method = Method::from_bytes(&[b'A', byte]).is_ok();
        assert_eq!(may_contain(&Piece::Method, byte), is_method, "method {byte:#04x}");
        let is_field = HeaderValue::from_bytes(&[b'a', byte, b'a']).is_ok();
        assert_eq!(may_contain(&Piece::Id, byte), is_field, "id {byte:#04x}");
        // A byte above ASCII is a part of a character.
        if byte.is_ascii() {
            let found = |target: &[u8]| {
                PathAndQuery::try_from(target).is_ok_and(|target| target.as_str().as_bytes().contains(&byte))
            };
            let is_path = found(&[b'/', byte]) || found(&[b'/', b'?', byte]);
            assert_eq!(may_contain(&Piece::Path, byte), is_path, "path {byte:#04x}");
        }
    }
    let target = |uri: &str| uri.parse::<Uri>().unwrap().path_and_query().unwrap().as_str().to_owned();
    assert_eq!(target("https://a?b"), "?b");
    assert_eq!(target("https://a"), "/");
}

/// Whether `piece` can contain `byte` after its first byte: whether a template that ends the piece with `byte` is ambiguous.
fn may_contain(piece: &Piece, byte: u8) -> bool {
    let end = Piece::Literal([byte].into());
    let order = match piece {
        // Before the body, a text that ends an id is forbidden in it.
        Piece::Id => [Piece::Body, end, Piece::Id],
        piece => [piece.clone(), end, Piece::Body],
    };
    collision::find(&order).is_some()
}

/// Fails unless the requests of `collision` differ, can occur, and have one message.
fn assert_collides(template: &str, collision: &collision::Collision) {
    let unchecked = MessageTemplate { pieces: pieces(template, Some(URL)).unwrap().into(), covers_url: false };
    let value = |name: &str, other: bool| -> &[u8] {
        let found = collision.0.iter().find(|pair| pair.name == name);
        found.map_or(b"", |pair| if other { &pair.other } else { &pair.one })
    };
    let parts = [false, true].map(|other| MessageParts {
        id: value("id", other),
        timestamp: [value("timestamp", other), value("timestamp:10", other)].concat().leak(),
        method: value("method", other),
        path: value("path", other),
        body: value("body", other),
    });
    assert_ne!(format!("{:?}", parts[0]), format!("{:?}", parts[1]), "{template}");
    assert_eq!(message(&unchecked, &parts[0]), message(&unchecked, &parts[1]), "{template}: {parts:?}");
    for parts in parts {
        assert!(!unchecked.has_early_end(&parts), "{template}: {parts:?}");
        assert!(HeaderValue::from_bytes(parts.id).is_ok() && parts.id.trim_ascii() == parts.id, "{parts:?}");
        assert!(parts.timestamp.len() <= 12 && parts.timestamp.iter().all(u8::is_ascii_digit), "{parts:?}");
        let has = |name: &str| collision.0.iter().any(|pair| pair.name == name);
        assert!(!has("method") || Method::from_bytes(parts.method).is_ok(), "{parts:?}");
        assert!(!has("path") || PathAndQuery::try_from(parts.path).is_ok(), "{parts:?}");
    }
}

/// Templates of every order of pieces, with separators that pieces may contain.
fn templates() -> impl Strategy<Value = String> {
    let variables = (prop::sample::select(vec!["{timestamp}", "{timestamp:10}"]), any::<bool>()).prop_flat_map(
        |(timestamp, url)| {
            let fifth = if url { "{url}" } else { "{path}" };
            Just(vec!["{body}", "{id}", timestamp, "{method}", fifth]).prop_shuffle()
        },
    );
    let separators =
        prop::collection::vec(prop::sample::select(vec!["", ".", "1", "/", "A", " ", "\n", "..", ".A.", "\n."]), 6);
    (variables, 1..=5usize, separators).prop_map(|(variables, count, separators)| {
        let mut variables = variables;
        // The body is always one of them.
        let body = variables.iter().position(|name| *name == "{body}").unwrap();
        variables.swap(body, body % count);
        let pieces = variables[..count].iter().zip(&separators).flat_map(|(name, separator)| [*separator, *name]);
        pieces.chain([separators[5]]).collect()
    })
}

/// Every text of at most `length` of these bytes, after `first`.
fn texts(first: &str, bytes: &str, length: usize) -> Vec<Vec<u8>> {
    let mut all = vec![first.as_bytes().to_vec()];
    let mut last = all.clone();
    for _ in 0..length {
        last = last.iter().flat_map(|text| bytes.bytes().map(move |byte| [text, &[byte][..]].concat())).collect();
        all.extend(last.clone());
    }
    all
}

/// Every small request that differs in a piece of `template`.
fn small_requests(template: &MessageTemplate) -> Vec<[Vec<u8>; 5]> {
    let if_present = |piece: &Piece, texts: Vec<Vec<u8>>| {
        if template.pieces.contains(piece) { texts } else { vec![Vec::new()] }
    };
    let domains = [
        if_present(&Piece::Id, texts("", ".1A", 2)),
        match if_present(&Piece::Timestamp, texts("1", "12", 1)) {
            none if none.len() == 1 => if_present(&Piece::FixedTimestamp, texts("111111111", "12", 1).split_off(1)),
            some => some,
        },
        if_present(&Piece::Method, texts("A", ".1A", 1)),
        if_present(&Piece::Path, texts("/", "./1", 2)),
        if_present(&Piece::Body, texts("", ".1/A\n ", 2)),
    ];
    let mut requests = vec![[const { Vec::new() }; 5]];
    for (index, texts) in domains.iter().enumerate() {
        let with = |request: &[Vec<u8>; 5], text: &Vec<u8>| {
            let mut request = request.clone();
            request[index].clone_from(text);
            request
        };
        requests = requests.iter().flat_map(|request| texts.iter().map(move |text| with(request, text))).collect();
    }
    requests
}

/// An id neither begins nor ends with white space, and has no byte that no field has, also where the text that ends it has one.
#[test]
fn ids_are_read_as_fields_can_hold_them() {
    for text in ["{method}..{id}.{timestamp} {body}", "{method}.{id}\n.{body}", "{timestamp} {id} .{body}"] {
        if MessageTemplate::parse(text, None).is_err() {
            assert_collides(text, &collision::find(&pieces(text, None).unwrap()).unwrap());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// A template is accepted if and only if it is injective: two small requests never share a message of an accepted one, and the
    /// two requests that the error of a refused one names do.
    #[test]
    fn accepted_templates_are_injective_and_refused_ones_are_not(text in templates()) {
        let Ok(template) = parse(&text) else {
            assert_collides(&text, &collision::find(&pieces(&text, Some(URL)).unwrap()).unwrap());
            return Ok(());
        };
        let mut seen: HashMap<Vec<u8>, [Vec<u8>; 5]> = HashMap::new();
        for request in small_requests(&template) {
            let [id, timestamp, method, path, body] = &request;
            let parts = MessageParts { id, timestamp, method, path, body };
            if template.has_early_end(&parts) {
                continue;
            }
            if let Some(other) = seen.insert(message(&template, &parts), request.clone()) {
                prop_assert!(false, "{text:?}: {request:?} and {other:?}");
            }
        }
    }

    /// An attacker who divides a signed message elsewhere gets no other request accepted.
    #[test]
    fn a_message_cannot_be_divided_elsewhere(
        id in "[!-~]{0,6}", timestamp in "[0-9]{1,12}", body in prop::collection::vec(any::<u8>(), 0..24),
        end in "[.:-]{1,3}", cut in any::<prop::sample::Index>(),
    ) {
        let template = parse(&format!("{{id}}{end}{{timestamp}}{end}{{body}}")).unwrap();
        let part = |id: &[u8], timestamp: &[u8], body: &[u8]| {
            let parts = MessageParts { id, timestamp, method: b"", path: b"", body };
            (!template.has_early_end(&parts)).then(|| message(&template, &parts))
        };
        let Some(signed) = part(id.as_bytes(), timestamp.as_bytes(), &body) else { return Ok(()) };
        let forged = &signed[..cut.index(signed.len())];
        let Some(rest) = signed.get(forged.len() + end.len()..) else { return Ok(()) };
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let Some(forged_body) = rest.get(digits + end.len()..) else { return Ok(()) };
        if forged != id.as_bytes() && digits > 0 {
            prop_assert_ne!(part(forged, &rest[..digits], forged_body), Some(signed.clone()));
        }
    }
}

#[test]
fn a_message_covers_what_it_holds() {
    let covered = |template: &str| parse(template).unwrap().covered().collect::<Vec<_>>();
    assert_eq!(covered("{url}{body}"), ["body", "url"]);
    assert_eq!(covered("{body}"), ["body"]);
    // A URL that stands nowhere is not covered.
    let unplaced = MessageTemplate::parse("{body}", Some(URL)).unwrap();
    assert_eq!(unplaced.covered().collect::<Vec<_>>(), ["body"]);
    assert_eq!(covered("{id}.{timestamp}.{body}"), ["id", "timestamp", "body"]);
    assert_eq!(covered("{timestamp:10}{body}"), ["timestamp", "body"]);
}
