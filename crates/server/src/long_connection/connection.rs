//! One long connection, from its handshake to its end: a single task that reads requests, carries them out in the order
//! in which they came, and tells events in between.
//!
//! Requests are carried out one at a time; heartbeats and acknowledgements do not wait. While a request waits for the
//! store, more of them are read until [`MAX_WAITING`] wait, and then the client has to wait as well. A client that does
//! not read is found out by writing: what it is sent has to leave within `long_connection.write_timeout_ms`, and
//! meanwhile its events wait in a mailbox that ends the connection when it is full. So it costs what these hold, and
//! nobody else waits for it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use futures_util::future::BoxFuture;
use sidenote_core::ids::{Conversation, TinyId};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_util::sync::CancellationToken;

use super::echo::{self, Mark};
use super::frame::{self, Request, packed};
use super::login::Login;
use super::presence::Leave;
use super::pushes::{self, Kick};
use super::subscription::{Ended, News};
use super::unacknowledged::PushName;
use super::{LongConnections, answers};
use crate::api::{App, Fault, Service};
use crate::gateway::{Connected, ConnectedCommand};
use crate::listener::Peer;
use crate::web_socket::{Closing, Socket};
use crate::wire::envelope;
use crate::wire::error_code::{Blame, ErrorCode};
use crate::wire::json::Document;

/// Most requests that wait for their turn.
const MAX_WAITING: usize = 32;

/// Most events that are held back until a request is answered whose echo they may be. Then the mailbox fills.
const MAX_HELD: usize = 64;

/// How long a request is waited for when the server stops. `http.drain_timeout_ms` may end the wait sooner.
const LAST_ANSWER: Duration = Duration::from_secs(5);

/// One client.
pub(super) struct Connection {
    shared: Arc<LongConnections>,
    socket: Socket,
    /// Whether large messages are packed.
    packs: bool,
    /// The app that its URL names, if there is such an app.
    app: Option<Arc<App>>,
    peer: Peer,
    stop: CancellationToken,
    /// Whose connection it is. In a box, because many connections are nobody's yet.
    login: Option<Box<Login>>,
    /// Until when it must have become somebody's; `None` while it is.
    login_by: Option<Instant>,
    /// The login that it had was over before its client ended it.
    expired: bool,
    refused_logins: u32,
    heard_at: Instant,
    /// The request that is carried out.
    running: Option<Running>,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
}

struct Waiting {
    frame: Bytes,
    command: ConnectedCommand,
    /// Who was logged in when it came. When its turn comes that may be somebody else.
    caller: Connected,
    /// Where it may change something.
    changes: Option<Conversation>,
}

struct Running {
    answer: BoxFuture<'static, Answered>,
    by: TinyId,
    /// Where it may change something.
    changes: Option<Conversation>,
}

struct Answered {
    frame: Bytes,
    mark: Option<Mark>,
}

/// What happens next.
enum Turn {
    Stop,
    Received(Result<Option<Bytes>, Closing>),
    Answered(Answered),
    Event(Result<News, Ended>),
    Left(Leave),
    Alarm,
}

impl Connection {
    pub(super) fn new(
        shared: Arc<LongConnections>,
        socket: Socket,
        packs: bool,
        app: Option<Arc<App>>,
        peer: Peer,
        stop: CancellationToken,
    ) -> Self {
        let now = Instant::now();
        let login_by = Some(now + shared.limits.login_timeout);
        Self {
            shared,
            socket,
            packs,
            app,
            peer,
            stop,
            login: None,
            login_by,
            expired: false,
            refused_logins: 0,
            heard_at: now,
            running: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
        }
    }

    /// Serves the client until either side has enough, and closes the connection.
    pub(super) async fn serve(&mut self) {
        // By reference, because a future keeps room for what it is given twice: as it was given, and as it uses it.
        let why = loop {
            let turn = self.next().await;
            if let Err(why) = self.take(turn).await {
                break why;
            }
        };
        tracing::debug!(peer = %self.peer, ?why, "a long connection ends");
        // Nothing is told to it any more, and its place is free, before the goodbye takes its time.
        self.login = None;
        self.running = None;
        self.socket.close(why).await;
    }

