//! Makes the certificates, tokens and keys that the cases judge by, and the seeds of all corpora: `cargo xtask fuzz --seeds`.
//!
//! Seeds that are there stay, so inputs that a fuzzer found are kept. New certificates have new keys, so seeds that contain old ones are
//! of less use afterwards; commit both.
#![expect(clippy::unwrap_used, reason = "a maker of test data that fails has nothing else to do")]

use std::fs;
use std::path::{Path, PathBuf};

use hookgate_core::auth::testing::{ISSUER, NOW, dialogflow_claims, token};
use hookgate_ebpf::cases;
use hookgate_testkit::documents;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P384_SHA384,
    RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::json;

type Authority = Issuer<'static, KeyPair>;

fn main() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR"));
    let certificates = certificates(cases);
    let jwks = ISSUER.jwks();
    let tokens = tokens();
    fs::write(cases.join("keys.json"), format!("{jwks}\n")).unwrap();
    fs::write(cases.join("tokens.txt"), tokens.join("\n") + "\n").unwrap();

    let corpora = Corpora(cases.join("../corpus"));
    chains(&corpora, &certificates);
    corpora.add("token", tokens.iter().map(|token| format!("Bearer {token}").into_bytes()));
    corpora.add("token", [b"Bearer ya29.a0AfH6".to_vec(), b"Basic eDp5".to_vec(), b"Bearer a.b.c.d.e".to_vec()]);
    corpora.add("key_set", key_sets(&jwks));
    corpora.add("revocation_list", revocation_lists(cases));
    names(&corpora, &certificates);
    corpora.add("json", json_bodies());
    corpora.add("signature", signatures());
    corpora.add("fields", fields());
    corpora.add("head", heads());
    corpora.add("proxy_header", proxy_headers());
    corpora.add("packet", cases::all().into_iter().map(|case| case.frame));
    corpora.add("ranges", RANGES.map(Vec::from));
    files(&corpora, &certificates, &jwks);
    configurations(&corpora, &cases.join("../.."));
}

/// The committed list in both forms, cut, and what is none.
fn revocation_lists(cases: &Path) -> Vec<Vec<u8>> {
    let pem = fs::read(cases.join("list.pem")).unwrap();
    let der = CertificateRevocationListDer::from_pem_slice(&pem).unwrap().to_vec();
    let cut = der[..der.len() / 2].to_vec();
    vec![pem.repeat(2), pem, der, cut, b"<!doctype html>".to_vec()]
}

/// The directory of all corpora.
struct Corpora(PathBuf);

impl Corpora {
    /// Adds inputs under a name of their content, unless they are there.
    fn add(&self, target: &str, inputs: impl IntoIterator<Item = Vec<u8>>) {
        let directory = self.0.join(target);
        fs::create_dir_all(&directory).unwrap();
        for input in inputs {
            let digest = ring::digest::digest(&ring::digest::SHA256, &input);
            let name = data_encoding::HEXLOWER.encode(&digest.as_ref()[..8]);
            fs::write(directory.join(name), input).unwrap();
        }
    }
}

/// A subject with this common name.
fn subject(common: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common);
    params
}

