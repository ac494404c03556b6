//! Tests of what each command asks for.

use super::*;

fn packages(task: Task, is_root: bool) -> Vec<&'static str> {
    needs(&[task], is_root).flat_map(|need| need.debian.iter().copied()).collect()
}

#[test]
fn the_demo_asks_for_what_it_builds_with_and_runs() {
    let for_all = ["gcc", "libc6-dev", "pkg-config", "libsystemd-dev", "openssl", "curl"];
    assert_eq!(packages(Demo, false), for_all);
    assert_eq!(packages(Demo, true), [&for_all[..], &["iproute2"]].concat());
}

#[test]
fn an_ordinary_user_is_asked_for_nothing_that_root_would_not_need() {
    for task in Task::value_variants() {
        let as_root = packages(*task, true);
        assert!(packages(*task, false).iter().all(|package| as_root.contains(package)), "{task:?}");
    }
}

#[test]
fn the_check_needs_nothing_that_is_for_root() {
    assert_eq!(packages(Check, true), packages(Check, false));
}

#[test]
fn changes_are_told_from_new_packages() {
    let simulation = "Reading package lists...\n\
                      Inst libcap2 [1:2.66-4] (1:2.66-5 Debian:12.15/oldstable [amd64])\n\
                      Inst libcap-dev (1:2.66-5 Debian:12.15/oldstable [amd64])\n\
                      Inst libpam [1.5.2-6] (1.5.2-7 Debian-Security:12 [amd64]) [libpam-modules:amd64 ]\n\
                      Remv old [1.0]\n\
                      Conf libcap2 (1:2.66-5 Debian:12.15/oldstable [amd64])\n";
    let expected = ["libcap2 from 1:2.66-4 to 1:2.66-5", "libpam from 1.5.2-6 to 1.5.2-7", "old 1.0 is removed"];
    assert_eq!(apt::changes(simulation), expected);
}

#[test]
fn versions_are_read_from_the_lists_of_binary_packages() {
    let lines = "libzstd-dev | 1.5.4+deb12u1 | http://security bookworm-security/main amd64 Packages\n\
                 libzstd-dev | 1.5.4 | http://deb bookworm/main amd64 Packages\n    \
                 libzstd | 1.5.4 | http://deb bookworm/main Sources\n";
    assert_eq!(apt::offered(lines), ["1.5.4+deb12u1", "1.5.4"]);
}

#[test]
fn a_version_of_openssl_tells_whether_it_has_the_hybrid_group() {
    for recent in ["OpenSSL 3.5.0 8 Apr 2025", "OpenSSL 3.10.1-dev", "OpenSSL 4.0.0 1 Apr 2026"] {
        assert!(has_hybrid(recent), "{recent}");
    }
    for older in ["OpenSSL 3.0.16 11 Feb 2025", "OpenSSL 1.1.1w", "LibreSSL", ""] {
        assert!(!has_hybrid(older), "{older}");
    }
}

#[test]
fn caddy_is_unpacked_whichever_openssl_is_installed() {
    assert_eq!(newest_clients(true), ["caddy"]);
    assert_eq!(newest_clients(false), ["openssl", "caddy"]);
}