    /// Waits for whatever comes first. Nothing is lost of what comes second.
    async fn next(&mut self) -> Turn {
        let deadline = self.deadline();
        let reads = self.waiting.len() < MAX_WAITING && self.waiting_bytes < self.shared.limits.frame_bytes;
        let Self { socket, login, running, stop, .. } = self;
        let running = async {
            match running {
                Some(running) => running.answer.as_mut().await,
                None => std::future::pending().await,
            }
        };
        let told = async {
            match login {
                None => std::future::pending().await,
                Some(login) => {
                    let Login { subscription, seat, held, .. } = &mut **login;
                    tokio::select! {
                        why = seat.left() => Turn::Left(why),
                        event = subscription.next(), if held.len() < MAX_HELD => Turn::Event(event),
                    }
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => Turn::Stop,
            answered = running => Turn::Answered(answered),
            turn = told => turn,
            received = socket.receive(), if reads => Turn::Received(received),
            () = sleep_until(deadline) => Turn::Alarm,
        }
    }

    /// When something has to be done even if nothing happens.
    fn deadline(&self) -> Instant {
        let silence = self.heard_at + self.shared.limits.idle_timeout;
        let again = self.login.as_ref().and_then(|login| login.unacknowledged.deadline());
        let look_at = self.login.as_ref().map(|login| login.look_at);
        [self.login_by, again, look_at].into_iter().flatten().fold(silence, Instant::min)
    }

    async fn take(&mut self, turn: Turn) -> Result<(), Closing> {
        match turn {
            Turn::Stop | Turn::Event(Err(Ended::Closing)) => self.stop().await,
            Turn::Received(received) => {
                let received = received?;
                self.heard_at = Instant::now();
                match received {
                    Some(frame) => self.receive(frame).await,
                    None => Ok(()),
                }
            }
            Turn::Answered(answered) => self.answered(answered).await,
            Turn::Event(Ok(news)) => self.tell(news).await,
            Turn::Event(Err(Ended::Overrun | Ended::Lost)) => Err(Closing::Slow),
            Turn::Event(Err(Ended::Removed)) => self.kick(Kick::Removed).await,
            Turn::Left(Leave::Kicked) => self.kick(Kick::OtherLogin).await,
            Turn::Left(Leave::Replaced) => {
                Err(Closing::Because(CloseCode::Normal, "the same instance has a newer connection".into()))
            }
            Turn::Alarm => self.wake().await,
        }
    }

    /// Ends the connection because the server stops. The request that is carried out is answered first: its client
    /// could not know otherwise whether it was. Those that wait have not begun.
    async fn stop(&mut self) -> Result<(), Closing> {
        if let Some(running) = &mut self.running
            && let Ok(answered) = timeout(LAST_ANSWER, running.answer.as_mut()).await
        {
            self.running = None;
            self.send(answered.frame).await?;
        }
        Err(Closing::Because(CloseCode::Away, "the server stops".into()))
    }

    async fn wake(&mut self) -> Result<(), Closing> {
        let now = Instant::now();
        if self.login_by.is_some_and(|by| by <= now) {
            let why = "nobody has logged in, see long_connection.login_timeout_ms, or idle_timeout_ms after a logout";
            return Err(Closing::policy(why));
        }
        if self.heard_at + self.shared.limits.idle_timeout <= now {
            return Err(Closing::policy("nothing was heard, see long_connection.idle_timeout_ms"));
        }
        self.expire();
        let due = self.login.as_mut().map(|login| login.unacknowledged.due(now)).unwrap_or_default();
        for push in due {
            self.socket.send(push).await?;
        }
        Ok(())
    }

    /// Ends the login if its time is over. There is no push that says so; the code 70001 says it, whatever the client
    /// asks for next (long-connection.md section 3).
    fn expire(&mut self) {
        let now = self.shared.gateway.time();
        if self.login.as_mut().is_some_and(|login| login.has_expired(now)) {
            self.log_out();
            self.expired = true;
        }
    }

    /// The connection is nobody's any more. It stays open for whoever logs in next, but signs of life alone do not keep
    /// it: `long_connection.logins_per_account` would limit nothing otherwise.
    fn log_out(&mut self) {
        if self.login.take().is_some() {
            self.login_by = Some(Instant::now() + self.shared.limits.idle_timeout);
        }
    }

    async fn receive(&mut self, frame: Bytes) -> Result<(), Closing> {
        let document = Document::parse(&frame).map_err(|error| {
            Closing::Because(CloseCode::Invalid, format!("the frame is no JSON object: {error}").into())
        })?;
        let request = Request::read(&document).map_err(|error| Closing::policy(error.to_string()))?;
        self.expire();
        match request.servcmd {
            "heartbeat.alive" if !self.expired => self.answer(&request, &envelope::plain_success()).await,
            "openim.ws_msg_push_ack" => {
                let name = request.body.get("SessionData").and_then(|data| PushName::read(data.as_str()?));
                if let (Some(login), Some(name)) = (&mut self.login, name) {
                    login.unacknowledged.acknowledged(name, Instant::now());
                }
                Ok(())
            }
            // In a box, because an idle connection would keep room for it.
            "im_open_status.wslogin" => Box::pin(self.log_in(&request)).await,
            "im_open_status.wslogout" => {
                self.log_out();
                self.expired = false;
                self.answer(&request, &envelope::plain_success()).await
            }
            _ => self.command(&request, &frame).await,
        }
    }

    async fn log_in(&mut self, request: &Request<'_>) -> Result<(), Closing> {
        match self.shared.log_in(self.app.as_ref(), self.peer, request, self.login.as_deref()).await {
            Ok((login, welcome)) => {
                self.login = Some(Box::new(login));
                self.login_by = None;
                self.expired = false;
                self.refused_logins = 0;
                self.answer(request, &welcome).await
            }
            Err(fault) => {
                self.refuse(request, &fault, Service::Accounts).await?;
                if fault.code(Service::Accounts).details().blame == Blame::Caller {
                    self.refused_logins += 1;
                }
                if self.refused_logins >= self.shared.limits.refused_logins {
                    return Err(Closing::policy("too many logins were refused"));
                }
                Ok(())
            }
        }
    }

    /// Whatever needs a login.
    async fn command(&mut self, request: &Request<'_>, frame: &Bytes) -> Result<(), Closing> {
        let Some(login) = &self.login else {
            if self.expired {
                let expired = Fault::Code(ErrorCode::UserSigExpired, "the login has expired".to_owned());
                return self.refuse(request, &expired, Service::Accounts).await;
            }
            // Statistics come at any time, and who gets an error for them sends them again.
            if request.servcmd == answers::STATISTICS {
                return self.answer(request, &envelope::plain_success()).await;
            }
            let info = "log in first, this connection is nobody's".to_owned();
            return self.refuse(request, &Fault::Code(ErrorCode::BadQuery, info), Service::Accounts).await;
        };
        if let Some(answer) = answers::known(request.servcmd, &login.caller.app, request.body) {
            return self.answer(request, &answer).await;
        }
        let (service, command) = request.servcmd.split_once('.').unwrap_or((request.servcmd, ""));
        match ConnectedCommand::find(service, command) {
            Ok(command) => {
                let caller = login.caller.clone();
                let changes = echo::may_change(request.servcmd, &caller.user, request.body);
                let waiting = Waiting { frame: frame.clone(), command, caller, changes };
                if self.running.is_none() {
                    self.start(waiting);
                } else {
                    self.waiting_bytes += waiting.frame.len();
                    self.waiting.push_back(waiting);
                }
                Ok(())
            }
            Err(code) => self.refuse(request, &Fault::Plain(code), Service::Groups).await,
        }
    }

    /// Carries out a request, unless the login that it came with has ended while it waited.
    fn start(&mut self, mut waiting: Waiting) {
        let number = waiting.caller.tiny_id;
        let stands = self.login.as_ref().is_some_and(|login| login.caller.tiny_id == number);
        let ended = if self.expired { ErrorCode::UserSigExpired } else { ErrorCode::BadQuery };
        let ended = (!stands).then_some(ended);
        let changes = waiting.changes.take();
        let answer = Box::pin(carry_out(Arc::clone(&self.shared), ended, waiting));
        self.running = Some(Running { answer, by: number, changes });
    }

    async fn answered(&mut self, answered: Answered) -> Result<(), Closing> {
        let by = self.running.take().map(|running| running.by);
        let mut held = VecDeque::new();
        if let Some(login) = &mut self.login {
            if let Some(mark) = answered.mark
                && by == Some(login.caller.tiny_id)
            {
                login.echoes.expect(mark);
            }
            held = std::mem::take(&mut login.held);
        }
        self.send(answered.frame).await?;
        for news in held {
            self.tell(news).await?;
        }
        match self.waiting.pop_front() {
            Some(next) => {
                self.waiting_bytes -= next.frame.len();
                self.start(next);
            }
            // An idle connection keeps no room for requests.
            None => self.waiting = VecDeque::new(),
        }
        Ok(())
    }

    /// Tells an event, unless it is the account's own doing on this connection.
    async fn tell(&mut self, news: News) -> Result<(), Closing> {
        self.expire();
        let Some(login) = &mut self.login else { return Ok(()) };
        let conversation = news.conversation();
        let is_own = echo::is_by(login.caller.tiny_id, news.event());
        if is_own && login.echoes.takes(conversation, news.event()) {
            return Ok(());
        }
        let running = self.running.as_ref().and_then(|running| running.changes.as_ref());
        // What comes behind an event that is held back waits with it, so that it stays behind.
        if (is_own && running == Some(conversation)) || !login.held.is_empty() {
            login.held.push_back(news);
            return Ok(());
        }
        let Some((name, push)) = news.push(self.packs) else { return Ok(()) };
        login.unacknowledged.sent(name, push.clone(), Instant::now());
        self.socket.send(push).await
    }

    /// Ends the login, and tells the client that it did. The connection stays open, as after a logout.
    async fn kick(&mut self, kick: Kick) -> Result<(), Closing> {
        self.log_out();
        self.send(pushes::kick(kick)).await
    }

    /// Sends a message, packed if that is worth it.
    async fn send(&mut self, message: Bytes) -> Result<(), Closing> {
        let message = if self.packs { packed(&message) } else { message };
        self.socket.send(message).await
    }

    async fn answer(&mut self, request: &Request<'_>, body: &[u8]) -> Result<(), Closing> {
        self.send(frame::answer(request.servcmd, request.seq, body)).await
    }

    async fn refuse(
        &mut self,
        request: &Request<'_>,
        fault: &Fault,
        service: Service,
    ) -> Result<(), Closing> {
        let code = fault.code(service);
        match code.details().blame {
            Blame::Caller => {
                tracing::debug!(peer = %self.peer, code = code.code(), %fault, "a frame was refused");
            }
            Blame::Us => tracing::error!(peer = %self.peer, code = code.code(), %fault, "a frame failed"),
        }
        self.answer(request, &envelope::failure(code.code(), &fault.info(service))).await
    }
}

/// Carries out a request. `ended` is the code where its login has ended.
async fn carry_out(shared: Arc<LongConnections>, ended: Option<ErrorCode>, waiting: Waiting) -> Answered {
    let document = Document::parse(&waiting.frame).expect("a frame that waits was read before");
    let request = Request::read(&document).expect("a frame that waits was read before");
    if let Some(code) = ended {
        let failure = envelope::failure(code.code(), "the login has ended, log in again");
        return Answered { frame: frame::answer(request.servcmd, request.seq, &failure), mark: None };
    }
    let answer = shared.gateway.run_connected(&waiting.caller, waiting.command, request.body).await;
    Answered {
        mark: Mark::of(request.servcmd, &waiting.caller.user, request.body, &answer),
        frame: frame::answer(request.servcmd, request.seq, &answer),
    }
}
