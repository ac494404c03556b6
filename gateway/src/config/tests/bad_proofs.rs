//! Bad proofs, secrets, key sources and replay rules: the line, the key and the message of each error.

use super::bad::check;
use super::*;

/// A provider of these lines, from line 3, with a certificate that proves it.
fn provider(lines: &str) -> String {
    let identity = "trust_anchors = [\"ca.pem\"]\nidentity = [{ subject_cn = \"x\" }]";
    format!("[[provider]]\nname = \"pagerduty\"\n{lines}\n{identity}\n")
}

/// A provider of this preset and these lines, from line 4.
fn of_preset(preset: &str, lines: &str) -> String {
    format!("[[provider]]\nname = \"pagerduty\"\npreset = \"{preset}\"\n{lines}\n")
}

/// Expects one error about this `proof` of a provider, at `key` below `provider[0].proof`.
fn check_proof(proof: &str, key: &str, words: &str) {
    check(&provider(&format!("proof = {proof}")), 3, &format!("provider[0].proof{key}"), words);
}

const SECRETS: &str = "secrets = [{ file = \"webhook.secret\" }]";

#[test]
fn what_a_preset_demands_is_not_dropped_in_silence() {
    let check = |preset, words| check(&of_preset(preset, ""), 1, "provider[0].proof", words);
    check(
        "pagerduty",
        "the preset \"pagerduty\" demands a proof beside the certificate: write signature = { secrets = [{ file",
    );
    check("dialogflow-cx", "write token = { project_number = \"…\", audiences = [\"https://");
    check("dialogflow-es", ", or session_parameter = { name = \"webhook_token\", secrets = [{ file");
    check("dialogflow-cx", "; or write proof = \"certificate\" to demand none");
}

#[test]
fn the_missing_part_of_a_presets_proof_is_named() {
    let check = |preset, line: &str, key, words| check(&of_preset(preset, line), 4, key, words);
    check("pagerduty", "signature = {}", "provider[0].signature.secrets", "missing; write secrets = [{ file =");
    let audiences = "audiences = [\"https://hooks.example.com/agent\"]";
    check(
        "dialogflow-cx",
        &format!("token.{audiences}"),
        "provider[0].token.project_number",
        "missing; write project_number",
    );
    check("dialogflow-cx", "token.project_number = \"4711\"", "provider[0].token.audiences", "the URL of the webhook");
    let named = "session_parameter.name = \"x\"";
    check("dialogflow-es", named, "provider[0].session_parameter.secrets", "one of secrets, hmac_secrets and token");
    let unnamed = format!("session_parameter = {{ {SECRETS} }}");
    check("dialogflow-es", &unnamed, "provider[0].session_parameter.name", "missing; write name = \"webhook_token\"");
}

#[test]
fn parts_go_with_a_presets_proof_of_their_kind() {
    let signature = format!("signature = {{ {SECRETS} }}");
    let token = "token = { project_number = \"1\", audiences = [\"x\"] }";
    let key = "provider[0].signature";
    check(
        &of_preset("dialogflow-cx", &format!("{token}\n{signature}")),
        5,
        key,
        "no preset of this provider has such a proof",
    );
    check(&of_preset("percolate", &signature), 4, key, "no preset of this provider has such a proof");
    check(&provider(&signature), 3, key, "write it within proof = { … }");
    check(
        &of_preset("pagerduty", &format!("proof = \"certificate\"\n{signature}")),
        5,
        key,
        "proof replaces the preset's proof",
    );
    check(&of_preset("pagerdutty", &signature), 3, "provider[0].preset", "did you mean \"pagerduty\"?");
    let form = "signature = { tolerance_s = 5, secrets = [{ file = \"webhook.secret\" }] }";
    check(&of_preset("pagerduty", form), 4, "provider[0].signature.tolerance_s", "no effect with form = \"pagerduty\"");
}

