//! Asking an app before something happens (webhooks.md sections 2.1 and 2.4).
//!
//! It is asked after the request was found sound in itself and before the store sees the command, so that nobody else
//! waits for its answer. What the rules then say, they say about the state that they find: an app may be asked about
//! something that is refused in the end.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Bytes;
use sidenote_core::command::{
    Action, Claim, DirectAction, Extend, GroupAction, NewDirectMessage, NewMessage,
};
use sidenote_core::direct::Peers;
use sidenote_core::event::{Operation, Operator};
use sidenote_core::extension::{Key, Value};
use sidenote_core::ids::{AppId, Conversation, GroupId, MsgKey, MsgSeq};
use sidenote_core::query::DescribeGroup;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::api::{Call, Fault, group_type_name, replace_message_body};
use crate::config::Webhook;
use crate::webhooks::body::{self, Sending, SendingToOne};
use crate::webhooks::callback::Callback;
use crate::webhooks::figures::Figures;
use crate::webhooks::receiver::{Letter, Receiver};
use crate::wire::error_code::ErrorCode;
use crate::wire::json::{Document, Object};

/// Questions of one app that wait for an answer at a time. Others wait for a place, within the same time-out.
const MAX_QUESTIONS: usize = 256;

/// What an answer to a question may bring (webhooks.md sections 2.1 and 2.5).
struct Codes {
    /// Codes that an app may choose for what it refuses.
    of_apps: RangeInclusive<u32>,
    /// What is answered where it refuses without choosing.
    refused: ErrorCode,
}

const OF_GROUPS: Codes = Codes { of_apps: 10_100..=10_200, refused: ErrorCode::RefusedByApp };

const OF_TWO_ACCOUNTS: Codes =
    Codes { of_apps: 120_001..=130_000, refused: ErrorCode::DirectMessageRefusedByApp };

/// Longest sentence of an app that is passed on, in bytes.
const MAX_INFO_BYTES: usize = 1024;

/// How one app is asked.
pub(crate) struct Asking {
    app: AppId,
    commands: Vec<Callback>,
    refuses_unasked: bool,
    time_out: Duration,
    receiver: Arc<Receiver>,
    figures: Arc<Figures>,
    places: Semaphore,
}

/// How apps are asked.
pub(crate) struct Before {
    /// By app.
    apps: Vec<Asking>,
}

/// What an app says.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It may happen.
    Go,
    /// It may not happen, and whoever asked for it is not told.
    Drop,
    /// It may not happen.
    Refuse(Fault),
}

impl Asking {
    pub(super) fn new(app: AppId, policy: &Webhook, receiver: Arc<Receiver>, figures: Arc<Figures>) -> Self {
        let asked = policy.commands.iter().copied().filter(|callback| callback.asks());
        Self {
            app,
            commands: asked.collect(),
            refuses_unasked: policy.refuses_unasked,
            time_out: policy.timeout,
            receiver,
            figures,
            places: Semaphore::new(MAX_QUESTIONS),
        }
    }

    /// The answer's body; `None` if there was none in time.
    async fn question(&self, callback: Callback, operator: &Operator, body: &str, now: u64) -> Option<Bytes> {
        let origin = body::origin(operator);
        let letter = Letter { command: callback.command(), origin: &origin, body, id: None };
        let answer = async {
            let place = self.places.acquire().await;
            let answer = self.receiver.post(&letter, now).await;
            drop(place);
            answer
        };
        self.figures.asked.fetch_add(1, Ordering::Relaxed);
        match timeout(self.time_out, answer).await {
            Ok(Ok(answer)) => {
                self.figures.answered(self.app.get());
                Some(answer)
            }
            Ok(Err(failure)) => {
                self.figures.failed(self.app.get(), &failure);
                None
            }
            // Others were asked for so long that no place was left.
            Err(_) => None,
        }
    }

    async fn about_group(
        &self,
        call: &Call,
        operator: &Operator,
        group: &GroupId,
        action: &mut GroupAction,
    ) -> Verdict {
        match action {
            GroupAction::Send(message) if self.commands.contains(&Callback::BeforeSendMsg) => {
                ask_to_send(self, call, operator, group, message).await
            }
            GroupAction::Extend(seq, extend)
                if self.commands.contains(&Callback::BeforeGroupMsgExtension) =>
            {
                ask_to_extend(self, call, operator, group, *seq, extend).await
            }
            _ => Verdict::Go,
        }
    }

    /// What happens where no answer came, or one that makes no sense.
    fn without_answer(&self) -> Verdict {
        self.figures.unasked.fetch_add(1, Ordering::Relaxed);
        if self.refuses_unasked {
            Verdict::Refuse(Fault::Plain(ErrorCode::AppDidNotAnswer))
        } else {
            Verdict::Go
        }
    }

    /// `take` puts in place what a positive answer brings.
    fn judge(
        &self,
        codes: &Codes,
        answer: &[u8],
        take: impl FnOnce(Object<'_>) -> Result<(), Fault>,
    ) -> Verdict {
        let Ok(document) = Document::parse(answer) else { return self.without_answer() };
        let answer = document.root();
        let Ok(code) = answer.integer("ErrorCode", 0..=u32::MAX) else { return self.without_answer() };
        match code {
            0 => match take(answer) {
                Ok(()) => Verdict::Go,
                Err(unfit) => {
                    tracing::debug!(app = self.app.get(), %unfit, "an app's answer was unfit");
                    self.without_answer()
                }
            },
            1 => Verdict::Refuse(Fault::Plain(codes.refused)),
            2 => Verdict::Drop,
            code if codes.of_apps.contains(&code) => {
                let info = answer.optional_string("ErrorInfo").ok().flatten().unwrap_or_default();
                let mut end = info.len().min(MAX_INFO_BYTES);
                while !info.is_char_boundary(end) {
                    end -= 1;
                }
                Verdict::Refuse(Fault::OfApp(code, info[..end].to_owned()))
            }
            _ => self.without_answer(),
        }
    }
}

impl Before {
    pub(super) fn new(mut apps: Vec<Asking>) -> Self {
        apps.retain(|asking| !asking.commands.is_empty());
        apps.sort_by_key(|asking| asking.app);
        Self { apps }
    }

