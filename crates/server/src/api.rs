//! The commands. Every endpoint is a file named like the last part of its URL, with one `handle`: parse, execute,
//! answer. What is needed beyond that belongs in `sidenote-core`.

mod caller;
mod fault;
mod parameters;

mod accounts;
mod direct;
mod extensions;
mod groups;
pub(crate) mod messages;

#[cfg(test)]
pub(crate) mod testing;

use std::sync::Arc;

use axum::body::Bytes;
use futures_util::future::{BoxFuture, FutureExt, TryFutureExt};
use sidenote_core::Outcome;
use sidenote_core::account::Account;
use sidenote_core::command::{AccountAction, Action, Command, DirectAction, GroupAction};
use sidenote_core::direct::Peers;
use sidenote_core::event::{CallerKind, Operator};
use sidenote_core::ids::{AccountId, AppId, ConversationId, GroupId, Timestamp, UserId};
use sidenote_core::message::Sent;
use sidenote_core::query::{Accounts, Ask};
use sidenote_store::Store;

use crate::config::{Limits, Secret};
use crate::webhooks::{Before, Verdict};
use crate::wire::error_code::ErrorCode;
use crate::wire::json::Object;

pub(crate) use caller::Pending;
pub(crate) use fault::Fault;
pub(crate) use groups::group_type_name;
pub(crate) use messages::replace_message_body;

/// The services, which differ in the codes that they use for the same fault (rest-overview.md section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// `im_open_login_svc`
    Accounts,
    /// `group_open_http_svc`
    Groups,
    /// `openim_msg_ext_http_svc`, for messages of groups
    Extensions,
    /// `openim`
    Messages,
    /// `openim_msg_ext_http_svc` too, for one-to-one messages
    DirectExtensions,
}

impl Service {
    /// The service of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let by_name = [Self::Accounts, Self::Groups, Self::Extensions, Self::Messages];
        by_name.into_iter().find(|service| service.name() == name)
    }

    /// Its name, the middle part of the URL.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Accounts => "im_open_login_svc",
            Self::Groups => "group_open_http_svc",
            Self::Extensions | Self::DirectExtensions => "openim_msg_ext_http_svc",
            Self::Messages => "openim",
        }
    }

    /// Code for a command that the service does not have (rest-overview.md section 5, step 1).
    pub(crate) const fn unknown_command(self) -> ErrorCode {
        match self {
            Self::Groups => ErrorCode::UnknownGroupCommand,
            Self::Accounts | Self::Extensions | Self::Messages | Self::DirectExtensions => {
                ErrorCode::UnknownCommand
            }
        }
    }

    /// Code for a body that is no JSON object (rest-overview.md section 5, step 8).
    pub(crate) const fn bad_json(self) -> ErrorCode {
        match self {
            Self::Messages => ErrorCode::BadMessageJson,
            Self::Accounts | Self::Groups | Self::Extensions | Self::DirectExtensions => ErrorCode::BadJson,
        }
    }

    /// Code for a field that is missing or wrong.
    pub(crate) const fn bad_parameter(self) -> ErrorCode {
        match self {
            Self::Accounts => ErrorCode::BadAccountParameter,
            Self::Groups | Self::Extensions => ErrorCode::BadParameter,
            Self::Messages | Self::DirectExtensions => ErrorCode::BadMessageParameter,
        }
    }

    /// Code for a fault that is ours (rule 3.12).
    pub(crate) const fn internal(self) -> ErrorCode {
        match self {
            Self::Accounts => ErrorCode::AccountInternal,
            Self::Groups | Self::Extensions => ErrorCode::GroupInternal,
            Self::Messages => ErrorCode::MessageInternal,
            Self::DirectExtensions => ErrorCode::DirectExtensionInternal,
        }
    }

    /// Code for a fault that is ours, passes, and has changed nothing.
    pub(crate) const fn busy(self) -> ErrorCode {
        match self {
            Self::DirectExtensions => ErrorCode::DirectExtensionBusy,
            Self::Accounts | Self::Groups | Self::Extensions | Self::Messages => self.internal(),
        }
    }

    /// Whether each of its commands asks the store one thing, so that the caller's account is looked up along with that.
    pub(crate) const fn asks_once(self) -> bool {
        matches!(self, Self::Extensions)
    }

    /// Whether accounts that are no administrators may call it (rest-overview.md section 4).
    pub(crate) const fn is_open_to_members(self) -> bool {
        matches!(self, Self::Extensions | Self::DirectExtensions)
    }
}

/// One command.
pub(crate) struct Endpoint {
    /// Its service.
    pub(crate) service: Service,
    /// Its name, the last part of the URL.
    pub(crate) command: &'static str,
    /// What it does.
    pub(crate) handle: Handler,
}