#[test]
fn combinations_are_checked() {
    check_proof("\"none\"", "", "\"none\" is not a proof; write \"certificate\" for the certificate alone");
    check_proof("5", "", "expected a string or a table");
    check_proof("{}", "", "0 proofs in one table; write exactly one of token");
    check_proof("{ all = [] }", ".all", "empty; write proofs, such as");
    check_proof("{ any = [{}] }", ".any[0]", "0 proofs in one table");
    check_proof("{ any = [{ all = [] }] }", ".any[0].all", "empty; write proofs");
    check_proof("{ sig = {} }", ".sig", "did you mean \"signature\"?");
    let one = format!("{{ signature = {{ form = \"pagerduty\", {SECRETS} }} }}");
    let two = format!("{{ signature = {{ form = \"pagerduty\", {SECRETS} }}, any = [{one}] }}");
    check_proof(&two, "", "2 proofs in one table");
    check_proof(
        &format!("{{ all = [{{ any = [{{ all = [{one}] }}] }}] }}"),
        ".all[0].any[0]",
        "a group within a group",
    );
    let nine = [one.as_str(); 9].join(", ");
    check_proof(&format!("{{ any = [{nine}] }}"), "", "9 proofs; write at most 8");
}

#[test]
fn public_keys_are_checked() {
    let fixture = Fixture::new();
    let spki = data_encoding::BASE64.encode(&hookgate_core::auth::testing::ISSUER.ec_spki());
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{spki}\n-----END PUBLIC KEY-----\n");
    fixture.write("ec.pem", &pem);
    fixture.write("two.pem", &pem.repeat(2));
    fixture.write("ec.key", &spki);
    fixture.write("raw.key", &"0a".repeat(32));
    fixture.write("junk.key", "not a key");
    let errors = |fields: &str| {
        let text = provider(&format!("proof.signature = {{ {fields} }}"));
        let whole = [LISTEN, CERTIFICATE, ROUTE, &text].concat();
        fixture.parse(&whole).map(|_| ()).map_err(|errors| errors.to_string())
    };
    let key = |form: &str, file: &str, fields: &str| {
        format!("form = \"{form}\", header = \"x-a\", keys = [{{ file = \"{file}\" }}]{fields}")
    };
    let p256 = ", algorithm = \"ecdsa-p256-sha256\"";
    for (file, fields) in [
        ("ec.pem", p256),
        ("ec.key", p256),
        ("raw.key", ", algorithm = \"ed25519\""),
        ("ec.pem", ", algorithm = \"ecdsa-p256-sha256-fixed\", key_id_header = \"x-key\""),
    ] {
        assert_eq!(errors(&key("public-key", file, fields)), Ok(()), "{file}{fields}");
    }
    assert_eq!(errors(&key("detached-jws", "ec.pem", "")), Ok(()));
    for (fields, words) in [
        (key("public-key", "ec.pem", ""), "missing; write algorithm = \"ed25519\""),
        (key("public-key", "ec.pem", ", algorithm = \"ed25519\""), "no key in it is for the algorithm ed25519"),
        (key("public-key", "two.pem", p256), "2 keys or certificates in one file"),
        (key("public-key", "junk.key", p256), "is not a public key in DER"),
        (key("public-key", "absent.pem", p256), "absent.pem"),
        (key("public-key", "privkey.pem", p256), "PRIVATE KEY"),
        (key("public-key", "ec.pem", &format!("{p256}, hash = \"sha256\"")), "no effect with form = \"public-key\""),
        (key("public-key", "ec.pem", &format!("{p256}, {SECRETS}")), "no effect with form = \"public-key\""),
        (key("public-key", "ec.pem", &format!("{p256}, key_source = \"google\"")), "no effect with keys"),
        (key("public-key", "ec.pem", &format!("{p256}, message = \"{{timestamp:10}}{{body}}\"")), "go together"),
        (
            key(
                "public-key",
                "ec.pem",
                &format!("{p256}, timestamp_header = \"x-t\", message = \"{{timestamp}}{{body}}\""),
            ),
            "write {timestamp:10} if nothing stands after the timestamp",
        ),
        (key("detached-jws", "ec.pem", p256), "never has ECDSA signatures in DER"),
        (key("detached-jws", "ec.pem", ", message = \"{body}\""), "no effect with form = \"detached-jws\""),
        (key("detached-jws", "ec.pem", ", key_id_header = \"x-k\""), "no effect with form = \"detached-jws\""),
        ("form = \"detached-jws\", header = \"x-a\"".to_owned(), "missing; write keys = [{ file = \"sender.pem\" }]"),
        ("form = \"detached-jws\", header = \"x-a\", key_source = \"x\"".to_owned(), "there are google"),
        ("form = \"detached-jws\", keys = [{ file = \"ec.pem\" }]".to_owned(), "missing; write header"),
        ("form = \"detached-jws\", header = \"x-a\", keys = []".to_owned(), "keys"),
        ("form = \"detached-jws\", header = \"x-a\", keys = [{}]".to_owned(), "missing; write file"),
        (format!("form = \"hmac\", header = \"x-a\", {SECRETS}{p256}"), "no effect with form = \"hmac\""),
        (
            format!("form = \"hmac\", header = \"x-a\", {SECRETS}, url = \"https://a/\""),
            "{url} in message and url go together",
        ),
        (
            format!("form = \"hmac\", header = \"x-a\", {SECRETS}, message = \"{{url}}{{body}}\""),
            "{url} in message and url go together",
        ),
    ] {
        let error = errors(&fields).unwrap_err();
        assert!(error.contains(words), "{fields}: {error}");
    }
}

