//! The end of a server: running requests are finished, nothing new begins.

use sidenote_server::listener::{Drained, Listener};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::server::{Server, http};

#[tokio::test]
async fn a_running_request_is_finished_and_idle_connections_are_closed() {
    let server = Server::start("", None).await;
    let mut idle = server.connect().await;
    idle.send("GET /hello HTTP/1.1\r\n\r\n").await;
    idle.answer().await;
    let mut fresh = server.connect().await;
    // Connections are accepted in turn: when this one is served, those before it are.
    let mut busy = server.connect().await;
    busy.send("GET /wait HTTP/1.1\r\n\r\n").await;
    server.waiting.acquire().await.unwrap().forget();

    server.stop.cancel();
    assert_eq!(idle.rest().await, "");
    assert_eq!(fresh.rest().await, "");
    server.release.add_permits(1);
    let answer = busy.rest().await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\ndone"), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");

    let address = server.address;
    assert_eq!(server.ended().await, Drained { cut: 0 });
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_cut() {
    let server = Server::start("drain_timeout_ms = 50", None).await;
    let mut busy = server.connect().await;
    busy.send("GET /wait HTTP/1.1\r\n\r\n").await;
    server.waiting.acquire().await.unwrap().forget();
    server.stop.cancel();
    assert_eq!(busy.rest().await, "");
    assert_eq!(server.ended().await, Drained { cut: 1 });
}

#[tokio::test]
async fn half_a_head_does_not_hold_up_the_end_for_longer_than_its_time() {
    let server = Server::start("header_timeout_ms = 200", None).await;
    let mut slow = server.connect().await;
    slow.send("GET /hello HTTP/1.1\r\n").await;
    // Connections are accepted in turn, so the slow one is being served when this one has its answer.
    server.is_alive().await;
    server.stop.cancel();
    // Its end may be a reset, if the half was still unread.
    let _ = slow.0.read_to_end(&mut Vec::new()).await;
    drop(slow);
    assert_eq!(server.ended().await, Drained { cut: 0 });
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_with_its_address() {
    let server = Server::start("", None).await;
    let error = Listener::bind(server.address, &http(""), None).await.err().unwrap();
    assert_eq!(error.source.kind(), std::io::ErrorKind::AddrInUse);
    assert!(error.to_string().starts_with(&format!("cannot listen on {}: ", server.address)), "{error}");
}
