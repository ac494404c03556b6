//! What the endpoint answers, and that no client keeps it from answering others.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed set-up fails the test")]

use std::sync::atomic::AtomicUsize;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

/// Pages that answer `GET` and `HEAD` of `/metrics` with a text that is made at most 100 times a second.
struct Text<R> {
    render: R,
    paced: Paced<Bytes>,
}

const INTERVAL: Duration = Duration::from_millis(10);

impl<R: Fn() -> String + Send + Sync + 'static> Pages for Text<R> {
    async fn answer(&self, request: Parts) -> Answer {
        if let Some(refused) = method_refused(&request.method) {
            return refused;
        }
        let text = self.paced.current(async || Bytes::from((self.render)())).await;
        answer(StatusCode::OK, "text/plain; charset=utf-8", text)
    }
}

/// More than any step takes on a busy machine.
const SOON: Duration = Duration::from_secs(10);

const GET: &str = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";

/// Runs `test` with the address of an endpoint that answers with what `render` returns.
fn run<F: Future<Output = ()>>(
    render: impl Fn() -> String + Send + Sync + 'static,
    test: impl FnOnce(SocketAddr) -> F,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = Bound::tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        let Bound::Tcp(bound) = &listener else { panic!("it is of TCP") };
        let address = bound.local_addr().unwrap();
        let endpoint = Endpoint::new(listener, "test", Text { render, paced: Paced::new(INTERVAL) });
        tokio::spawn(endpoint.serve());
        test(address).await;
    });
}

/// Everything that the endpoint sends in answer to `request`, until it closes.
async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    read_to_end(&mut stream).await
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut answer = String::new();
    timeout(SOON * 2, stream.read_to_string(&mut answer)).await.expect("the endpoint closes").unwrap();
    answer
}

/// Waits until the endpoint has closed `stream`.
async fn closed(stream: &mut TcpStream) -> bool {
    !matches!(stream.read(&mut [0; 1]).await, Ok(1..))
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

#[test]
fn only_get_and_head_are_answered() {
    run(
        || "hookgate_x 1\n".to_owned(),
        |address| async move {
            let check = async |line: &str, status: &str, text: &str| {
                let answer = exchange(address, &format!("{line}\r\nHost: x\r\n\r\n")).await;
                assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{line}: {answer}");
                assert!(answer.contains("connection: close\r\n"), "{line}: {answer}");
                assert_eq!(body(&answer), text, "{line}");
            };
            check("GET /metrics HTTP/1.1", "200 OK", "hookgate_x 1\n").await;
            check("HEAD /metrics HTTP/1.1", "200 OK", "").await;
            for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "MADEUP"] {
                let line = format!("{method} /metrics HTTP/1.1");
                check(&line, "405 Method Not Allowed", "use GET or HEAD\n").await;
            }
            assert!(exchange(address, &GET.replace("GET", "POST")).await.contains("allow: GET, HEAD\r\n"));
            assert!(exchange(address, &GET.replace("GET", "HEAD")).await.contains("content-length: 13\r\n"));
        },
    );
}

#[test]
fn a_client_that_sends_no_more_still_gets_its_answer() {
    run(
        || "hookgate_x 1\n".to_owned(),
        |address| async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(GET.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            assert_eq!(body(&read_to_end(&mut stream).await), "hookgate_x 1\n");
        },
    );
}

#[test]
fn a_head_beyond_the_bounds_is_refused() {
    run(String::new, |address| async move {
        let head = |field: String| GET.replace("Host: x", &format!("Host: x\r\n{field}"));
        let long = exchange(address, &head(format!("a: {}", "b".repeat(BUFFER_BYTES)))).await;
        assert!(long.starts_with("HTTP/1.1 431 "), "{long}");
        let many = exchange(address, &head(vec!["a: b"; FIELDS].join("\r\n"))).await;
        assert!(many.starts_with("HTTP/1.1 431 "), "{many}");
    });
}