#[test]
fn static_credentials_are_checked() {
    let user = |name: &str| format!("{{ name = \"{name}\", {SECRETS} }}");
    check_proof(
        &format!("{{ secret = {{ {SECRETS} }} }}"),
        ".secret.header",
        "missing; write header = \"x-gitlab-token\"",
    );
    check_proof("{ secret = { header = \"x-a\" } }", ".secret.secrets", "missing; write secrets");
    check_proof(
        &format!("{{ secret = {{ header = \"x a\", {SECRETS} }} }}"),
        ".secret.header",
        "not a header field name",
    );
    check_proof("{ basic = {} }", ".basic.users", "missing; write users = [{ name");
    check_proof("{ basic = { users = [] } }", ".basic.users", "write users = [{ name");
    check_proof(
        &format!("{{ basic = {{ users = [{{ {SECRETS} }}] }} }}"),
        ".basic.users[0].name",
        "missing; write name",
    );
    check_proof("{ basic = { users = [{ name = \"a\" }] } }", ".basic.users[0].secrets", "missing; write secrets");
    check_proof(&format!("{{ basic = {{ users = [{}] }} }}", user("a:b")), ".basic.users[0]", "without a colon");
    let twice = format!("{{ basic = {{ users = [{}, {}] }} }}", user("a"), user("a"));
    check_proof(&twice, ".basic.users[1]", "is there twice");
}

#[test]
fn signatures_are_checked() {
    let check = |fields: &str, key: &str, words| {
        check_proof(&format!("{{ signature = {{ {fields} }} }}"), &format!(".signature{key}"), words);
    };
    let of = |form: &str, fields: &str| format!("form = \"{form}\", {SECRETS}{fields}");
    let standard = |fields: &str| {
        let secrets = "secrets = [{ unsafe_value = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\" }]";
        format!("form = \"standard-webhooks\", {secrets}{fields}")
    };
    let hmac = |fields: &str| of("hmac", &format!(", header = \"x-signature\"{fields}"));
    check(SECRETS, ".form", "missing; write form = \"pagerduty\", \"standard-webhooks\"");
    check(&of("github", ""), ".form", "\"pagerduty\", \"standard-webhooks\", \"hmac\"");
    check("form = \"pagerduty\"", ".secrets", "missing; write secrets = [{ file");
    check(&of("pagerduty", ", header = \"x\""), ".header", "no effect with form = \"pagerduty\"; remove it");
    check(&of("pagerduty", ", hash = \"sha512\""), ".hash", "no effect with form = \"pagerduty\"");
    check(&standard(", header = \"svix signature\""), ".header", "\"svix signature\" is not a header field name");
    check(&standard(", refusal_status = 402"), ".refusal_status", "answered with 401 or 403");
    check(&standard(", message = \"{body}\""), ".message", "no effect with form = \"standard-webhooks\"");
    check(&of("standard-webhooks", ""), ".secrets[0]", "the secret is not a Standard Webhooks key");
    check(&standard(", tolerance_s = 0"), ".tolerance_s", "from 1 to 86400 s");
    check(&of("hmac", ""), ".header", "missing; write header =");
    check(&of("hmac", ", header = \"a b\""), ".header", "\"a b\" is not a header field name");
    check(&hmac(", separator = \";;\""), ".separator", "not one ASCII character");
    check(&hmac(", separator = \"ä\""), ".separator", "not one ASCII character");
    check(&hmac(", encoding = \"binary\""), ".encoding", "\"hex\", \"base64\", \"base64url\"");
    check(&hmac(", hash = \"sha1\""), ".hash", "\"sha256\", \"sha384\", \"sha512\"");
    check(&hmac(", message = \"{timestamp}\""), ".message", "must have {body} exactly once");
    check(&hmac(", message = \"{nonce}.{body}\""), ".message", "has \"{nonce}\"; write {id}");
    check(&hmac(", message = \"{timestamp}.{body}\""), ".message", "{timestamp} in message and timestamp_header or");
    check(&hmac(", message = \"{id}.{body}\""), ".message", "{id} in message and id_header go together");
    let shifted = hmac(", message = \"{body}.{id}\", id_header = \"x-id\"");
    check(&shifted, ".message", "\"{body}.{id}\" gives one signed text to different requests: body");
    check(&shifted, ".message", "write {body} last, and after each other piece a text that it cannot contain");
    check(
        &hmac(&format!(", message = \"{}{{body}}\"", "x".repeat(256))),
        ".message",
        "has 262 bytes; write at most 256",
    );
    check(&hmac(", timestamp_header = \"x-time\""), "", "{timestamp} in message and timestamp_header or");
    check(&hmac(", tolerance_s = 5"), ".tolerance_s", "no effect without timestamp_header or timestamp_prefix");
    let both = ", message = \"{timestamp}.{body}\", timestamp_header = \"a\", timestamp_prefix = \"b\"";
    check(&hmac(both), ".timestamp_prefix", "no effect with timestamp_header");
}

