//! What is wrong below the API gets its status and a closed connection, and does no harm.

use std::sync::atomic::Ordering;

use tokio::io::AsyncWriteExt as _;

use crate::server::Server;

/// Times that a test can wait for, and that a busy machine still keeps to.
const SHORT: &str = "header_timeout_ms = 200\nbody_timeout_ms = 200\nidle_timeout_ms = 200";

/// The answer has this status, says that the connection closes, and nothing follows it.
fn assert_refused(answer: &str, status: u16) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{status} expected: {answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n") && answer.matches("HTTP/1.1").count() == 1, "{answer}");
}

#[tokio::test]
async fn requests_on_one_connection_are_answered_one_after_the_other() {
    let server = Server::start("", None).await;
    let mut client = server.connect().await;
    for _ in 0..3 {
        client.send("GET /hello HTTP/1.1\r\n\r\n").await;
        assert!(client.answer().await.ends_with("\r\n\r\nhello"));
        client.send("POST /echo HTTP/1.1\r\ncontent-length: 4\r\n\r\nbody").await;
        assert!(client.answer().await.ends_with("\r\n\r\nbody"));
    }
    // Two in one write, the second one cut in the middle.
    client.send("GET /hello HTTP/1.1\r\n\r\nGET /he").await;
    assert!(client.answer().await.ends_with("\r\n\r\nhello"));
    client.send("llo HTTP/1.1\r\n\r\n").await;
    assert!(client.answer().await.ends_with("\r\n\r\nhello"));
}

#[tokio::test]
async fn a_body_that_comes_in_pieces_is_put_together() {
    let server = Server::start("body_bytes = 1024", None).await;
    let mut client = server.connect().await;
    let chunked = "POST /echo HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
    for (pieces, whole) in [
        (&["0\r\n\r\n"][..], ""),
        (&["4\r\nbody\r\n0\r\n\r\n"], "body"),
        (&["1\r\na\r\n", "2\r\nbc\r\n", "3\r\ndef\r\na\r\n0123456789\r\n", "0\r\n\r\n"], "abcdef0123456789"),
    ] {
        client.send(chunked).await;
        for piece in pieces {
            client.send(piece).await;
        }
        let answer = client.answer().await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(answer.split_once("\r\n\r\n").unwrap().1, whole);
    }
    let (most, one_too_many) = ("x".repeat(1000), "y".repeat(25));
    client.send(format!("{chunked}3e8\r\n{most}\r\n19\r\n{one_too_many}\r\n0\r\n\r\n")).await;
    assert_refused(&client.rest().await, 413);
}

#[tokio::test]
async fn a_request_knows_where_it_comes_from() {
    let server = Server::start("", None).await;
    let mut client = server.connect().await;
    client.send("GET /peer HTTP/1.1\r\n\r\n").await;
    let answer = client.answer().await;
    assert!(answer.ends_with(&client.0.local_addr().unwrap().to_string()), "{answer}");
}

#[tokio::test]
async fn a_client_that_closes_its_half_gets_its_answer() {
    let server = Server::start("", None).await;
    let mut client = server.connect().await;
    client.send("POST /echo HTTP/1.1\r\ncontent-length: 4\r\n\r\nbody").await;
    client.0.shutdown().await.unwrap();
    assert!(client.rest().await.ends_with("\r\n\r\nbody"));
}

#[tokio::test]
async fn what_is_not_http_gets_400() {
    let server = Server::start("", None).await;
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS greeting\r\n\r\n"[..],
        b"hello\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /hello HTTP/3.7\r\n\r\n",
        b"GET /he llo HTTP/1.1\r\n\r\n",
        b"GET /hello HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /hello HTTP/1.1\r\nname\0: value\r\n\r\n",
        b"POST /echo HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST /echo HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        assert_refused(&server.says_to(garbage).await, 400);
    }
    server.is_alive().await;
}

#[tokio::test]
async fn half_a_head_and_an_end_gets_400() {
    let server = Server::start("", None).await;
    let mut client = server.connect().await;
    client.send("GET /hello HT").await;
    client.0.shutdown().await.unwrap();
    assert_refused(&client.rest().await, 400);
}

#[tokio::test]
async fn a_flood_of_headers_gets_431() {
    let server = Server::start("", None).await;
    let one_long = format!("GET /hello HTTP/1.1\r\nlong: {}\r\n\r\n", "x".repeat(40_000));
    let many = format!("GET /hello HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(101));
    let a_megabyte = format!("GET /hello HTTP/1.1\r\n{}", "name: value\r\n".repeat(80_000));
    let long_path = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(40_000));
    for flood in [one_long, many, a_megabyte, long_path] {
        assert_refused(&server.says_to(flood).await, 431);
    }
    assert_eq!(server.calls.load(Ordering::SeqCst), 0);
    server.is_alive().await;
}