#[test]
fn silent_clients_are_evicted_by_those_that_ask() {
    run(
        || "hookgate_x 1\n".to_owned(),
        |address| async move {
            let mut silent = Vec::new();
            for _ in 0..10 * CONNECTIONS {
                silent.push(TcpStream::connect(address).await.unwrap());
            }
            let began = Instant::now();
            for _ in 0..CONNECTIONS {
                assert_eq!(body(&exchange(address, GET).await), "hookgate_x 1\n");
            }
            assert!(began.elapsed() < HEAD_LIMIT, "waited for a time-out: {:?}", began.elapsed());
            let mut open = 0;
            for stream in &mut silent {
                open += usize::from(timeout(Duration::from_millis(10), closed(stream)).await.is_err());
            }
            assert!(open <= CONNECTIONS, "{open} silent connections are open");
        },
    );
}

/// Waits for both deadlines at once, so that the test takes as long as the longer one.
#[test]
fn slow_clients_are_cut_in_time() {
    // More than the buffers of both sockets hold.
    let text = "a".repeat(32 * 1024 * 1024);
    run(
        move || text.clone(),
        |address| async move {
            let began = Instant::now();
            let slow_head = async {
                let mut stream = TcpStream::connect(address).await.unwrap();
                let drip = async {
                    for byte in GET.bytes().cycle().filter(|byte| !byte.is_ascii_control()) {
                        if stream.write_all(&[byte]).await.is_err() {
                            break;
                        }
                        sleep(Duration::from_millis(100)).await;
                    }
                };
                timeout(HEAD_LIMIT + SOON, drip).await.expect("the head has a deadline");
                let elapsed = began.elapsed();
                assert!(elapsed >= HEAD_LIMIT && elapsed < CONNECTION_LIMIT, "{elapsed:?}");
            };
            let unread_answer = async {
                let mut streams = Vec::new();
                for _ in 0..CONNECTIONS - 1 {
                    let mut stream = TcpStream::connect(address).await.unwrap();
                    stream.write_all(GET.as_bytes()).await.unwrap();
                    streams.push(stream);
                }
                sleep(CONNECTION_LIMIT + Duration::from_secs(1)).await;
                for stream in &mut streams {
                    let mut answer = Vec::new();
                    // Either an end that is too early, or a reset.
                    let _ = timeout(SOON, stream.read_to_end(&mut answer)).await.expect("the answer has a deadline");
                    assert!(answer.len() < 32 * 1024 * 1024, "{} bytes", answer.len());
                }
            };
            tokio::join!(slow_head, unread_answer);
        },
    );
}

#[test]
fn a_flood_of_requests_shares_renderings_and_gets_none_that_is_old() {
    let rendered = Arc::new(AtomicUsize::new(0));
    let render = {
        let rendered = Arc::clone(&rendered);
        move || rendered.fetch_add(1, Ordering::Relaxed).to_string()
    };
    run(render, |address| async move {
        let began = Instant::now();
        let clients: Vec<_> = (0..8)
            .map(|_| {
                let rendered = Arc::clone(&rendered);
                tokio::spawn(async move {
                    for _ in 0..50 {
                        let before = rendered.load(Ordering::Relaxed);
                        let answer = exchange(address, GET).await;
                        let number: usize = body(&answer).parse().unwrap();
                        assert!(number >= before, "rendering {number} was there before the request");
                    }
                })
            })
            .collect();
        for client in clients {
            client.await.unwrap();
        }
        let most = began.elapsed().as_millis() / INTERVAL.as_millis() + 2;
        let rendered = rendered.load(Ordering::Relaxed);
        assert!(rendered as u128 <= most, "{rendered} renderings, {most} at most");
    });
}

#[test]
fn a_socket_that_was_left_over_is_replaced_and_one_in_use_is_not() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    runtime.block_on(async {
        drop(Bound::unix(&path).unwrap());
        assert!(path.exists(), "nothing removes it");
        let bound = Bound::unix(&path).unwrap();
        let error = Bound::unix(&path).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
        let pages = Text { render: || "hookgate_x 1\n".to_owned(), paced: Paced::new(INTERVAL) };
        tokio::spawn(Endpoint::new(bound, "test", pages).serve());
        let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
        stream.write_all(GET.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(SOON, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert_eq!(body(&answer), "hookgate_x 1\n");
        let file = directory.path().join("file");
        std::fs::write(&file, "precious").unwrap();
        assert_eq!(Bound::unix(&file).err().unwrap().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious", "a file that is no socket stays");
    });
}