#[test]
fn secrets_are_checked() {
    let check = |secrets: &str, key: &str, words| {
        let proof = format!("{{ signature = {{ form = \"pagerduty\", secrets = {secrets} }} }}");
        check_proof(&proof, &format!(".signature.secrets{key}"), words);
    };
    check("[]", "", "empty; write secrets = [{ file = \"webhook.secret\" }]");
    check("[{}]", "[0]", "write one of file = \"…\", credential = \"…\", unsafe_value = \"…\"");
    check("[{ file = \"webhook.secret\", credential = \"webhook\" }]", "[0]", "a secret comes from one place");
    check("[{ file = \"absent\" }]", "[0].file", "absent cannot be read: No such file");
    check("[{ credential = \"absent\" }]", "[0].credential", "credentials/absent cannot be read: No such file");
    check("[{ credential = \"../webhook.secret\" }]", "[0].credential", "which has no \"/\"");
    check("[{ unsafe_value = \"\" }]", "[0].unsafe_value", "unsafe_value: the secret is empty");
    let nine = ["{ file = \"webhook.secret\" }"; 9].join(", ");
    check(&format!("[{nine}]"), "", "9 entries; write at most 8");
}

#[test]
fn unfit_secret_files_are_told_apart() {
    let fixture = Fixture::new();
    for (content, words) in [
        (String::new(), "bad.secret: the secret is empty"),
        ("\n".to_owned(), "bad.secret: the secret is empty"),
        ("x".repeat(4097), "bad.secret: the secret has 4097 bytes, more than 4096; check that this is the right file"),
        ("x".repeat(8193), "bad.secret cannot be read: larger than 8192 bytes"),
    ] {
        fixture.write("bad.secret", &content);
        let lines = "proof.signature = { form = \"pagerduty\", secrets = [{ file = \"bad.secret\" }] }";
        let errors = fixture.errors(&[LISTEN, CERTIFICATE, ROUTE, &provider(lines)].concat());
        assert!(errors.len() == 1 && errors[0].contains(words), "{words}\n{errors:#?}");
    }
}

#[test]
fn credentials_need_a_service_manager() {
    let fixture = Fixture::new();
    let lines = "proof.signature = { form = \"pagerduty\", secrets = [{ credential = \"webhook\" }] }";
    let text = [LISTEN, CERTIFICATE, ROUTE, &provider(lines)].concat();
    fixture.good(&text);
    let errors = Config::parse(&text, &fixture.path("hookgate.toml"), NOW).unwrap_err().to_string();
    let words = "proof.signature.secrets[0].credential: $CREDENTIALS_DIRECTORY is not set, so there are no credentials; write \
                 LoadCredential=webhook:/path";
    assert!(errors.contains(words), "{errors}");
}

