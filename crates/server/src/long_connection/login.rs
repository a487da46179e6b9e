//! How a connection becomes that of an account: by a ticket, or by the token of an earlier login (long-connection.md
//! section 4).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use sidenote_core::ids::{AccountId, Timestamp, TinyId};
use tokio::time::Instant;

use super::LongConnections;
use super::answers::functions;
use super::echo::Echoes;
use super::frame::Request;
use super::presence::Seat;
use super::subscription::{News, Subscription};
use super::unacknowledged::Unacknowledged;
use crate::api::{App, Fault};
use crate::auth::a2::{self, A2Error, Session};
use crate::config::Secret;
use crate::gateway::Connected;
use crate::listener::Peer;
use crate::wire::envelope;
use crate::wire::error_code::ErrorCode;

/// How often a client asks whether its login still stands, in seconds.
const HELLO_SECONDS: u32 = 120;

/// The longest that nobody looks whether a login has expired. The clock on the wall may be set meanwhile.
const LONGEST_UNWATCHED: Duration = Duration::from_hours(1);

/// A connection that is an account's.
pub(super) struct Login {
    pub(super) caller: Connected,
    /// Which instance of the client (`InstId`).
    instance: u32,
    /// The last Unix second in which it is valid.
    pub(super) expires_at: u64,
    /// When to look whether that is over.
    pub(super) look_at: Instant,
    pub(super) subscription: Subscription,
    pub(super) seat: Seat,
    pub(super) unacknowledged: Unacknowledged,
    pub(super) echoes: Echoes,
    /// Events of which the first may be the echo of a request that is not answered yet, in order.
    pub(super) held: VecDeque<News>,
}

impl Login {
    /// Whether it is over, because the ticket that it was made with is. If not, `look_at` says when to ask again.
    pub(super) fn has_expired(&mut self, now: Timestamp) -> bool {
        let Some(left) = left(self.expires_at, now) else { return true };
        self.look_at = Instant::now() + left;
        false
    }
}

/// For how long nobody needs to look; `None` after the last second.
fn left(expires_at: u64, now: Timestamp) -> Option<Duration> {
    let over = Timestamp::from_secs(expires_at.saturating_add(1)).millis();
    let left = over.checked_sub(now.millis()).filter(|left| *left > 0)?;
    Some(Duration::from_millis(left).min(LONGEST_UNWATCHED))
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Welcome {
    a2_key: String,
    /// A string, because it goes beyond 2^53.
    tiny_id: String,
    purchase_bits: &'static str,
    hello_interval: u32,
    inst_id: u32,
    time_stamp: u64,
    custom_status: &'static str,
}

impl LongConnections {
    /// Logs in whom the head of a request names. Answers the login with the body that tells the client of it.
    /// `current` is the login that the connection has and loses to the new one.
    pub(super) async fn log_in(
        &self,
        app: Option<&Arc<App>>,
        peer: Peer,
        request: &Request<'_>,
        current: Option<&Login>,
    ) -> Result<(Login, Vec<u8>), Fault> {
        let app = app.ok_or(Fault::Plain(ErrorCode::UnknownApp))?;
        let (session, key) = self.identify(app, request, current).await?;
        let account = AccountId { app: app.id, user: session.user.clone() };
        // From here on nothing is missed: what is not in the state that the client reads after its login is told to it.
        let subscription = Subscription::open(&self.hub, &account, session.tiny_id).await?;
        let seat = self.presence.enter(account, session.instance).await?;
        let welcome = Welcome {
            a2_key: a2::seal(&session, key),
            tiny_id: session.tiny_id.get().to_string(),
            purchase_bits: functions(app),
            hello_interval: HELLO_SECONDS,
            inst_id: session.instance,
            time_stamp: self.gateway.time().secs(),
            custom_status: "",
        };
        let login = Login {
            caller: Connected {
                app: Arc::clone(app),
                user: session.user,
                tiny_id: session.tiny_id,
                address: peer.0.ip(),
            },
            instance: session.instance,
            expires_at: session.expires_at,
            look_at: Instant::now(),
            subscription,
            seat,
            unacknowledged: Unacknowledged::default(),
            echoes: Echoes::default(),
            held: VecDeque::new(),
        };
        Ok((login, envelope::success(&welcome)))
    }

    /// Whose login it is, and the app's key by which that is known.
    async fn identify<'k>(
        &self,
        app: &'k App,
        request: &Request<'_>,
        current: Option<&Login>,
    ) -> Result<(Session, &'k Secret), Fault> {
        let now = self.gateway.time().secs();
        let (mut session, key, is_new) = match (request.identifier, request.user_sig, request.a2) {
            (Some(name), Some(user_sig), _) => {
                let (user, verified) = self.gateway.verify_login(app, name, user_sig)?;
                // The longest that a token lasts, so that a ticket of ten years does not make one of ten years.
                let expires_at = verified.expires_at.min(now.saturating_add(self.limits.session.as_secs()));
                let instance = rand::random::<u32>().max(1);
                let tiny_id = TinyId::from_random(0);
                (Session { app: app.id, user, tiny_id, instance, expires_at }, &app.keys[verified.key], true)
            }
            (_, _, Some(token)) => {
                let (session, key) = a2::open(token, app.id, &app.keys, now)
                    .map_err(|error| Fault::Code(a2_code(error), error.to_string()))?;
                let number = session.tiny_id.get().to_string();
                if request.tiny_id.is_some_and(|tiny_id| tiny_id != number) {
                    let info = "tinyid is not that of the account which the a2 belongs to".to_owned();
                    return Err(Fault::Code(ErrorCode::UserSigOtherUser, info));
                }
                (session, key, false)
            }
            _ => {
                let info = "the head has neither identifier and usersig nor an a2".to_owned();
                return Err(Fault::Code(ErrorCode::BadQuery, info));
            }
        };
        let id = AccountId { app: app.id, user: session.user.clone() };
        let tiny_id = self.gateway.account(id).await?.map(|account| account.tiny_id);
        if is_new {
            session.tiny_id = tiny_id.ok_or(Fault::Plain(ErrorCode::CallerUnknown))?;
            // Whoever logs in anew where it is logged in is the same instance, and takes no other one's place.
            if let Some(current) = current.filter(|current| current.caller.tiny_id == session.tiny_id) {
                session.instance = current.instance;
            }
        } else if tiny_id != Some(session.tiny_id) {
            // By this code its client asks its user to log in again, and what that finds is the answer to the login.
            let info = "the account was deleted since; log in with a usersig".to_owned();
            return Err(Fault::Code(ErrorCode::UserSigExpired, info));
        }
        Ok((session, key))
    }
}

const fn a2_code(error: A2Error) -> ErrorCode {
    match error {
        A2Error::Illegal => ErrorCode::UserSigIllegal,
        A2Error::OtherApp => ErrorCode::UserSigOtherApp,
        // The code that makes a client ask its user to log in again.
        A2Error::NotOurs | A2Error::Expired => ErrorCode::UserSigExpired,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_looked_at_when_its_last_second_is_over_and_now_and_then_before() {
        let millis = |number| Some(Duration::from_millis(number));
        for (now, expected) in [
            (0, Some(LONGEST_UNWATCHED)),
            (9_999_000, millis(2000)),
            (10_000_999, millis(1)),
            (10_001_000, None),
            (u64::MAX, None),
        ] {
            assert_eq!(left(10_000, Timestamp::from_millis(now)), expected, "{now}");
        }
        assert_eq!(left(u64::MAX, Timestamp::from_millis(0)), Some(LONGEST_UNWATCHED));
    }
}