fn authority(common: &str) -> CertificateParams {
    let mut params = subject(common);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn client(common: &str) -> CertificateParams {
    let mut params = subject(common);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

fn p384() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap()
}

fn root(common: &str, key: KeyPair) -> (Certificate, Authority) {
    let certificate = authority(common).self_signed(&key).unwrap();
    (certificate, Issuer::new(authority(common), key))
}

/// Writes `certificates.pem`, in the order that `src/policy.rs` names, `root.pem` and `list.pem`.
fn certificates(cases: &Path) -> Vec<Certificate> {
    let (first, by_first) = root("Root", key());
    let (second, by_second) = root("Root of P-384", p384());
    let (namesake, by_namesake) = root("Root", key());
    let issuing_key = key();
    let issuing = authority("Issuing").signed_by(&issuing_key, &by_first).unwrap();
    let cross_signed = authority("Issuing").signed_by(&issuing_key, &by_second).unwrap();
    let mut expired_issuing = authority("Issuing");
    expired_issuing.not_after = date_time_ymd(2020, 1, 1);
    let expired_issuing = expired_issuing.signed_by(&issuing_key, &by_first).unwrap();
    let no_authority = subject("Issuing").signed_by(&issuing_key, &by_first).unwrap();
    let by_issuing = Issuer::new(authority("Issuing"), issuing_key);
    let leaf = |params: CertificateParams, issuer: &Authority| params.signed_by(&key(), issuer).unwrap();
    let mut expired = client("sender");
    expired.not_after = date_time_ymd(2020, 1, 1);
    let mut for_servers = subject("sender");
    for_servers.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let alternative = |names: Vec<String>| {
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = client("sender").distinguished_name;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params
    };
    let mut revoked = client("sender");
    revoked.serial_number = Some(SerialNumber::from(4711));

    let mut made = vec![first, second, namesake, issuing, cross_signed, leaf(client("sender"), &by_issuing)];
    // 6 to 10: end entities that are wrong in one way, without a usage (lenient, so not good here by its name), and with names.
    made.push(leaf(expired, &by_issuing));
    made.push(leaf(client("another"), &by_issuing));
    made.push(leaf(for_servers, &by_issuing));
    made.push(leaf(client("stranger"), &by_issuing));
    made.push(leaf(alternative(vec!["a.sender.example".to_owned(), "*.sender.example".to_owned()]), &by_issuing));
    // 11 and 12: self-made roots with the names of the genuine ones; 13 to 22: certificates by them.
    let (impostor, by_impostor) = root("Root", key());
    let (impostor_p384, by_impostor_p384) = root("Root of P-384", p384());
    made.extend([impostor, impostor_p384]);
    made.extend((0..7).map(|_| authority("Root").signed_by(&key(), &by_impostor).unwrap()));
    made.extend((0..3).map(|_| authority("Root of P-384").signed_by(&p384(), &by_impostor_p384).unwrap()));
    // 23 to 26: end entities below the self-made ones, and issuers that are none.
    made.extend([leaf(client("sender"), &by_impostor), leaf(client("sender"), &by_impostor_p384)]);
    made.extend([expired_issuing, no_authority]);
    // 27 to 29: issuers that issue each other.
    let tangled = Issuer::new(authority("Issuing"), key());
    made.extend((0..3).map(|_| authority("Issuing").signed_by(&key(), &tangled).unwrap()));
    // 30 to 33: directly below the root; revoked; with many names; below the namesake.
    made.push(leaf(client("sender"), &by_first));
    made.push(leaf(revoked, &by_issuing));
    made.push(leaf(alternative((0..200).map(|number| format!("{number:x}.ab")).collect()), &tangled));
    made.push(leaf(client("sender"), &by_namesake));

    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2026, 1, 1),
        next_update: date_time_ymd(2040, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![RevokedCertParams {
            serial_number: SerialNumber::from(4711),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = list.signed_by(&by_issuing).unwrap();
    fs::write(cases.join("list.pem"), list.pem().unwrap()).unwrap();
    fs::write(cases.join("root.pem"), made[0].pem()).unwrap();
    fs::write(cases.join("certificates.pem"), made.iter().map(Certificate::pem).collect::<String>()).unwrap();
    made
}

fn chains(corpora: &Corpora, certificates: &[Certificate]) {
    let places: [&[u8]; 16] = [
        &[5, 3],
        &[5, 3, 4],
        &[6, 3],
        &[8, 3],
        &[9, 3],
        &[10, 3],
        &[30],
        &[31, 3],
        &[33, 2],
        &[23, 13, 14, 15, 16, 17, 18, 19],
        &[24, 20, 21, 22, 12],
        &[5, 25, 26, 3],
        &[32, 27, 28, 29, 27, 28, 29, 3],
        &[5, 4, 1, 25, 3],
        &[11],
        &[5, 3, 3, 3, 3, 3, 3, 3, 3],
    ];
    for policy in 0..3_u8 {
        corpora.add("chain", places.map(|places| [&[policy][..], places].concat()));
    }
    let raw = |place: usize| {
        let der = certificates[place].der();
        [&[64][..], &u16::try_from(der.len()).unwrap().to_be_bytes(), der].concat()
    };
    corpora.add("chain", [0_usize, 1, 2].map(|policy| [vec![u8::try_from(policy).unwrap()], raw(5), vec![3]].concat()));
    corpora.add("chain", [[vec![0, 5], raw(3)].concat(), [vec![2], raw(31), raw(3)].concat()]);
}

fn tokens() -> Vec<String> {
    let header = |algorithm: &str, kid: &str| json!({ "alg": algorithm, "kid": kid, "typ": "JWT" });
    let mut wrong = dialogflow_claims();
    wrong["aud"] = json!(["https://other.example/", "https://hooks.example/dialogflow"]);
    let mut expired = dialogflow_claims();
    expired["exp"] = json!(NOW - 3600);
    vec![
        ISSUER.token(&dialogflow_claims()),
        token(&header("ES256", "ec"), &dialogflow_claims(), |signed| ISSUER.es256(signed)),
        ISSUER.token(&wrong),
        ISSUER.token(&expired),
        ISSUER.token(&json!({ "iss": "https://accounts.google.com", "exp": 1e300 })),
        token(&header("RS256", "ec"), &dialogflow_claims(), |signed| ISSUER.rs256(signed)),
        token(&json!({ "alg": "RS256", "kid": "rsa", "crit": ["x"] }), &dialogflow_claims(), |signed| {
            ISSUER.rs256(signed)
        }),
    ]
}

fn key_sets(jwks: &str) -> Vec<Vec<u8>> {
    let key = |number: usize| json!({ "kty": "EC", "crv": "P-256", "kid": number.to_string(), "x": "AA", "y": "AA" });
    let many: Vec<_> = (0..65).map(key).collect();
    let other = json!({ "keys": [
        { "kty": "oct", "k": "AAAA" },
        { "kty": "RSA", "n": "AQAB", "e": "AQAB", "use": "enc" },
        ISSUER.rsa_jwk("one"),
        ISSUER.ec_jwk("two"),
    ] });
    vec![
        jwks.into(),
        json!({ "keys": many }).to_string().into(),
        other.to_string().into(),
        b"{\"keys\":[]}".to_vec(),
        b"[".to_vec(),
    ]
}

fn names(corpora: &Corpora, certificates: &[Certificate]) {
    let texts = [
        "/C=US/ST=California/L=San Francisco/O=Example, Inc./CN=sender",
        "CN=sender,O=Example\\, Inc.,C=US",
        "/CN=a+OU=b/2.5.4.3=\\/\\+\\\\",
        "CN=#0c0673656e646572+OU=\\23x,1.2.3=\\20y\\20",
        "sender",
        "*.sender.example",
        "a.sender.example",
        "https://sender.example/webhooks",
        "00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff:00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff",
        "CN=\\C3\\BCmlaut\\00,emailAddress=a@b",
    ];
    corpora.add("name", texts.map(|text| text.as_bytes().to_vec()));
    corpora.add("name", [5, 8, 10, 32].map(|place: usize| certificates[place].der().to_vec()));
}

fn json_bodies() -> Vec<Vec<u8>> {
    let bodies = [
        ("/sessionInfo/parameters/token", r#"{"sessionInfo":{"parameters":{"token":"hunter2"},"session":"s"}}"#),
        ("/a/*/b", r#"{"a":[{"b":"x"},{"b":"hunter2"},{"b":1},7]}"#),
        ("/*", r#"{"*":"hunter2"}"#),
        ("/a", r#"{"a":"hunter2","a":"x"}"#),
        ("/a/0", r#"{"a":["hunter2"]}"#),
        ("/~01~1", r#"{"~1/":"hunter\u0032"}"#),
        ("/a", "{\"a\":{\"a\":\"hunter2\"}} x"),
        ("/a/b", r#"{"a":[[[[[[{"b":null}]]]]]],"c":1e999}"#),
        ("/", r#"{"":"hunter2"}"#),
    ];
    bodies.map(|(pointer, body)| format!("{pointer}\n{body}").into_bytes()).to_vec()
}

fn signatures() -> Vec<Vec<u8>> {
    let templates = [
        "{body}",
        "v0:{timestamp}:{body}",
        "{timestamp}.{body}",
        "{id}.{timestamp}.{body}",
        "{method} {path}\n{body}",
        "{id}{body}",
        "{timestamp}{body}",
        "{timestamp:10}{body}",
        "{url}{body}",
        "{id}--{body}",
        "{body}{path}",
    ];
    let request = |id: &str, path: &str, body: &str| format!("{id}\x1f1900000000\x1f{path}\x1f{body}\x1fv1=00,v1=zz");
    let requests = [
        (request("msg_1", "/hook", "{}"), request("msg_2", "/hook?x=1", "{\"a\":1}")),
        (request("1.2", "/a", "3"), request("1", "/a", "2.3")),
        (request("1-", "/a", "2"), request("1", "/a", "-2")),
        (request("", "/", ""), request("\u{e9}", "/%2f", "\n")),
    ];
    let mut seeds = Vec::new();
    for (number, template) in templates.iter().enumerate() {
        for (one, other) in &requests {
            let selector = char::from(u8::try_from(number % 3).unwrap());
            seeds.push(format!("{selector}{template}\x1e{one}\x1e{other}").into_bytes());
        }
    }
    seeds
}

/// A field value, a protected header, and a body.
fn fields() -> Vec<Vec<u8>> {
    let values = [
        "v1 an open secret of 32 bytes, fine",
        "Basic c2VuZGVyOmFuIG9wZW4gc2VjcmV0IG9mIDMyIGJ5dGVzLCBmaW5l",
        "Basic c2VuZGVyOg==",
        "eyJhbGciOiJFZERTQSJ9..AAAA",
        "eyJhbGciOiJFZERTQSJ9.e30.AAAA",
    ];
    let headers = [
        r#"{"alg":"EdDSA"}"#,
        r#"{"alg":"EdDSA","kid":"k"}"#,
        r#"{"alg":"Ed25519","b64":false,"crit":["b64"]}"#,
        r#"{"alg":"EdDSA","b64":true,"crit":["b64"]}"#,
        r#"{"alg":"EdDSA","b64":false}"#,
        r#"{"alg":"EdDSA","crit":["exp"],"exp":1}"#,
        r#"{"alg":"none"}"#,
    ];
    let seeds = values.iter().flat_map(|value| headers.iter().map(move |header| (value, header)));
    seeds.map(|(value, header)| format!("{value}\x1e{header}\x1e{{\"n\":1}}").into_bytes()).collect()
}

fn proxy_headers() -> Vec<Vec<u8>> {
    let lines = [
        "PROXY TCP4 192.0.2.1 203.0.113.7 40000 443\r\n\u{16}\u{3}\u{1}",
        "PROXY TCP6 2001:db8::1 2001:db8::2 40000 443\r\n",
        "PROXY TCP6 ::ffff:192.0.2.1 ::1 1 0\r\n",
        "PROXY UNKNOWN\r\n",
        "PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n",
        "PROXY TCP4 192.0.2.1 203.0.113.7 40000 443\n",
        "PROXY TCP4 192.0.2.01 203.0.113.7 +1 65536\r\n",
        "POST /hook HTTP/1.1\r\n",
    ];
    let block = |command: u8, family: u8, rest: &[u8]| {
        let length = u8::try_from(rest.len()).unwrap();
        [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, family, 0, length], rest].concat()
    };
    let ipv4 = [192, 0, 2, 1, 203, 0, 113, 7, 0x9C, 0x40, 1, 0xBB];
    let mapped = [&[0; 10][..], &[0xFF, 0xFF, 192, 0, 2, 1], &[0; 15], &[1, 0x9C, 0x40, 1, 0xBB]].concat();
    let blocks = [
        block(0x21, 0x11, &ipv4),
        block(0x21, 0x11, &[&ipv4[..], &[3, 0, 4, 1, 2, 3, 4], b"\x02\0\x01a"].concat()),
        block(0x21, 0x21, &mapped),
        block(0x20, 0, &[]),
        block(0x21, 0, &ipv4),
        block(0x21, 0x31, &[7; 216]),
        block(0x21, 0x12, &ipv4),
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xFF\xFF".to_vec(),
    ];
    lines.into_iter().map(|line| line.as_bytes().to_vec()).chain(blocks).collect()
}

fn heads() -> Vec<Vec<u8>> {
    let targets = [
        "/hook",
        "/hook?x=1",
        "/team/a",
        "/team/%61dmin/x",
        "/team/./admin/x",
        "/team/x/..%2fadmin/",
        "/team/a;b=c/d",
        "//team//a",
        "/team\\admin",
        "/open/%252e%252e/",
        "https://hooks.example.com:8443/hook",
        "http://user@hooks.example.com/hook",
        "*",
        "/open/%c0%ae",
    ];
    let fields = [
        "Host: hooks.example.com\r\n",
        "Host: HOOKS.example.com.:443\r\nConnection: close, X-Mine, Host\r\nX-Mine: 1\r\n",
        "Host: [::1]:8443\r\nX_Hookgate_Provider: forged\r\nX.Forwarded.For: forged\r\nclient_cert: forged\r\n",
        "Host: hooks.example.com\r\nContent_Length: 7\r\nTransfer-Encoding: chunked\r\nX-Original-URL: /admin\r\n",
        "Host: hooks.example.com\r\nX-Tag: one\r\nX_Tag: two\r\nX-Tag: three\r\nProxy: http://evil.example\r\n",
    ];
    let mut heads = Vec::new();
    for (number, target) in targets.iter().enumerate() {
        let version = if number % 5 == 4 { "1.0" } else { "1.1" };
        heads.push(format!("POST {target} HTTP/{version}\r\n{}\r\n", fields[number % fields.len()]).into_bytes());
    }
    heads.extend(fields.map(|fields| format!("GET /team/a HTTP/1.1\r\n{fields}\r\n").into_bytes()));
    heads.push(b"POST /hook HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_vec());
    heads
}

const RANGES: [&str; 8] = [
    "192.0.2.0/24\n2001:db8::/32\n",
    "# ours\r\n\r\n 192.0.2.7 # one\r\n198.51.100.0/25\r\n198.51.100.128/25\r\n",
    "[\"44.242.69.192\", \"52.89.71.0/24\", \"::/0\"]",
    "{\"syncToken\": \"1\", \"prefixes\": [{\"ipv4Prefix\": \"8.8.4.0/24\"}, {\"ipv6Prefix\": \"2001:4860::/32\"}]}",
    "0.0.0.0/0\n255.255.255.255\n",
    "::ffff:192.0.2.0/120\n",
    "192.0.2.1/24\n",
    "<html>\x1b[31m",
];

fn files(corpora: &Corpora, certificates: &[Certificate], jwks: &str) {
    let role = |number: u8, content: &[u8]| [&[number], content].concat();
    let chain: String = [5, 3].map(|place: usize| certificates[place].pem()).concat();
    let list = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("list.pem")).unwrap();
    let inputs = [
        role(0, certificates[0].pem().as_bytes()),
        role(0, (certificates[1].pem() + &certificates[2].pem()).as_bytes()),
        role(0, b"-----BEGIN CERTIFICATE-----\nAAAA\n"),
        role(0, b"-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n"),
        role(1, chain.as_bytes()),
        role(2, b"-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n"),
        role(2, b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n"),
        role(3, &list),
        role(
            3,
            &rustls_pki_types::pem::PemObject::from_pem_slice(&list)
                .map(|der: CertificateRevocationListDer<'_>| der.to_vec())
                .unwrap(),
        ),
        role(4, jwks.as_bytes()),
        role(5, b"a secret\n"),
        role(5, b""),
    ];
    corpora.add("file", inputs);
}

/// The examples of the documentation, and the presets.
fn configurations(corpora: &Corpora, repository: &Path) {
    let page = fs::read_to_string(repository.join("docs/configuration.md")).unwrap();
    let blocks = page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap().as_bytes().to_vec());
    corpora.add("configuration", blocks);
    let mut whole = "reload = \"watch\"\n[listen]\naddresses = [\"127.0.0.1:0\", \"[::1]:8443\"]\n\
         [[certificate]]\nchain = \"fullchain.pem\"\nkey = \"privkey.pem\"\n"
        .to_owned();
    whole += "[[key_source]]\nname = \"issuer\"\nfile = \"keys.json\"\n";
    for document in documents::ALL {
        let proof = match document.provider {
            "pagerduty" => "[provider.proof]\nsignature = { secrets = [{ file = \"webhook.secret\" }] }\n",
            "percolate" => "",
            _ => {
                "[provider.proof]\ntoken = { key_source = \"issuer\", project_number = \"4711\", audiences = [\"a\"] }\n\
                 session_parameter = { name = \"token\", secrets = [{ file = \"webhook.secret\" }] }\n"
            }
        };
        let certificate = if proof.is_empty() { "proof = \"certificate\"\n" } else { "" };
        let (name, path) = (document.provider, document.path);
        whole += &format!("[[provider]]\nname = \"{name}\"\npreset = \"{name}\"\n{certificate}{proof}");
        whole +=
            &format!("[[route]]\npath = \"{path}\"\nproviders = [\"{name}\"]\nhandler = \"unix:/run/{name}.sock\"\n");
    }
    let own = "[[provider]]\nname = \"own\"\nsource_range_files = [\"ranges.txt\"]\non_failure = \"abort\"\n\
         [[provider.profile]]\nname = \"one\"\ntrust_anchors = [\"ca.pem\"]\ncrls = [\"list.pem\"]\nverify_depth = 3\n\
         identity = [{ subject_cn = \"sender\" }, { san_dns = \"*.sender.example\" }]\n\
         [provider.proof]\nany = [{ signature = { form = \"standard-webhooks\", secrets = [{ file = \"standard.secret\" }] } }]\n\
         [provider.replay]\nby_signature = true\nwindow_s = 600\n\
         [[route]]\nhost = \"hooks.example.com\"\npath = \"/own/*\"\nmethods = [\"POST\", \"PUT\"]\nproviders = [\"own\"]\n\
         handler = \"unix:/run/own.sock\"\n[limits]\nmax_connections = 100\n[filter]\nmode = \"monitor\"\ninterfaces = [\"eth0\"]\n\
         [metrics]\naddress = \"127.0.0.1:9464\"\n";
    corpora.add("configuration", [whole.clone().into_bytes(), format!("{whole}{own}").into_bytes()]);
}
