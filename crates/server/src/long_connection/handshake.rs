//! Which requests become a long connection, and what their URL asks for (long-connection.md section 2).

use axum::body::{Bytes, HttpBody};
use axum::http::header::{CONTENT_TYPE, SEC_WEBSOCKET_VERSION, UPGRADE};
use axum::http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use sidenote_core::ids::AppId;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;

use crate::web_socket::Kind;

/// What the URL of a long connection asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    /// The path says so: `/info` or `/binfo`.
    pub(super) kind: Kind,
    /// Whether large frames may be packed, which only binary ones can be.
    pub(super) packs: bool,
    /// The app, if the URL names one.
    pub(super) app: Option<AppId>,
}

impl Wish {
    /// `None` if the request does not want to become a long connection. Any prefix may stand before the last part of the
    /// path, because a client can be told one.
    pub(super) fn read<B>(request: &Request<B>) -> Option<Self> {
        let kind = match request.uri().path().rsplit('/').next()? {
            "info" => Kind::Text,
            "binfo" => Kind::Binary,
            _ => return None,
        };
        if request.method() != Method::GET || !request.headers().contains_key(UPGRADE) {
            return None;
        }
        let (mut app, mut packs) = (None, false);
        for (name, value) in form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()) {
            match &*name {
                "sdkappid" => app = value.parse().ok().map(AppId::new),
                "compress" => packs = kind == Kind::Binary && value == "gzip",
                _ => {}
            }
        }
        Some(Self { kind, packs, app })
    }
}

/// The answer 101, or 400 with a sentence that says what is wrong with the handshake.
#[expect(clippy::result_large_err, reason = "it is made once for a connection")]
pub(super) fn accept<B: HttpBody>(
    request: &Request<B>,
) -> Result<Response<Full<Bytes>>, Response<Full<Bytes>>> {
    if !request.body().is_end_stream() {
        return Err(refuse("a WebSocket handshake has no body"));
    }
    create_response_with_body(request, Full::default).map_err(|error| refuse(&error.to_string()))
}

fn refuse(why: &str) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::from(format!("{why}\n")));
    *answer.status_mut() = StatusCode::BAD_REQUEST;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    answer
}

#[cfg(test)]
mod tests {
    use axum::http::request::Builder;

    use super::*;

    fn handshake(url: &str) -> Builder {
        Request::builder()
            .uri(url)
            .header("connection", "keep-alive, Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
    }

    fn wish(url: &str) -> Option<(Kind, bool, Option<u32>)> {
        let wish = Wish::read(&handshake(url).body(()).unwrap())?;
        Some((wish.kind, wish.packs, wish.app.map(AppId::get)))
    }

    #[test]
    fn the_last_part_of_the_path_says_in_which_frames() {
        assert_eq!(wish("/info"), Some((Kind::Text, false, None)));
        assert_eq!(wish("/im/v1/binfo?sdkappid=7&compress=gzip"), Some((Kind::Binary, true, Some(7))));
        assert_eq!(wish("/v4/x/info?compress=gzip&sdkappid=x"), Some((Kind::Text, false, None)));
        assert_eq!(wish("/binfo?compress=br"), Some((Kind::Binary, false, None)));
        for url in ["/", "/info/", "/binfo/x", "/xinfo", "/INFO", "/healthz"] {
            assert_eq!(wish(url), None, "{url}");
        }
    }

    #[test]
    fn a_request_that_does_not_ask_for_it_stays_http() {
        let plain = Request::builder().uri("/info").body(()).unwrap();
        assert_eq!(Wish::read(&plain), None);
        let post = handshake("/info").method("POST").body(()).unwrap();
        assert_eq!(Wish::read(&post), None);
    }

    #[test]
    fn the_answer_is_that_of_the_rfc() {
        let answer = accept(&handshake("/info").body(Full::<Bytes>::default()).unwrap()).unwrap();
        assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(answer.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_broken_handshake_has_status_400() {
        let good = || handshake("/info").body(Full::<Bytes>::default()).unwrap();
        for header in ["connection", "upgrade", "sec-websocket-version", "sec-websocket-key"] {
            let mut request = good();
            request.headers_mut().remove(header);
            assert_eq!(accept(&request).unwrap_err().status(), StatusCode::BAD_REQUEST, "{header}");
        }
        let mut request = good();
        request.headers_mut().insert("sec-websocket-version", HeaderValue::from_static("8"));
        let refusal = accept(&request).unwrap_err();
        assert_eq!(refusal.headers()["sec-websocket-version"], "13");
        let with_body = handshake("/info").body(Full::new(Bytes::from("x"))).unwrap();
        assert_eq!(accept(&with_body).unwrap_err().status(), StatusCode::BAD_REQUEST);
    }
}
