//! The stream over a WebSocket: each event is a message of text, the object that Server-Sent Events have as data.
//!
//! The reader has nothing to say but the signs of life that every client gives by itself; what it says is dropped. What
//! it does not take waits in what its source holds, which is bounded, and one that takes nothing, or gives no sign of
//! life, is closed.

use axum::body::{Body, HttpBody};
use axum::http::header::UPGRADE;
use axum::http::{HeaderMap, Request, Response};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_util::sync::CancellationToken;

use super::source::{Source, Step, Why, start_over};
use super::{Pace, event};
use crate::api::Fault;
use crate::listener::{Handover, Takeover};
use crate::live::Form;
use crate::web_socket::{Closing, Kind, Limits, Socket};
use crate::wire::error_code::ErrorCode;

/// Longest message of a reader, in bytes. None has anything to say.
const MESSAGE_BYTES: usize = 4 * 1024;

/// The answer 101 to a request that asks for a WebSocket, or what is wrong with its handshake; `None` for all others.
pub(super) fn handshake<B: HttpBody>(request: &Request<B>) -> Option<Result<Response<Body>, Fault>> {
    if !asks_for_web_socket(request.headers()) {
        return None;
    }
    let refuse = |why: String| Fault::Code(ErrorCode::BadQuery, why);
    if !request.body().is_end_stream() {
        return Some(Err(refuse("a WebSocket handshake has no body".to_owned())));
    }
    Some(create_response_with_body(request, Body::empty).map_err(|error| refuse(error.to_string())))
}

/// Clients may offer other protocols, such as `h2c`, which are not taken up.
fn asks_for_web_socket(headers: &HeaderMap) -> bool {
    let offers = headers.get_all(UPGRADE).iter().filter_map(|value| value.to_str().ok());
    offers.flat_map(|value| value.split(',')).any(|offer| offer.trim().eq_ignore_ascii_case("websocket"))
}

/// Lets the stream go on over the socket once the answer has left.
pub(super) fn answer(mut answer: Response<Body>, source: Source, pace: Pace) -> Response<Body> {
    answer.extensions_mut().insert(Takeover::new(move |handover| Box::pin(serve(source, pace, handover))));
    answer
}

async fn serve(mut source: Source, pace: Pace, handover: Handover) {
    let Handover { socket, first, stop } = handover;
    let limits = Limits {
        message_bytes: MESSAGE_BYTES,
        too_large: "a reader of events has nothing to say, and not so much of it",
        write_timeout: pace.patience,
    };
    let mut socket = Socket::new(socket, &first, Kind::Text, limits).await;
    drop(first);
    let why = match tell(&mut socket, &mut source, pace, &stop).await {
        Closing::Slow => slow("nothing was taken, see http.idle_timeout_ms"),
        why => why,
    };
    tracing::debug!(?why, "an event stream over a WebSocket ends");
    // Nothing more is gathered for it while the goodbye takes its time.
    drop(source);
    socket.close(why).await;
}

/// Tells what happens until either side has enough.
async fn tell(socket: &mut Socket, source: &mut Source, pace: Pace, stop: &CancellationToken) -> Closing {
    // Not only a quiet reader is asked: one that is told much may have gone as well.
    let mut ping = interval_at(Instant::now() + pace.silence, pace.silence);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard_at = Instant::now();
    loop {
        let told = tokio::select! {
            // What the reader has said counts before it is judged for its silence.
            biased;
            () = stop.cancelled() => return closing(Why::Closing),
            received = socket.receive() => {
                heard_at = Instant::now();
                received.map(drop)
            }
            _ = ping.tick() => {
                if heard_at.elapsed() > pace.patience {
                    return slow("nothing was heard, not even an answer to pings, see http.idle_timeout_ms");
                }
                unless_stopped(stop, socket.ping()).await
            }
            next = source.next() => {
                let message = match next {
                    Step::Event(delivery) => event::object(&delivery.form(Form::Stream, event::frame)),
                    Step::StartOver(from) => start_over(from).json().into(),
                    Step::End(why) => return closing(why),
                };
                unless_stopped(stop, socket.send(message)).await
            }
        };
        if let Err(why) = told {
            return why;
        }
    }
}

/// A reader that takes nothing does not hold up a server that stops. Whatever has left of a message, a goodbye may follow.
async fn unless_stopped(
    stop: &CancellationToken,
    sending: impl Future<Output = Result<(), Closing>>,
) -> Result<(), Closing> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(closing(Why::Closing)),
        sent = sending => sent,
    }
}

/// A code for what the reader should do, and the reason for which the stream ends.
fn closing(why: Why) -> Closing {
    let code = match why {
        Why::Removed => CloseCode::Policy,
        Why::Closing => CloseCode::Away,
        Why::Overrun | Why::Lost => CloseCode::Again,
        Why::Failed => CloseCode::Error,
    };
    Closing::Because(code, format!("{}: {}", why.word(), why.info()).into())
}

fn slow(info: &str) -> Closing {
    Closing::Because(CloseCode::Again, format!("slow: {info}").into())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_an_offer_of_a_web_socket_is_taken_up() {
        for (offers, asked) in [
            (&[][..], false),
            (&["websocket"][..], true),
            (&["WebSocket"][..], true),
            (&["h2c"][..], false),
            (&["h2c, websocket"][..], true),
            (&["h2c", "websocket"][..], true),
            (&["websockets"][..], false),
            (&[""][..], false),
        ] {
            let mut headers = HeaderMap::new();
            for offer in offers {
                headers.append(UPGRADE, HeaderValue::from_static(offer));
            }
            assert_eq!(asks_for_web_socket(&headers), asked, "{offers:?}");
        }
    }

    #[test]
    fn a_reason_fits_into_a_close_frame() {
        for why in [Why::Removed, Why::Closing, Why::Overrun, Why::Lost, Why::Failed] {
            let Closing::Because(_, reason) = closing(why) else { panic!("{why:?}") };
            assert!(reason.len() <= 123 && reason.starts_with(why.word()), "{reason}");
        }
    }
}
