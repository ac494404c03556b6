//! The check on small source trees in memory: what it must accept, and every violation that it must find.

use super::*;

/// Rooms of a crate in `gateway/src`, and the rules for names.
fn document(rooms: &[(&str, &str, usize)], names: &[(&str, &str)]) -> String {
    let mut text = "# Architecture\n\n<!-- rooms: gateway/src -->\n| room | may name | lines | owns |\n| --- | --- | --- | --- |\n".to_owned();
    for (name, allowed, size) in rooms {
        text += &format!("| `{name}` | {allowed} | {size} | Something. |\n");
    }
    text += "<!-- end -->\n";
    if names.is_empty() {
        return text;
    }
    text += "\n<!-- names -->\n| name | where | why |\n| --- | --- | --- |\n";
    for (name, places) in names {
        text += &format!("| `{name}` | {places} | A reason. |\n");
    }
    text + "<!-- end -->\n"
}

/// `low` may name nothing, `high` may name `low`, and `lib.rs` both.
fn layered() -> String {
    document(
        &[("lib", "`high`, `low`", 3), ("high", "`low`", 3), ("low", "–", 3)],
        &[("aya", "only in `gateway/src/low.rs`")],
    )
}

fn files(files: &[(&str, &str)]) -> Vec<File> {
    let basis = [
        ("gateway/Cargo.toml", "[package]\nname = \"hookgate\"\n"),
        ("gateway/src/lib.rs", "mod high;\nmod low;\n"),
        ("gateway/src/high.rs", "//! High.\n"),
        ("gateway/src/low.rs", "//! Low.\n"),
    ];
    let is_replaced = |path: &str| files.iter().any(|(replaced, _)| *replaced == path);
    let all = basis.iter().filter(|(path, _)| !is_replaced(path)).chain(files);
    all.map(|(path, text)| File { path: (*path).to_owned(), text: (*text).to_owned() }).collect()
}

fn problems(document: &str, given: &[(&str, &str)]) -> Vec<String> {
    judge_all(&files(given), document, false).expect("the files are Rust").problems
}

/// Fails unless exactly one problem is found, and it has all of `expected`.
fn check(document: &str, given: &[(&str, &str)], expected: &[&str]) {
    let problems = problems(document, given);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert!(expected.iter().all(|text| problems[0].contains(text)), "{expected:?} is not in {}", problems[0]);
}

const LOW: &str = "gateway/src/low.rs";
const HIGH: &str = "gateway/src/high.rs";

#[test]
fn an_allowed_reference_passes() {
    let high = "use crate::low::Thing;\nfn f() { crate::low::f(); super::low::g(); self::h(); }\n";
    assert_eq!(problems(&layered(), &[(HIGH, high)]), Vec::<String>::new());
}

#[test]
fn a_forbidden_reference_fails_with_its_place() {
    let place = ["gateway/src/low.rs:2, crate::high", "`low` must not name `high`"];
    for text in [
        "//! Low.\nuse crate::high::Thing;\n",
        "//! Low.\nuse crate::{high::Thing, low};\n",
        "//! Low.\nuse crate::{low, high::{self, Thing as _}};\n",
        "//! Low.\nuse super::high::*;\n",
        "//! Low.\nfn f() -> crate::high::Thing { todo!() }\n",
        "//! Low.\nfn f() { let f: fn() = <super::high::Thing>::new; }\n",
        "//! Low.\nmacro_rules! high { () => { $crate::high::f() } }\n",
        "//! Low.\nmod inner { use super::super::high::Thing; }\n",
        "//! Low.\nmod inner { mod more { pub(super) use super::super::super::high::f; } }\n",
        "//! Low.\nfn f() { self::super::high::f() }\n",
    ] {
        let found = problems(&layered(), &[(LOW, text)]);
        assert!(
            !found.is_empty() && found.iter().all(|found| place.iter().all(|text| found.contains(text))),
            "{text}: {found:#?}"
        );
    }
}

