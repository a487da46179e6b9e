//! Alive, ready, figures, and HEAD.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn;
use axum::routing::post;
use sidenote_server::listener::Listener;
use sidenote_server::ops::health::{self, Check, Health};
use sidenote_server::ops::metrics::{Metrics, Statistics};
use sidenote_server::ops::routes;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::server::{Client, http};

#[tokio::test]
async fn probes_and_scrapes_are_answered_and_head_is_answered_everywhere() {
    let broken = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&broken);
    let writable: Check = Box::new(move || {
        let reason = "the store takes no writes:\nsync failed";
        if seen.load(Ordering::SeqCst) { Err(reason.to_owned()) } else { Ok(()) }
    });
    let metrics = Arc::new(Metrics::new(|| Statistics { connections: 1, ..Statistics::default() }));
    let router = Router::new()
        .route("/v4/group_open_http_svc/group_set_key_values", post(|| std::future::ready("set")))
        .merge(routes(Health::new(vec![Box::new(|| Ok(())), writable]), Arc::clone(&metrics)))
        .layer(from_fn(health::answer_head));
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), &http(""), None).await.unwrap();
    let address = listener.local_addr();
    let stop = CancellationToken::new();
    let client = async {
        let mut client = Client(TcpStream::connect(address).await.unwrap());
        let mut get = async |path: &str| {
            client.send(format!("GET {path} HTTP/1.1\r\n\r\n")).await;
            client.answer().await
        };
        let answer = get("/healthz").await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nalive\n"), "{answer}");
        let answer = get("/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nready\n"), "{answer}");

        broken.store(true, Ordering::SeqCst);
        let answer = get("/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.ends_with("\r\n\r\nthe store takes no writes: sync failed\n"), "{answer}");
        assert!(get("/healthz").await.starts_with("HTTP/1.1 200 "));

        metrics.request("account_import", 70_402, Duration::from_millis(1));
        let answer = get("/metrics").await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("openmetrics-text"), "{answer}");
        assert!(
            answer.contains("sidenote_requests_total{command=\"account_import\",code=\"70402\"} 1\n"),
            "{answer}"
        );
        assert!(answer.contains("\nsidenote_connections 1\n") && answer.ends_with("# EOF\n"), "{answer}");

        for path in ["/", "/readyz", "/v4/group_open_http_svc/group_set_key_values", "/no/such/path"] {
            let mut client = Client(TcpStream::connect(address).await.unwrap());
            client.send(format!("HEAD {path} HTTP/1.1\r\nconnection: close\r\n\r\n")).await;
            let answer = client.rest().await;
            assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n"), "{answer}");
        }
        stop.cancel();
    };
    tokio::join!(client, listener.serve(router, stop.clone()));
}