/// No message about a secret repeats it.
#[test]
fn no_message_repeats_a_secret() {
    let fixture = Fixture::new();
    let (text, array) = (format!("\"{SECRET}\""), format!("[\"{SECRET}\"]"));
    for (secrets, words) in [
        (text.clone(), "secrets: invalid type: string, expected an array"),
        (array.clone(), "secrets[0]: invalid type: string, expected a table; write { file = \"webhook.secret\" }"),
        (format!("[{{ unsafe_value = {array} }}]"), "invalid type: array, expected a string"),
        ("[{ unsafe_value = 4711 }]".to_owned(), "invalid type: integer, expected a string"),
        ("[{ unsafe_value = 47.11 }]".to_owned(), "invalid type: float, expected a string"),
        (format!("[{{ file = {text} }}, {{ unsafe_value = \"a, expected {SECRET}\" }}]"), "cannot be read"),
        (format!("[{{ unsafe_value = \"whsec_{SECRET}\" }}]"), "is not a Standard Webhooks key"),
        (format!("[{{ {SECRET} = \"\" }}]"), "secrets[0].(a key that is not shown): unknown key"),
        (format!("[{{ file = \"a\", {SECRET} = 1 }}]"), "(a key that is not shown)"),
        (format!("{{ {SECRET} = 1 }}"), "expected an array"),
    ] {
        let lines = format!("proof.signature = {{ form = \"standard-webhooks\", secrets = {secrets} }}");
        let Err(errors) = fixture.parse(&[LISTEN, CERTIFICATE, ROUTE, &provider(&lines)].concat()) else {
            panic!("taken for good: {lines}")
        };
        assert!(errors.to_string().contains(words), "{words}\n{errors}");
        // The name of a file is not a secret, even if the value of the secret is written there by mistake.
        let shown = format!("{errors} {errors:?}").replace(&fixture.path(SECRET).display().to_string(), "");
        assert!(!shown.contains(SECRET) && !shown.contains("4711"), "{shown}");
    }
}

#[test]
fn tokens_are_checked() {
    let check = |fields: &str, key: &str, words| {
        check_proof(&format!("{{ token = {{ {fields} }} }}"), &format!(".token{key}"), words);
    };
    let dialogflow = "form = \"dialogflow\", audiences = [\"https://a/\"]";
    check(dialogflow, ".project_number", "missing; write project_number = \"…\"");
    check(
        &format!("{dialogflow}, project_number = \"my-project\""),
        ".project_number",
        "is not a Google Cloud project number",
    );
    check("form = \"dialogflow\", project_number = \"1\"", ".audiences", "missing; write audiences =");
    check("form = \"dialogflow\", project_number = \"1\", audiences = []", ".audiences", "empty; write audiences =");
    let dialogflow = format!("{dialogflow}, project_number = \"1\"");
    check(&format!("{dialogflow}, emails = [\"a@b\"]"), ".emails", "no effect with form = \"dialogflow\"");
    check(&format!("{dialogflow}, leeway_s = 301"), ".leeway_s", "from 0 to 300 s");
    check(
        &format!("{dialogflow}, key_source = \"gogle\""),
        ".key_source",
        "did you mean \"google\"?); there are google",
    );
    check("form = \"jwt\", audiences = [\"a\"]", ".form", "\"dialogflow\" or \"oidc\"");
    let with = |more: &str| format!("issuers = [\"https://i/\"], audiences = [\"a\"], key_source = \"google\"{more}");
    check(&with(""), "", "neither emails nor subjects is given");
    check(
        &with(", project_number = \"1\", subjects = [\"s\"]"),
        ".project_number",
        "no effect without form = \"dialogflow\"",
    );
    check(&with(", subjects = []"), ".subjects", "empty; write one or more values");
    check(&with(", subjects = [\"ä\"]"), ".subjects", "write printable ASCII characters");
    check(&with(", subjects = [\"s\"], unsafe_any_subject = true"), ".unsafe_any_subject", "with emails or subjects");
    check(
        "issuers = [\"i\"], audiences = [\"a\"], subjects = [\"s\"]",
        ".key_source",
        "missing; write key_source = \"google\"",
    );
    check("audiences = [\"a\"], subjects = [\"s\"], key_source = \"google\"", ".issuers", "missing; write issuers =");
    let many = vec!["\"a\""; 65].join(",");
    check(&with(&format!(", subjects = [{many}]")), ".subjects", "65 entries; write at most 64");
}