#[test]
fn a_reference_by_an_imported_or_declared_name_counts() {
    let rooms = [("lib", "`high`", 3), ("high", "–", 3), ("high::inner", "–", 3), ("low", "`high`", 3)];
    let inner = ("gateway/src/high/inner.rs", "//! Inner.\n");
    let names_inner = ["`low` must not name `high::inner`", "low.rs:2, crate::high::inner::f"];
    check(&document(&rooms, &[]), &[(LOW, "use crate::high;\nfn f() { high::inner::f() }\n"), inner], &names_inner);
    check(&document(&rooms, &[]), &[(LOW, "use crate::high as up;\nfn f() { up::inner::f() }\n"), inner], &names_inner);
    check(
        &document(&rooms, &[]),
        &[(HIGH, "mod inner;\npub use inner::f;\n"), inner],
        &["`high` must not name `high::inner`", "high.rs:2"],
    );
}

#[test]
fn a_binary_names_the_library_beside_it() {
    let rooms = [("lib", "`high`, `low`", 3), ("high", "`low`", 3), ("low", "–", 3), ("main", "`high`", 3)];
    let main = "use hookgate::high;\nfn main() { hookgate::low::f() }\n";
    check(
        &document(&rooms, &[]),
        &[("gateway/src/main.rs", main)],
        &["main.rs:2, crate::low::f: `main` must not name `low`"],
    );
}

#[test]
fn comments_strings_and_visibilities_name_nothing() {
    let low = "//! See [`crate::high::Thing`].\n/// As `crate::high::f`.\n// crate::high\n/* crate::high::f() */\n\
               pub(in crate::high) const TEXT: &str = \"crate::high::f\";\nfn f() -> &'static str { r#\"super::high\"# }\n";
    assert_eq!(problems(&layered(), &[(LOW, low)]), Vec::<String>::new());
}

#[test]
fn test_code_names_what_it_likes() {
    let named = "use crate::high::Thing;";
    for low in [
        format!("#[cfg(test)]\nmod tests {{ {named} }}\n"),
        format!("#[cfg(test)]\n#[expect(lint)]\nmod checks {{ fn f() {{ {named} }} }}\n"),
        format!("#[cfg(all(test, feature = \"x\"))]\n{named}\n"),
        "#[cfg(test)]\nconst THING: A = A { b: crate::high::f() };\n".to_owned(),
        "struct A {\n    #[cfg(test)]\n    b: crate::high::Thing,\n    c: u8,\n}\n".to_owned(),
        "#[test]\nfn f() { crate::high::f() }\n".to_owned(),
        format!("#![cfg(test)]\n{named}\n"),
    ] {
        assert_eq!(problems(&layered(), &[(LOW, &low)]), Vec::<String>::new(), "{low}");
        let after = format!("{low}{named}\n");
        let expected = usize::from(!low.starts_with("#![cfg"));
        assert_eq!(problems(&layered(), &[(LOW, &after)]).len(), expected, "{after}");
    }
    for path in ["gateway/src/low/tests.rs", "gateway/src/low/testing.rs", "gateway/src/low/tests/more.rs"] {
        assert_eq!(problems(&layered(), &[(path, named)]), Vec::<String>::new(), "{path}");
    }
    let low = "#[cfg(test)]\npub(crate) mod fixture;\n";
    let fixture = [("gateway/src/low/fixture.rs", named), ("gateway/src/low/fixture/more.rs", named)];
    assert_eq!(problems(&layered(), &[(LOW, low), fixture[0], fixture[1]]), Vec::<String>::new());
    assert_eq!(problems(&layered(), &[(LOW, "mod fixture;\n"), fixture[0], fixture[1]]).len(), 2);
}

#[test]
fn a_circle_in_the_table_fails() {
    let rooms = [("lib", "–", 3), ("high", "`low`", 3), ("low", "`middle`", 3), ("middle", "`high`", 3)];
    let middle = ("gateway/src/middle.rs", "//! Middle.\n");
    check(&document(&rooms, &[]), &[middle], &["ARCHITECTURE.md:7", "in a circle: high → low → middle → high"]);
}

