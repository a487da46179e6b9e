//! The same over TLS.

use std::sync::Arc;

use rcgen::CertifiedKey;
use rustls::ClientConfig;
use rustls::crypto::ring;
use sidenote_server::config;
use sidenote_server::listener::Tls;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::server::{Client, Server};

/// A server with a certificate of its own, and what a client needs to trust it.
async fn start(section: &str) -> (Server, TlsConnector) {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let files =
        config::Tls { certificate: folder.path().join("cert.pem"), key: folder.path().join("key.pem") };
    std::fs::write(&files.certificate, cert.pem()).unwrap();
    std::fs::write(&files.key, signing_key.serialize_pem()).unwrap();
    let tls = Tls::load(&files).unwrap();

    let mut trusted = rustls::RootCertStore::empty();
    trusted.add(cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(trusted)
        .with_no_client_auth();
    (Server::start(section, Some(tls)).await, TlsConnector::from(Arc::new(client)))
}

#[tokio::test]
async fn requests_are_answered_and_refused_over_tls_too() {
    let (server, connector) = start("").await;
    let connect = || async {
        let socket = TcpStream::connect(server.address).await.unwrap();
        Client(connector.connect("localhost".try_into().unwrap(), socket).await.unwrap())
    };
    let mut client = connect().await;
    for _ in 0..2 {
        client.send("GET /hello HTTP/1.1\r\n\r\n").await;
        assert!(client.answer().await.ends_with("\r\n\r\nhello"));
    }
    client.send("nonsense\r\n\r\n").await;
    assert!(client.rest().await.starts_with("HTTP/1.1 400 "));

    let mut client = connect().await;
    client.send(format!("GET /hello HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(50_000))).await;
    assert!(client.rest().await.starts_with("HTTP/1.1 431 "));
}

#[tokio::test]
async fn a_handshake_that_does_not_come_ends_the_connection() {
    let (server, connector) = start("header_timeout_ms = 300").await;
    assert_eq!(server.says_to("").await, "");

    // Plain HTTP is no handshake: an alert at most, and the end.
    let mut plain = server.connect().await;
    plain.send("GET /hello HTTP/1.1\r\n\r\n").await;
    let mut answer = Vec::new();
    // The end may be a reset, because the rest of the request is not read.
    let _ = plain.0.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");

    let socket = TcpStream::connect(server.address).await.unwrap();
    let mut client = Client(connector.connect("localhost".try_into().unwrap(), socket).await.unwrap());
    client.send("GET /hello HTTP/1.1\r\n\r\n").await;
    assert!(client.answer().await.ends_with("\r\n\r\nhello"));
}

#[tokio::test]
async fn a_handshake_does_not_hold_up_the_end() {
    let (server, connector) = start("").await;
    let mut silent = server.connect().await;
    // Connections are accepted in turn: when this one is served, the one before it is.
    let socket = TcpStream::connect(server.address).await.unwrap();
    let mut other = Client(connector.connect("localhost".try_into().unwrap(), socket).await.unwrap());
    other.send("GET /hello HTTP/1.1\r\n\r\n").await;
    other.answer().await;
    server.stop.cancel();
    assert_eq!(silent.rest().await, "");
    server.ended().await;
}