/// Parses a body, executes the command, answers with the body of a success.
pub(crate) type Handler = for<'a> fn(&'a Call, Object<'a>) -> BoxFuture<'a, Result<Bytes, Fault>>;

/// One line for each command: its service and the file that holds it, which is named like the command.
macro_rules! endpoints {
    ($(#[$doc:meta])* $list:ident: $($service:ident $room:ident::$command:ident,)*) => {
        $(#[$doc])*
        pub(crate) static $list: &[Endpoint] = &[$(Endpoint {
            service: Service::$service,
            command: stringify!($command),
            handle: |call, body| $room::$command::handle(call, body).map_ok(Into::into).boxed(),
        },)*];
    };
}

endpoints! {
    /// All commands of the REST API. The place of a command in this list is its number in frequency limits.
    ENDPOINTS:

    Extensions extensions::group_set_key_values,
    Extensions extensions::group_get_key_values,
    DirectExtensions extensions::set_key_values,
    DirectExtensions extensions::get_key_values,

    Accounts accounts::account_import,
    Accounts accounts::multiaccount_import,
    Accounts accounts::account_check,
    Accounts accounts::account_delete,

    Groups groups::create_group,
    Groups groups::get_group_info,
    Groups groups::get_group_member_info,
    Groups groups::modify_group_base_info,
    Groups groups::add_group_member,
    Groups groups::delete_group_member,
    Groups groups::destroy_group,
    Groups groups::get_joined_group_list,
    Groups groups::get_role_in_group,
    Groups groups::change_group_owner,
    Groups groups::import_group,
    Groups groups::import_group_member,

    Groups messages::send_group_msg,
    Groups messages::group_msg_get_simple,
    Groups messages::group_msg_recall,
    Groups messages::import_group_msg,

    Messages direct::sendmsg,
    Messages direct::admin_msgwithdraw,
    Messages direct::admin_getroammsg,
}

endpoints! {
    /// Commands that only accounts on the long connection call (long-connection.md section 5).
    CONNECTED_ENDPOINTS:

    Groups groups::get_group_self_member_info,
    Groups messages::group_msg_get,
}

/// Commands of the REST API that accounts on the long connection call too. Each handler knows by the kind of its caller
/// what an account may do for itself.
pub(crate) const SHARED_WITH_CONNECTED: &[(Service, &str)] = &[
    (Service::Extensions, "group_set_key_values"),
    (Service::Extensions, "group_get_key_values"),
    (Service::DirectExtensions, "set_key_values"),
    (Service::DirectExtensions, "get_key_values"),
    (Service::Groups, "get_joined_group_list"),
    (Service::Groups, "send_group_msg"),
    (Service::Messages, "sendmsg"),
];

/// Service and name of every command, as in the URL `/v4/<service>/<command>`.
pub fn commands() -> impl Iterator<Item = (&'static str, &'static str)> {
    ENDPOINTS.iter().map(|endpoint| (endpoint.service.name(), endpoint.command))
}

/// An app as the commands see it.
pub(crate) struct App {
    pub(crate) id: AppId,
    /// Keys that a UserSig may be signed with.
    pub(crate) keys: Vec<Secret>,
    pub(crate) administrators: Vec<UserId>,
    /// Whether its plan includes extensions (rule 3.11).
    pub(crate) ultimate: bool,
}

/// What every command has at hand: who calls, when, and the way to the store.
pub(crate) struct Call {
    pub(crate) app: Arc<App>,
    pub(crate) operator: Operator,
    /// Whom the store has yet to find, and whose number is not in `operator` before; only where the service
    /// [asks once](Service::asks_once).
    pub(crate) pending: Option<Pending>,
    pub(crate) at: Timestamp,
    pub(crate) limits: Limits,
    pub(crate) store: Arc<dyn Store>,
    /// Who asks the app first; `None`: it is never asked.
    pub(crate) before: Option<Arc<Before>>,
}

impl Call {
    pub(crate) fn app_id(&self) -> AppId {
        self.app.id
    }

    pub(crate) fn is_administrator(&self) -> bool {
        self.operator.kind == CallerKind::Administrator
    }

    /// Does the call come over the long connection?
    pub(crate) fn is_connected(&self) -> bool {
        self.operator.kind == CallerKind::Connected
    }

    /// On the long connection an account speaks for itself alone, whatever account the field of this name holds.
    pub(crate) fn require_self(&self, field: &str, user: &UserId) -> Result<(), Fault> {
        if self.is_connected() && *user != self.operator.user {
            let info = format!("{field} names another account than the one that is logged in");
            return Err(Fault::Code(ErrorCode::NoPermission, info));
        }
        Ok(())
    }

    /// Is this account one of the app's administrators?
    pub(crate) fn names_administrator(&self, user: &UserId) -> bool {
        self.app.administrators.contains(user)
    }

    pub(crate) fn group(&self, group: &GroupId) -> ConversationId {
        ConversationId::group(self.app_id(), group.clone())
    }

    pub(crate) fn account(&self, user: &UserId) -> AccountId {
        AccountId { app: self.app_id(), user: user.clone() }
    }

    /// Carries out a change of a group.
    pub(crate) async fn change_group(&self, group: &GroupId, action: GroupAction) -> Result<Outcome, Fault> {
        self.execute(self.operator.clone(), Action::Group(self.group(group), action)).await
    }

    /// Carries out a change of a group for which the request names another operator than the caller.
    pub(crate) async fn change_group_as(
        &self,
        operator: UserId,
        group: &GroupId,
        action: GroupAction,
    ) -> Result<Outcome, Fault> {
        let operator = Operator { user: operator, ..self.operator.clone() };
        self.execute(operator, Action::Group(self.group(group), action)).await
    }

    /// Carries out a change of the conversation of two accounts.
    pub(crate) async fn change_direct(&self, peers: Peers, action: DirectAction) -> Result<Outcome, Fault> {
        self.execute(self.operator.clone(), Action::Direct(Box::new(peers), action)).await
    }

    /// Carries out a change of an account.
    pub(crate) async fn change_account(
        &self,
        user: &UserId,
        action: AccountAction,
    ) -> Result<Outcome, Fault> {
        self.execute(self.operator.clone(), Action::Account(self.account(user), action)).await
    }

    /// Asks the store.
    pub(crate) async fn ask<Q: Ask + Send>(&self, question: Q) -> Result<Q::Answer, Fault> {
        match self.pending.as_ref().and_then(Pending::take) {
            Some(caller) => {
                let answer = self.store.ask_by(caller, question).await?;
                answer.ok_or(Fault::Plain(ErrorCode::CallerUnknown))
            }
            None => Ok(self.store.ask(question).await?),
        }
    }

    /// The accounts of these names, in the same order.
    pub(crate) async fn accounts(&self, users: &[UserId]) -> Result<Vec<Option<Arc<Account>>>, Fault> {
        self.ask(Accounts { ids: users.iter().map(|user| self.account(user)).collect() }).await
    }

    /// The account of this name.
    pub(crate) async fn find_account(&self, user: &UserId) -> Result<Option<Arc<Account>>, Fault> {
        Ok(self.accounts(std::slice::from_ref(user)).await?.pop().flatten())
    }

    async fn execute(&self, mut operator: Operator, mut action: Action) -> Result<Outcome, Fault> {
        if let Some(before) = &self.before {
            // No app is asked about what an unknown account wants.
            if let Some(pending) = &self.pending
                && before.asks(self.app_id())
            {
                operator.tiny_id = pending.look_up(&*self.store).await?.or(operator.tiny_id);
            }
            match before.ask(self, &operator, &mut action).await {
                Verdict::Go => {}
                // Only a message is dropped so: its sender learns no number, as for one that is not stored.
                Verdict::Drop => return Ok(Outcome::Sent(Sent { name: None, at: self.at })),
                Verdict::Refuse(fault) => return Err(fault),
            }
        }
        let command = Command { operator, at: self.at, action };
        let verdict = match self.pending.as_ref().and_then(Pending::take) {
            Some(caller) => {
                let verdict = self.store.execute_by(caller, command).await?;
                verdict.ok_or(Fault::Plain(ErrorCode::CallerUnknown))?
            }
            None => self.store.execute(command).await?,
        };
        Ok(verdict?)
    }
}

/// 64 fresh random bits, for numbers that the rules want drawn and not counted.
pub(crate) fn random_bits() -> u64 {
    rand::random()
}

/// The store answered a command with the outcome of another one, which only a bug can do.
pub(crate) fn unexpected(outcome: &Outcome) -> ! {
    // Only its kind is told: panics are logged, and logs hold no values.
    panic!("a command has the outcome of its own kind, not {:?}", std::mem::discriminant(outcome))
}

#[cfg(test)]
mod tests {
    use sidenote_core::decide::{Extended, ItemOutcome, ItemVerdict};
    use sidenote_core::extension::{Key, Pair, Seq, Value};

    use super::*;

    #[test]
    fn a_panic_over_an_outcome_shows_no_pair() {
        let pair = Pair {
            key: Key::new("my-key").unwrap(),
            value: Some(Value::new("my-value").unwrap()),
            seq: Seq::NEVER,
        };
        let items = vec![ItemOutcome { verdict: ItemVerdict::Accepted, pair }];
        let outcome = Outcome::Extended(Extended { latest: Seq::NEVER, items });
        let panic = std::panic::catch_unwind(|| unexpected(&outcome)).unwrap_err();
        let text = panic.downcast_ref::<String>().unwrap();
        assert!(!text.contains("my-key") && !text.contains("my-value"), "{text}");
    }
}