    pub(super) const fn asks_anybody(&self) -> bool {
        !self.apps.is_empty()
    }

    /// Whether this app is asked about anything.
    pub(crate) fn asks(&self, app: AppId) -> bool {
        self.apps.binary_search_by_key(&app, |asking| asking.app).is_ok()
    }

    /// Asks the call's app whether this may happen. What it puts in place of a message is in the action afterwards.
    pub(crate) async fn ask(&self, call: &Call, operator: &Operator, action: &mut Action) -> Verdict {
        let Ok(place) = self.apps.binary_search_by_key(&call.app_id(), |asking| asking.app) else {
            return Verdict::Go;
        };
        let asking = &self.apps[place];
        match action {
            Action::Group(id, action) => {
                let Conversation::Group(group) = &id.conversation else { return Verdict::Go };
                asking.about_group(call, operator, group, action).await
            }
            Action::Direct(peers, DirectAction::Send(message))
                if asking.commands.contains(&Callback::BeforeC2cSendMsg) =>
            {
                ask_to_send_to_one(asking, call, operator, peers, message).await
            }
            _ => Verdict::Go,
        }
    }
}

async fn ask_to_send(
    asking: &Asking,
    call: &Call,
    operator: &Operator,
    group: &GroupId,
    message: &mut NewMessage,
) -> Verdict {
    let view = match call.ask(DescribeGroup { id: call.group(group) }).await {
        Ok(view) => view,
        Err(fault) => return Verdict::Refuse(fault),
    };
    // There is nothing to ask: the rules will say that there is no such group.
    let Some(view) = view else { return Verdict::Go };
    let question = body::ask_to_send(&Sending {
        group: group.as_str(),
        kind: Some(group_type_name(view.group.kind)),
        sender: &message.sender,
        operator: &operator.user,
        random: message.random,
        online_only: message.online_only,
        body: &message.body,
        now: call.at.millis(),
    });
    let Some(question) = question else { return Verdict::Go };
    let answer = asking.question(Callback::BeforeSendMsg, operator, &question, call.at.secs()).await;
    match answer {
        None => asking.without_answer(),
        Some(answer) => {
            let too_long = ErrorCode::MessageTooLong;
            asking.judge(&OF_GROUPS, &answer, |answer| {
                replace_message_body(call, answer, &mut message.body, too_long)
            })
        }
    }
}

async fn ask_to_send_to_one(
    asking: &Asking,
    call: &Call,
    operator: &Operator,
    peers: &Peers,
    message: &mut NewDirectMessage,
) -> Verdict {
    let now = call.at;
    let question = body::ask_to_send_to_one(&SendingToOne {
        from: &peers.from.user,
        to: &peers.to.user,
        // The store may choose a later second, should this one be taken.
        key: MsgKey { seq: message.seq, random: message.random, time: now.secs() },
        online_only: message.online_only,
        body: &message.body,
        now: now.millis(),
    });
    let Some(question) = question else { return Verdict::Go };
    match asking.question(Callback::BeforeC2cSendMsg, operator, &question, now.secs()).await {
        None => asking.without_answer(),
        Some(answer) => {
            let too_long = ErrorCode::DirectMessageTooLong;
            asking.judge(&OF_TWO_ACCOUNTS, &answer, |answer| {
                replace_message_body(call, answer, &mut message.body, too_long)
            })
        }
    }
}

async fn ask_to_extend(
    asking: &Asking,
    call: &Call,
    operator: &Operator,
    group: &GroupId,
    seq: MsgSeq,
    extend: &Extend,
) -> Verdict {
    let claimed = |claim: &Claim| match claim {
        Claim::Unchecked => None,
        Claim::Saw(seq) => Some(seq.get()),
    };
    let with_value =
        |((key, value), claim): &((Key, Value), Claim)| (key.clone(), Some(value.clone()), claimed(claim));
    let without = |(key, claim): &(Key, Claim)| (key.clone(), None, claimed(claim));
    let (operation, pairs): (_, Vec<_>) = match extend {
        Extend::Set(items) => (Operation::Set, items.iter().map(with_value).collect()),
        Extend::Delete(items) => (Operation::Delete, items.iter().map(without).collect()),
        Extend::Clear => (Operation::Clear, Vec::new()),
    };
    let pairs =
        pairs.iter().map(|(key, value, seq)| (key.as_str(), value.as_ref().map_or("", Value::as_str), *seq));
    let group = group.as_str();
    let question = body::ask_to_extend(group, seq, &operator.user, operation, pairs, call.at.millis());
    let callback = Callback::BeforeGroupMsgExtension;
    match asking.question(callback, operator, &question, call.at.secs()).await {
        None => asking.without_answer(),
        Some(answer) => match asking.judge(&OF_GROUPS, &answer, |_| Ok(())) {
            // An answer about pairs carries their Seq, which nobody could make up.
            Verdict::Drop => Verdict::Refuse(Fault::Plain(ErrorCode::RefusedByApp)),
            verdict => verdict,
        },
    }
}