#[tokio::test]
async fn half_a_head_and_silence_gets_408() {
    let server = Server::start(SHORT, None).await;
    assert_refused(&server.says_to("GET /hello HTTP/1.1\r\nhost: x\r\n").await, 408);

    // The same for the second request of a connection, whose answer to the first is not disturbed.
    let mut client = server.connect().await;
    client.send("GET /hello HTTP/1.1\r\n\r\n").await;
    assert!(client.answer().await.ends_with("\r\n\r\nhello"));
    client.send("G").await;
    assert_refused(&client.rest().await, 408);
}

#[tokio::test]
async fn silence_gets_a_closed_connection_without_a_word() {
    let server = Server::start(SHORT, None).await;
    assert_eq!(server.says_to("").await, "");

    let mut client = server.connect().await;
    client.send("GET /hello HTTP/1.1\r\n\r\n").await;
    client.answer().await;
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn half_a_body_gets_408_or_400() {
    let server = Server::start(SHORT, None).await;
    let half = "POST /echo HTTP/1.1\r\ncontent-length: 10\r\n\r\nhalf";
    assert_refused(&server.says_to(half).await, 408);

    let mut client = server.connect().await;
    client.send(half).await;
    client.0.shutdown().await.unwrap();
    assert_refused(&client.rest().await, 400);

    let chunked = "POST /echo HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
    assert_refused(&server.says_to(format!("{chunked}4\r\nhalf\r\n")).await, 408);
    assert_refused(&server.says_to(format!("{chunked}not a length\r\n")).await, 400);
    server.is_alive().await;
}

#[tokio::test]
async fn a_body_beyond_the_limit_gets_413() {
    let server = Server::start("body_bytes = 1024", None).await;
    let announced = "POST /echo HTTP/1.1\r\ncontent-length: 1025\r\n\r\n";
    assert_refused(&server.says_to(announced).await, 413);
    assert_refused(&server.says_to(format!("{announced}{}", "x".repeat(1025))).await, 413);

    // Not announced, and much more than the limit: the answer arrives although nobody reads the rest.
    let chunk = format!("400\r\n{}\r\n", "x".repeat(1024));
    let chunked = format!("POST /echo HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n{}", chunk.repeat(1000));
    assert_refused(&server.says_to(chunked).await, 413);

    let mut client = server.connect().await;
    client.send(format!("POST /echo HTTP/1.1\r\ncontent-length: 1024\r\n\r\n{}", "x".repeat(1024))).await;
    assert!(client.answer().await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_body_that_nobody_reads_is_no_head_of_the_next_request() {
    // The idle time is long and the header time short: a 408 would show that body bytes were taken for a head.
    let server = Server::start("header_timeout_ms = 200\nidle_timeout_ms = 400", None).await;
    let mut client = server.connect().await;
    client.send("POST /deaf HTTP/1.1\r\ncontent-length: 4\r\n\r\nbody").await;
    assert!(client.answer().await.ends_with("\r\n\r\nno"));
    client.send("GET /hello HTTP/1.1\r\n\r\n").await;
    assert!(client.answer().await.ends_with("\r\n\r\nhello"));
    client.send("POST /deaf HTTP/1.1\r\ncontent-length: 4\r\n\r\nbo").await;
    assert!(client.answer().await.ends_with("\r\n\r\nno"));
    client.send("dy").await;
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn an_answer_that_nobody_reads_holds_no_connection_for_ever() {
    let server = Server::start("idle_timeout_ms = 200\nmax_connections = 1", None).await;
    let mut deaf = server.connect().await;
    deaf.send("GET /large HTTP/1.1\r\n\r\n").await;
    // There is room for one: this is answered because the other was cut.
    server.is_alive().await;
}

#[tokio::test]
async fn beyond_the_limit_a_connection_waits_until_another_ends() {
    let server = Server::start("max_connections = 1", None).await;
    let mut first = server.connect().await;
    first.send("GET /hello HTTP/1.1\r\n\r\n").await;
    first.answer().await;

    let mut second = server.connect().await;
    second.send("GET /hello HTTP/1.1\r\n\r\n").await;
    for _ in 0..10 {
        first.send("GET /hello HTTP/1.1\r\n\r\n").await;
        first.answer().await;
    }
    assert_eq!((server.connections.open(), server.calls.load(Ordering::SeqCst)), (1, 11));

    drop(first);
    assert!(second.answer().await.ends_with("\r\n\r\nhello"));
}
