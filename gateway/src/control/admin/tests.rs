//! What the pages answer, to whom, and with which headers.

#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use http_body_util::BodyExt as _;
use hyper::{Method, Request};

use super::*;

/// Pages without a recorder of their own: another test of this process may have installed one.
struct TestPages {
    pages: AdminPages,
    health: Arc<Health>,
    questions: mpsc::Receiver<Question>,
}

impl TestPages {
    fn new(hosts: Hosts) -> Self {
        let health = Arc::<Health>::default();
        let exposition = Exposition::without_recorder();
        let (pages, questions) = AdminPages::new(hosts, exposition, Arc::clone(&health));
        Self { pages, health, questions }
    }

    async fn ask(&mut self, method: Method, uri: &str, hosts: &[&str]) -> (StatusCode, HeaderMap, String) {
        let mut request = Request::builder().method(method).uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let head = request.body(()).unwrap().into_parts().0;
        let question = async {
            if let Some(question) = self.questions.recv().await {
                let _ = question.send(Arc::new(page::tests::sample()));
            }
            std::future::pending::<Answer>().await
        };
        let answer = tokio::select! {
            answer = self.pages.answer(head) => answer,
            answer = question => answer,
        };
        let (head, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status, head.headers, String::from_utf8_lossy(&body).into_owned())
    }
}

fn run<F: Future<Output = ()>>(test: F) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

#[test]
fn each_path_answers_with_its_kind_and_nothing_may_be_stored_or_framed() {
    run(async {
        let mut side = TestPages::new(Hosts::Loopback);
        side.health.enter(Phase::Serving);
        for (path, status, kind, part) in [
            ("/status", 200, "text/html; charset=utf-8", "<h1>hookgate</h1>"),
            ("/status.json", 200, "application/json", "\"schema\":1"),
            ("/metrics", 200, "text/plain; version=0.0.4; charset=utf-8", "process_cpu_seconds_total"),
            ("/healthz", 200, "text/plain; charset=utf-8", "live"),
            ("/readyz", 200, "text/plain; charset=utf-8", "ready"),
            ("/", 307, "text/plain; charset=utf-8", "see /status"),
            ("/status/", 404, "text/plain; charset=utf-8", "here are /status"),
            ("/debug/pprof", 404, "text/plain; charset=utf-8", "here are /status"),
        ] {
            let (found, headers, body) = side.ask(Method::GET, path, &["127.0.0.1:9465"]).await;
            assert_eq!(found.as_u16(), status, "{path}: {body}");
            assert_eq!(headers["content-type"], kind, "{path}");
            assert!(body.contains(part), "{path}: {body}");
            assert_eq!(headers["cache-control"], "no-store", "{path}");
            assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
            assert_eq!(headers["x-frame-options"], "DENY", "{path}");
            let policy = headers["content-security-policy"].to_str().unwrap();
            assert!(policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
        }
        for path in PATHS {
            for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
                let (status, headers, _) = side.ask(method, path, &["localhost"]).await;
                assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
                assert_eq!(headers["allow"], "GET, HEAD", "{path}");
            }
        }
    });
}

#[test]
fn a_page_of_another_name_learns_nothing() {
    run(async {
        let mut side = TestPages::new(Hosts::Loopback);
        side.health.enter(Phase::Serving);
        let own: [&[&str]; 6] =
            [&["127.0.0.1"], &["127.0.0.1:9465"], &["127.9.9.9:1"], &["[::1]:9465"], &["LocalHost:9465"], &["[::1]"]];
        for hosts in own {
            assert_eq!(side.ask(Method::GET, "/readyz", hosts).await.0, StatusCode::OK, "{hosts:?}");
        }
        let foreign: [&[&str]; 14] = [
            &[],
            &[""],
            &["attacker.example"],
            &["127.0.0.1.attacker.example"],
            &["localhost.attacker.example"],
            &["attacker.example:9465"],
            &["localhost", "attacker.example"],
            &["192.0.2.1"],
            &["0.0.0.0"],
            &["::1"],
            &["[127.0.0.1]"],
            &["localhost:a"],
            &["user@localhost"],
            &["2130706433"],
        ];
        for hosts in foreign {
            for path in PATHS {
                let (status, _, body) = side.ask(Method::GET, path, hosts).await;
                assert_eq!(status, StatusCode::MISDIRECTED_REQUEST, "{hosts:?}");
                assert_eq!(body, "use a loopback address or localhost as the host\n", "{hosts:?}");
            }
        }
        let absolute = side.ask(Method::GET, "http://attacker.example/status", &["localhost"]).await;
        assert_eq!(absolute.0, StatusCode::MISDIRECTED_REQUEST);
        let mut socket = TestPages::new(Hosts::Any);
        socket.health.enter(Phase::Serving);
        assert_eq!(socket.ask(Method::GET, "/readyz", &["anything"]).await.0, StatusCode::OK, "of a Unix socket");
    });
}

#[test]
fn readiness_follows_the_phase_and_life_the_workers() {
    run(async {
        let mut side = TestPages::new(Hosts::Any);
        let check = async |side: &mut TestPages, path: &str, status: u16, text: &str| {
            let (found, _, body) = side.ask(Method::GET, path, &[]).await;
            assert_eq!((found.as_u16(), body.as_str()), (status, text), "{path}");
        };
        check(&mut side, "/readyz", 503, "starting\n").await;
        check(&mut side, "/healthz", 200, "live\n").await;
        check(&mut side, "/status", 503, "starting, or ending\n").await;
        side.health.enter(Phase::Serving);
        check(&mut side, "/readyz", 200, "ready\n").await;
        side.health.note_stalled(1);
        check(&mut side, "/healthz", 503, "a worker shows no life; the log says which\n").await;
        side.health.note_stalled(0);
        check(&mut side, "/healthz", 200, "live\n").await;
        side.health.enter(Phase::Draining);
        check(&mut side, "/readyz", 503, "draining\n").await;
        check(&mut side, "/healthz", 200, "live\n").await;
        side.questions.close();
        check(&mut side, "/status.json", 503, "starting, or ending\n").await;
    });
}

/// The form of `/status.json` is promised: docs/status.md names every field.
#[test]
fn the_page_names_every_field() {
    // An array or object that is empty in one element is full in another.
    fn collect(value: &serde_json::Value, path: &str, names: &mut std::collections::BTreeSet<String>) {
        match value {
            serde_json::Value::Object(map) => {
                for (key, value) in map {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    collect(value, &path, names);
                }
            }
            serde_json::Value::Array(items) => {
                items.iter().for_each(|item| collect(item, &format!("{path}[]"), names));
            }
            _ => {
                names.insert(path.to_owned());
            }
        }
    }
    let mut names = std::collections::BTreeSet::new();
    collect(&serde_json::to_value(page::tests::sample()).unwrap(), "", &mut names);
    let page = include_str!("../../../../docs/status.md");
    let documented: std::collections::BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .filter(|name| !name.starts_with('/'))
        .map(str::to_owned)
        .collect();
    assert_eq!(names, documented);
}