#[test]
fn a_table_that_contradicts_itself_or_the_source_fails() {
    let rooms = [("lib", "–", 3), ("high", "`lwo`", 3), ("low", "–", 3)];
    check(&document(&rooms, &[]), &[], &["ARCHITECTURE.md:7: `high` may name `lwo`, which has no row"]);
    let rooms = [("lib", "–", 3), ("high", "–", 3), ("low", "–", 3), ("gone", "–", 3)];
    check(&document(&rooms, &[]), &[], &["ARCHITECTURE.md:9: `gone` has no file"]);
    let rooms = [("lib", "–", 3), ("high", "–", 3), ("low", "–", 3), ("low", "–", 3)];
    check(&document(&rooms, &[]), &[], &["ARCHITECTURE.md:9: `low` has a row already, line 8"]);
    let rooms = [("lib", "–", 3), ("high", "everything", 3), ("low", "–", 3)];
    assert!(problems(&document(&rooms, &[]), &[])[0].contains("ARCHITECTURE.md:7: a row must be"));
    assert!(problems("<!-- rooms: gateway/src -->\n<!-- end -->\n", &[])[0].contains("ARCHITECTURE.md:1: no row"));
}

#[test]
fn a_file_without_a_room_fails() {
    let rooms = [("high", "–", 3), ("low", "–", 3)];
    let middle = ("gateway/src/middle.rs", "//! Middle.\n");
    check(&document(&rooms, &[]), &[middle], &["gateway/src/middle.rs: belongs to no room"]);
}

#[test]
fn the_root_needs_no_row_and_is_named_by_no_room_without_one() {
    let rooms = [("high", "", 3), ("low", "", 3)];
    let main = ("gateway/src/main.rs", "use hookgate::{high, low};\n");
    let root = ("gateway/src/lib.rs", "mod high;\nmod low;\npub use high::Thing;\nuse low::f;\n");
    assert_eq!(problems(&document(&rooms, &[]), &[main, root]), Vec::<String>::new());
    check(
        &document(&rooms, &[]),
        &[root, (LOW, "use crate::Thing;\n")],
        &["low.rs:1, crate::Thing: `low` must not name `lib`"],
    );
    let rooms = [("high", "", 3), ("low", "`lib`", 3), ("lib", "`high`", 3)];
    let named = ["lib.rs:4, crate::low::f: `lib` must not name `low`"];
    check(&document(&rooms, &[]), &[root, (LOW, "use crate::Thing;\n")], &named);
}

#[test]
fn a_size_that_is_far_off_fails_and_the_right_one_is_told() {
    let rooms = |size| [("lib", "–", 3), ("high", "–", 3), ("low", "–", size)];
    let low = format!("{}#[cfg(test)]\nmod tests {{\n    fn f() {{}}\n}}\n", "// a line\n".repeat(100));
    for (size, expected) in [(40, 0), (39, 1), (160, 0), (161, 1), (100, 0)] {
        let found = problems(&document(&rooms(size), &[]), &[(LOW, &low)]);
        assert_eq!(found.len(), expected, "{size}: {found:?}");
        assert!(found.iter().all(|found| {
            found.contains(&format!("`low` has 100 lines without tests, the row says {size}: write 100"))
        }));
    }
    let long = "// a line\n".repeat(1000);
    assert_eq!(problems(&document(&rooms(800), &[]), &[(LOW, &long)]), Vec::<String>::new());
}

#[test]
fn the_rooms_of_a_module_have_a_table_of_their_own() {
    let inner = "<!-- rooms: gateway/src/low -->\n| | | | |\n| --- | --- | --- | --- |\n| `low` | `error`, `file` | 3 | It. |\n\
                 | `file` | `error` | 3 | It. |\n| `error` | – | 3 | It. |\n<!-- end -->\n";
    let document = layered() + inner;
    let error = |text| ("gateway/src/low/error.rs", text);
    let file = ("gateway/src/low/file.rs", "use super::error::Error;\nuse crate::low::error;\n");
    let low = (LOW, "mod error;\nmod file;\nuse file::File;\n");
    assert_eq!(problems(&document, &[low, file, error("")]), Vec::<String>::new());
    check(
        &document,
        &[low, file, error("use super::file::File;\n")],
        &["low/error.rs:1, crate::low::file::File: `error` must not name `file`"],
    );
    check(
        &document,
        &[low, file, error("use super::Thing;\n")],
        &["low/error.rs:1, crate::low::Thing: `error` must not name `low`"],
    );
    // What lies outside of the module is for the other table.
    check(
        &document,
        &[low, file, error("use crate::high::Thing;\n")],
        &["low/error.rs:1, crate::high::Thing: `low` must not name `high`"],
    );
}