#[test]
fn session_parameters_are_checked() {
    let check = |fields: &str, key: &str, words| {
        let key = format!(".session_parameter{key}");
        check_proof(&format!("{{ session_parameter = {{ {fields} }} }}"), &key, words);
    };
    let at = |more: &str| format!("pointer = \"/a/b\", {more}");
    check(SECRETS, ".pointer", "missing; write pointer = \"/sessionInfo");
    check(&format!("pointer = \"a\", {SECRETS}"), ".pointer", "begin it with \"/\"");
    check(&format!("pointer = \"/a~2\", {SECRETS}"), ".pointer", "write \"~\" as \"~0\"");
    check(&format!("pointer = \"/{{name}}\", {SECRETS}"), ".name", "missing; write name = \"webhook_token\"");
    check(&format!("pointer = \"/{{name}}\", name = \"\", {SECRETS}"), ".name", "empty; write name");
    check(&at(&format!("name = \"x\", {SECRETS}")), ".name", "no effect without {name} in pointer");
    check("pointer = \"/a\"", ".secrets", "a session parameter has exactly one of secrets, hmac_secrets and token");
    check(&at(&format!("{SECRETS}, hmac_{SECRETS}")), ".secrets", "write one of them");
    check(&at(&format!("hmac_{SECRETS}")), ".session_pointer", "missing; write session_pointer");
    check(&at(&format!("session_pointer = \"/s\", {SECRETS}")), ".session_pointer", "no effect with secrets");
    check(&at(&format!("encoding = \"hex\", {SECRETS}")), ".encoding", "no effect without hmac_secrets");
    check(&at("hmac_secrets = [], session_pointer = \"/s\""), ".hmac_secrets", "empty; write");
    let token = "token = { issuers = [\"i\"], audiences = [\"a\"], key_source = \"google\"";
    check(&at(&format!("{token} }}")), ".token", "neither emails nor subjects is given");
    let bound = format!("session_pointer = \"/s\", {token}, unsafe_any_subject = true }}");
    check(
        &at(&bound),
        ".token.unsafe_any_subject",
        "no effect with session_pointer, which is the place of the subject",
    );
}

#[test]
fn replay_is_checked() {
    let check = |replay: &str, key: &str, words| {
        check(&provider(&format!("replay = {replay}")), 3, &format!("provider[0].replay{key}"), words);
    };
    check("\"off\"", "", "\"off\" is not a replay rule; write \"none\"");
    check("{}", ".id_header", "missing; write id_header = \"x-webhook-id\", id_pointer");
    check("{ id_header = \"a b\" }", ".id_header", "is not a header field name");
    check("{ id_pointer = \"id\" }", ".id_pointer", "begin it with \"/\"");
    check("{ by_signature = true }", "", "so every request must be signed");
    check("{ id_header = \"a\", window_s = 604801 }", ".window_s", "from 1 to 604800 s");
    check("{ id_header = \"a\", duplicate_status = 500 }", ".duplicate_status", "from 200 to 409");
    check("{ id_header = \"a\", duplicate_status = 302 }", ".duplicate_status", "302 is not a status for a duplicate");
}

