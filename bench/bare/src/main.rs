//! `bare PORT`: the same HTTP and JSON as the product, and nothing else.
//!
//! It parses the bodies of the two extension commands into typed fields and answers envelopes of the same
//! shape and size, without state, signature, rules or disk. What it reaches on a machine is what HTTP and
//! JSON alone cost there, so the product's figures are given as a share of it (docs/performance.md).
//!
//! `POST /publish` tells its body to every WebSocket on `/broadcast`, for the same purpose (`broadcast.rs`).

mod broadcast;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::LazyLock;

/// Pairs in the answer to a pull; the benchmark gives as many to an ordinary message that it pulls.
const PULLED_PAIRS: usize = 20;
/// Pairs of a full page, which a message with more pairs is answered with.
const PAGE_PAIRS: usize = 200;
/// A value of 40 bytes, as the benchmark's own.
const VALUE: &str = "abcdefghijklmnopqrstuvwxyz0123456789abcd";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SetRequest<'a> {
    group_id: &'a str,
    msg_seq: u64,
    operate_type: u8,
    #[serde(borrow)]
    extension_list: Vec<Pair<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PullRequest<'a> {
    group_id: &'a str,
    msg_seq: u64,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Pair<'a> {
    key: &'a str,
    value: &'a str,
    seq: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SetAnswer<'a> {
    action_status: &'static str,
    error_info: &'static str,
    error_code: u32,
    seq: u64,
    extension_list: Vec<Verdict<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Verdict<'a> {
    error_code: u32,
    extension: Pair<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct PullAnswer<'a> {
    action_status: &'static str,
    error_info: &'static str,
    error_code: u32,
    complete_flag: u8,
    latest_seq: u64,
    clear_seq: u64,
    extension_list: Vec<Pair<'a>>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Some(port) = std::env::args().nth(1).and_then(|port| port.parse::<u16>().ok()) else {
        eprintln!("usage: bare PORT");
        return ExitCode::from(2);
    };
    match serve(port).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bare: cannot serve on 127.0.0.1:{port}: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(port: u16) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    // Without it a small answer may wait for the acknowledgement of the one before. A connection that is
    // gone already cannot be set, and does not need to be.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    let router = Router::new()
        .route("/set", post(async |body: Bytes| respond(answer_set(&body))))
        .route("/pull", post(async |body: Bytes| respond(answer_pull(&body, PULLED_PAIRS))))
        .route("/wide-pull", post(async |body: Bytes| respond(answer_pull(&body, PAGE_PAIRS))))
        .route("/publish", post(broadcast::publish))
        .route("/broadcast", get(broadcast::listen))
        .with_state(broadcast::News::none());
    axum::serve(listener, router).await
}

fn respond(answer: serde_json::Result<Vec<u8>>) -> Response {
    match answer {
        Ok(body) => {
            ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    }
}

fn answer_set(body: &[u8]) -> serde_json::Result<Vec<u8>> {
    let request: SetRequest<'_> = serde_json::from_slice(body)?;
    // Every field of the request takes part, so that none of the parsing can be optimised away.
    let seq = request.msg_seq + u64::from(request.operate_type) + request.group_id.len() as u64;
    let pairs = request.extension_list.into_iter();
    serde_json::to_vec(&SetAnswer {
        action_status: "OK",
        error_info: "",
        error_code: 0,
        seq,
        extension_list: pairs
            .map(|pair| Verdict { error_code: 0, extension: Pair { seq, ..pair } })
            .collect(),
    })
}

fn answer_pull(body: &[u8], pairs: usize) -> serde_json::Result<Vec<u8>> {
    static KEYS: LazyLock<Vec<String>> =
        LazyLock::new(|| (0..PAGE_PAIRS).map(|number| format!("attr{number:03}key")).collect());
    let request: PullRequest<'_> = serde_json::from_slice(body)?;
    let latest_seq = request.msg_seq + request.group_id.len() as u64;
    serde_json::to_vec(&PullAnswer {
        action_status: "OK",
        error_info: "",
        error_code: 0,
        complete_flag: u8::from(pairs < PAGE_PAIRS),
        latest_seq,
        clear_seq: 0,
        extension_list: KEYS
            .iter()
            .take(pairs)
            .map(|key| Pair { key, value: VALUE, seq: latest_seq })
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const PULL: &[u8] = br#"{"GroupId":"bench","MsgSeq":158}"#;

    #[test]
    fn a_set_is_answered_in_the_shape_of_the_product() {
        let body = br#"{"GroupId":"bench","MsgSeq":158,"OperateType":1,"ExtensionList":[{"Key":"attr007key","Value":"v","Seq":0}]}"#;
        let answer: Value = serde_json::from_slice(&answer_set(body).unwrap()).unwrap();
        let extension = json!({"Key": "attr007key", "Value": "v", "Seq": 164});
        assert_eq!(
            answer,
            json!({
                "ActionStatus": "OK", "ErrorInfo": "", "ErrorCode": 0, "Seq": 164,
                "ExtensionList": [{"ErrorCode": 0, "Extension": extension}],
            })
        );
    }

    #[test]
    fn a_pull_is_answered_with_twenty_pairs() {
        let answer: Value = serde_json::from_slice(&answer_pull(PULL, PULLED_PAIRS).unwrap()).unwrap();
        assert_eq!(
            (&answer["CompleteFlag"], &answer["LatestSeq"], &answer["ClearSeq"]),
            (&json!(1), &json!(163), &json!(0))
        );
        let pairs = answer["ExtensionList"].as_array().unwrap();
        assert_eq!(pairs.len(), 20);
        assert_eq!(pairs[7], json!({"Key": "attr007key", "Value": VALUE, "Seq": 163}));
    }

    #[test]
    fn a_message_with_more_pairs_is_answered_with_a_full_page() {
        let answer: Value = serde_json::from_slice(&answer_pull(PULL, PAGE_PAIRS).unwrap()).unwrap();
        assert_eq!(answer["ExtensionList"].as_array().unwrap().len(), 200);
        assert_eq!(answer["CompleteFlag"], 0);
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for body in [
            &b""[..],
            b"{}",
            b"[1",
            br#"{"GroupId":"bench","MsgSeq":"158"}"#,
            b"{\"GroupId\":\"\xff\",\"MsgSeq\":1}",
        ] {
            answer_set(body).unwrap_err();
            answer_pull(body, PULLED_PAIRS).unwrap_err();
        }
    }
}