#[test]
fn a_name_stands_only_where_its_row_says() {
    let rooms = [("lib", "–", 3), ("high", "–", 3), ("low", "–", 3)];
    let only = |name| document(&rooms, &[(name, "only in `gateway/src/low.rs`")]);
    for (name, high) in [
        ("aya", "use aya::Ebpf;\n"),
        ("aya", "fn f() { aya::include_bytes_aligned!(\"x\"); }\n"),
        ("rustls::crypto::ring", "use rustls::crypto::{aws_lc_rs, ring};\n"),
        ("rustls::crypto::ring", "use rustls::crypto;\nuse crypto::ring::X;\n"),
        ("std::time::Instant::now", "use std::time::{Duration, Instant};\nfn f() { Instant::now(); }\n"),
        ("std::time::Instant::now", "fn f() { ::std::time::Instant::now(); }\n"),
        ("unsafe", "fn f() { unsafe { g() } }\n"),
    ] {
        check(&only(name), &[(HIGH, high)], &["gateway/src/high.rs:", "only gateway/src/low.rs may name"]);
        assert_eq!(problems(&only(name), &[(LOW, high)]), Vec::<String>::new(), "{high}");
    }
    let harmless = "use rustls::crypto::ring_like;\n#![forbid(unsafe_code)]\n// unsafe\nfn f() { g(\"aya::Ebpf\"); }\n";
    for name in ["aya", "rustls::crypto::ring", "unsafe"] {
        assert_eq!(problems(&only(name), &[(HIGH, harmless)]), Vec::<String>::new(), "{name}");
    }
    let nowhere = document(&rooms, &[("std::time::Instant::now", "not in `gateway/src/low.rs`")]);
    let clock = "use std::time::Instant;\nfn f() { Instant::now(); }\n";
    check(&nowhere, &[(LOW, clock)], &["low.rs:2, std::time::Instant::now: nothing in gateway/src/low.rs may name"]);
    assert_eq!(problems(&nowhere, &[(HIGH, clock)]), Vec::<String>::new());
    let gone = document(&rooms, &[("aya", "only in `gateway/filter/src`")]);
    check(&gone, &[], &["there is no gateway/filter/src"]);
}

#[test]
fn a_crate_does_not_depend_on_what_it_must_not_know() {
    let core = |dependencies: &str| {
        let manifest = format!("[package]\nname = \"core\"\n{dependencies}");
        problems(
            "",
            &[
                ("gateway/core/Cargo.toml", &manifest),
                ("Cargo.toml", "[workspace.dependencies]\nhyper = { features = [\"http1\"] }\n"),
            ],
        )
    };
    for allowed in [
        "[dependencies]\nring = \"1\"\n",
        "[dependencies]\nhyper = { version = \"1\", default-features = false }\n",
        "[dependencies]\nhyper = { workspace = true }\n",
        "[dev-dependencies]\ntokio = \"1\"\n",
    ] {
        assert_eq!(core(allowed), Vec::<String>::new(), "{allowed}");
    }
    for (forbidden, problem) in [
        ("[dependencies]\ntokio = \"1\"\n", "gateway/core must not depend on tokio"),
        ("[dependencies]\nruntime = { package = \"tokio\" }\n", "gateway/core must not depend on tokio"),
        ("[target.'cfg(unix)'.dependencies]\nrustix = \"1\"\n", "gateway/core must not depend on rustix"),
        ("[build-dependencies]\naya = \"1\"\n", "gateway/core must not depend on aya"),
        ("[dependencies]\nhyper = { features = [\"http1\", \"server\"] }\n", "must not use hyper's server"),
    ] {
        let found = core(forbidden);
        assert!(found.len() == 1 && found[0].contains(problem), "{forbidden}: {found:?}");
    }
}

#[test]
fn what_is_required_must_be_there() {
    let tolerant = judge_all(&files(&[]), "# Architecture\n", false).expect("the files are Rust");
    assert_eq!(tolerant.problems, Vec::<String>::new());
    assert!(tolerant.summary.contains("nothing was checked"), "{}", tolerant.summary);
    let strict = judge_all(&files(&[]), "# Architecture\n", true).expect("the files are Rust");
    for problem in ["<!-- rooms: gateway/src -->", "<!-- names -->", "there is no gateway/core/Cargo.toml"] {
        assert!(strict.problems.iter().any(|found| found.contains(problem)), "{problem}: {:?}", strict.problems);
    }
}