#[test]
fn a_delivery_is_not_forgotten_while_its_timestamp_is_good() {
    let signature = "{ form = \"standard-webhooks\", secrets = [{ file = \"standard\" }], tolerance_s = 400 }";
    let lines = format!("proof.signature = {signature}\nreplay = {{ by_signature = true, window_s = 799 }}");
    let fixture = Fixture::new();
    fixture.write("standard", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n");
    let errors = fixture.errors(&[LISTEN, CERTIFICATE, ROUTE, &provider(&lines)].concat());
    let words = "13: provider[0].replay: window_s = 799 is less than twice the tolerance_s";
    assert!(errors.len() == 1 && errors[0].starts_with(words), "{errors:#?}");
}

#[test]
fn proofs_of_routes_are_checked() {
    let route = |line: &str| format!("{ROUTE}{line}\n");
    let proof = "proof.signature.form = \"pagerduty\"";
    check(&route(proof), 5, "route[0].proof.signature.secrets", "missing; write secrets");
    check(&route("replay.id_header = \"x\""), 5, "route[0].replay", "a route has replay only together with proof");
    check(&route("proof = \"nothing\""), 5, "route[0].proof", "\"nothing\" is not a proof");
    check(&route("signature = {}"), 5, "route[0].signature", "unknown key");
}

#[test]
fn key_sources_are_checked() {
    let check = |lines: &str, line, key: &str, words| {
        check(&format!("[[key_source]]\n{lines}\n"), line, &format!("key_source[0].{key}"), words);
    };
    let url = |more: &str| format!("name = \"a\"\nurl = \"https://issuer.example/keys\"\n{more}");
    let file = |more: &str| format!("name = \"a\"\nfile = \"keys.json\"\n{more}");
    check("file = \"keys.json\"", 1, "name", "missing; write name = \"issuer\"");
    check("name = \"a b\"\nfile = \"keys.json\"", 2, "name", "\"a b\" is not a valid name");
    check("name = \"a\"", 1, "url", "missing; write url = \"https://issuer.example/keys\", or file");
    check("name = \"a\"\nurl = \"http://issuer.example\"", 3, "url", "is not an https URL");
    check("name = \"a\"\nurl = \"issuer\"", 3, "url", "is not a URL; write an absolute one");
    check(&url("file = \"keys.json\""), 4, "file", "a key source has url or file, not both; write one of them");
    check(&url("ca_file = \"absent.pem\""), 4, "ca_file", "absent.pem cannot be read");
    check(
        &url("ca_file = \"privkey.pem\""),
        4,
        "ca_file",
        "section 1 (line 1) is a PRIVATE KEY, which is not used here",
    );
    check(&url("timeout_ms = 60001"), 4, "timeout_ms", "from 1 to 60000 ms");
    check(&url("max_bytes = 1023"), 4, "max_bytes", "from 1024 to 1048576 bytes");
    check(&url("max_stale_s = 604801"), 4, "max_stale_s", "from 0 to 604800 s");
    check("name = \"a\"\nfile = \"absent\"", 3, "file", "absent cannot be read");
    check("name = \"a\"\nfile = \"ca.pem\"", 3, "file", "not a JSON Web Key Set");
    check(&file("timeout_ms = 5"), 4, "timeout_ms", "hookgate does not fetch keys from a file");
    check(&file("ca_file = \"ca.pem\""), 4, "ca_file", "hookgate does not fetch keys from a file");
    let again = format!("{}[[key_source]]\n{}", file(""), file(""));
    bad::check(&format!("[[key_source]]\n{again}"), 5, "key_source[1].name", "the key source \"a\" is already in line");
}

/// A source with an error, or without a name, is not an error of each token that names it.
#[test]
fn tokens_may_name_a_source_that_is_at_fault() {
    let fixture = Fixture::new();
    let proof = |source: &str| {
        let token = format!("issuers = [\"i\"], audiences = [\"a\"], subjects = [\"s\"], key_source = \"{source}\"");
        [LISTEN, CERTIFICATE, ROUTE, &provider(&format!("proof.token = {{ {token} }}"))].concat()
    };
    for (source, expected) in [
        ("name = \"a\"\nurl = \"http://issuer.example\"", "key_source[0].url"),
        ("name = \"b c\"\nfile = \"keys.json\"", "key_source[0].name"),
    ] {
        let errors = fixture.errors(&format!("{}[[key_source]]\n{source}\n", proof("a")));
        assert!(errors.len() == 1 && errors[0].contains(expected), "{errors:#?}");
    }
}

/// Cuts a configuration with all kinds of proofs at every byte. The parser must accept or refuse the rest, and never panic.
#[test]
fn no_cut_proof_makes_us_panic() {
    let fixture = Fixture::new();
    let token = "issuers = [\"https://i/\"], audiences = [\"a\"], key_source = \"k\"";
    let signature = format!(
        "{{ signature = {{ form = \"hmac\", header = \"x\", message = \"{{id}}:{{body}}\", id_header = \"i\", {SECRETS} }} }}"
    );
    let session = format!(
        "{{ session_parameter = {{ pointer = \"/a/*/b\", session_pointer = \"/s\", token = {{ {token} }} }} }}"
    );
    let lines = format!(
        "proof = {{ all = [{signature}, {{ any = [{session}, {{ token = {{ {token}, subjects = [\"s\"] }} }}] }}] }}\nreplay = {{ by_signature = true }}"
    );
    let source = "[[key_source]]\nname = \"k\"\nfile = \"keys.json\"\n";
    let text = [LISTEN, CERTIFICATE, ROUTE, source, &provider(&lines)].concat();
    fixture.good(&text);
    let refused = (0..text.len()).filter(|end| fixture.parse(&text[..*end]).is_err()).count();
    assert!(refused > text.len() / 2, "{refused} of {}", text.len());
}
