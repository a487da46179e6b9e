//! What is wrong below HTTP: a status and a closed connection.

use crate::world::{World, target};

const CHECK: &str = "im_open_login_svc/account_check";

#[tokio::test]
async fn a_body_over_the_cap_is_413_and_is_not_read() {
    let world = World::new().await;
    let target = target("administrator", CHECK);
    let announced = format!("POST {target} HTTP/1.1\r\nHost: t\r\nContent-Length: 1048577\r\n\r\n");
    assert_eq!(world.raw(announced.as_bytes()).await.status, 413);
    let at_the_cap = vec![b' '; 1_048_576];
    assert_eq!(world.request("POST", &target, "", &at_the_cap).await.code(), 60_003);
    let chunked = format!(
        "POST {target} HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n100001\r\n{}\r\n0\r\n\r\n",
        " ".repeat(1_048_577)
    );
    assert_eq!(world.raw(chunked.as_bytes()).await.status, 413);
    world.stop().await;
}

#[tokio::test]
async fn half_a_request_and_then_silence_is_408() {
    let world = World::with("[http]\nheader_timeout_ms = 500\nbody_timeout_ms = 500").await;
    let half_a_head = world.raw(b"POST /v4/im_open_login_svc/account_check HTTP/1.1\r\nHost: t\r\n").await;
    assert_eq!(half_a_head.status, 408);
    let target = target("administrator", CHECK);
    let half_a_body = format!("POST {target} HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\n{{\"Check");
    assert_eq!(world.raw(half_a_body.as_bytes()).await.status, 408);
    assert_eq!(world.call("administrator", CHECK, "{}").await.code(), 70_402, "the server lives");
    world.stop().await;
}

#[tokio::test]
async fn a_flood_of_headers_is_431_and_no_http_is_400() {
    let world = World::new().await;
    let flood = "X-Header: flood\r\n".repeat(5000);
    let flood = format!("POST /v4/{CHECK} HTTP/1.1\r\nHost: t\r\n{flood}\r\n");
    assert_eq!(world.raw(flood.as_bytes()).await.status, 431);
    assert_eq!(world.raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n").await.status, 400);
    assert_eq!(world.raw(b"POST\r\n\r\n").await.status, 400);
    world.stop().await;
}

#[tokio::test]
async fn several_requests_share_a_connection_also_after_a_refusal() {
    let world = World::new().await;
    let target = target("administrator", CHECK);
    let request = |connection: &str, body: &str| {
        let length = body.len();
        format!(
            "POST {target} HTTP/1.1\r\nHost: t\r\nConnection: {connection}\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    };
    let unsigned = "POST /v4/im_open_login_svc/account_check?sdkappid=1 HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\n{}";
    let all = [
        request("keep-alive", "not json"),
        unsigned.to_owned(),
        request("close", r#"{"CheckItem":[{"UserID":"a"}]}"#),
    ];
    let answer = world.raw(all.concat().as_bytes()).await;
    let text = format!("{}{}", answer.head, answer.body);
    for code in ["60003", "70020", "NotImported"] {
        assert!(text.contains(code), "{code} is not in {text}");
    }
    world.stop().await;
}
