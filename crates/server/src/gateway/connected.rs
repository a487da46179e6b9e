//! The same commands for accounts on the long connection, and what a login needs.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::body::Bytes;
use futures_util::FutureExt;
use sidenote_core::account::Account;
use sidenote_core::event::{CallerKind, Operator, Platform};
use sidenote_core::ids::{AccountId, AppId, Timestamp, TinyId, UserId};
use sidenote_core::query::Accounts;
use sidenote_store::caller::Caller;
use tokio::time::Instant;

use super::{Gateway, log, signature_code};
use crate::api::{
    App, CONNECTED_ENDPOINTS, Call, ENDPOINTS, Endpoint, Fault, Pending, SHARED_WITH_CONNECTED, Service,
};
use crate::auth::user_sig::Verified;
use crate::wire::envelope;
use crate::wire::error_code::ErrorCode;
use crate::wire::json::Object;

/// An account that is logged in on the long connection. It is never more than a member of its groups, even if the app
/// counts it among its administrators.
#[derive(Clone)]
pub(crate) struct Connected {
    pub(crate) app: Arc<App>,
    pub(crate) user: UserId,
    pub(crate) tiny_id: TinyId,
    pub(crate) address: IpAddr,
}

/// A command that connected accounts may call.
#[derive(Clone, Copy)]
pub(crate) enum ConnectedCommand {
    /// One of the REST API's, by its number.
    Shared(usize),
    /// One of their own, by its number.
    Own(usize),
}

impl ConnectedCommand {
    /// The command of this service and name, or the code for one that there is not.
    pub(crate) fn find(service: &str, command: &str) -> Result<Self, ErrorCode> {
        let service = Service::named(service).ok_or(ErrorCode::UnknownCommand)?;
        // By name, for one name stands for the extensions of groups and of one-to-one messages.
        let is_meant = |of: Service, name: &str| of.name() == service.name() && name == command;
        let place =
            |list: &[Endpoint]| list.iter().position(|endpoint| is_meant(endpoint.service, endpoint.command));
        if SHARED_WITH_CONNECTED.iter().any(|(of, name)| is_meant(*of, name))
            && let Some(number) = place(ENDPOINTS)
        {
            return Ok(Self::Shared(number));
        }
        place(CONNECTED_ENDPOINTS).map(Self::Own).ok_or_else(|| service.unknown_command())
    }

    fn endpoint(self) -> &'static Endpoint {
        match self {
            Self::Shared(number) => &ENDPOINTS[number],
            Self::Own(number) => &CONNECTED_ENDPOINTS[number],
        }
    }
}

impl Gateway {
    /// The app with this SDKAppID.
    pub(crate) fn app(&self, id: AppId) -> Option<Arc<App>> {
        let place = self.apps.binary_search_by_key(&id, |served| served.app.id).ok()?;
        Some(Arc::clone(&self.apps[place].app))
    }

    /// What the clock says.
    pub(crate) fn time(&self) -> Timestamp {
        self.now()
    }

    /// Checks the ticket of a login; who it is, and what the ticket has proved.
    pub(crate) fn verify_login(
        &self,
        app: &App,
        name: &str,
        user_sig: &str,
    ) -> Result<(UserId, Verified), Fault> {
        let verified = self
            .signatures
            .verify(user_sig, app.id.get(), name, &app.keys, self.now().secs())
            .map_err(|error| Fault::Code(signature_code(error), error.to_string()))?;
        let user = UserId::new(name).map_err(|malformed| {
            Fault::Code(ErrorCode::BadQuery, format!("identifier {malformed}; it can be no UserID"))
        })?;
        Ok((user, verified))
    }

    /// The account of this name.
    pub(crate) async fn account(&self, id: AccountId) -> Result<Option<Arc<Account>>, Fault> {
        Ok(self.store.ask(Accounts { ids: vec![id] }).await?.pop().flatten())
    }

    /// Carries out a command; the whole body of the answer.
    pub(crate) async fn run_connected(
        &self,
        caller: &Connected,
        command: ConnectedCommand,
        body: Object<'_>,
    ) -> Bytes {
        let begun = Instant::now();
        let endpoint = command.endpoint();
        let outcome = self.try_connected(caller, command, body).await;
        let (code, answer) = match outcome {
            Ok(answer) => (0, answer),
            Err(fault) => {
                let number = fault.number(endpoint.service);
                log(self.request_ids.next(), endpoint.command, fault.code(endpoint.service), &fault);
                (number, envelope::failure(number, &fault.info(endpoint.service)).into())
            }
        };
        let metrics = match command {
            ConnectedCommand::Shared(number) => &self.commands[number],
            ConnectedCommand::Own(number) => &self.connected_commands[number],
        };
        metrics.request(code, begun.elapsed());
        answer
    }

    async fn try_connected(
        &self,
        caller: &Connected,
        command: ConnectedCommand,
        body: Object<'_>,
    ) -> Result<Bytes, Fault> {
        if let ConnectedCommand::Shared(number) = command
            && let Ok(place) = self.apps.binary_search_by_key(&caller.app.id, |served| served.app.id)
            && !self.apps[place].frequency.admits(number)
        {
            return Err(Fault::Plain(ErrorCode::TooManyCalls));
        }
        let endpoint = command.endpoint();
        // Whoever has the name now may be somebody else. The connection hears of it too, but perhaps later.
        let account = AccountId { app: caller.app.id, user: caller.user.clone() };
        let pending = Pending::new(Caller { account, tiny_id: Some(caller.tiny_id) });
        if !endpoint.service.asks_once() {
            pending.look_up(&*self.store).await?;
        }
        let call = Call {
            app: Arc::clone(&caller.app),
            operator: Operator {
                user: caller.user.clone(),
                tiny_id: Some(caller.tiny_id),
                kind: CallerKind::Connected,
                platform: Platform::Web,
                address: Some(caller.address),
            },
            pending: Some(pending),
            at: self.now(),
            limits: self.limits,
            store: Arc::clone(&self.store),
            before: self.before.clone(),
        };
        // A bug in a command must cost one answer and not the connection.
        let answer = AssertUnwindSafe((endpoint.handle)(&call, body)).catch_unwind().await;
        let answer = answer.unwrap_or_else(|_| {
            Err(Fault::Code(endpoint.service.internal(), "the command panicked".to_owned()))
        });
        // That the caller is unknown is told before anything that is wrong with the command (rule 3.12).
        if let (Err(_), Some(pending)) = (&answer, &call.pending) {
            pending.look_up(&*self.store).await?;
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shared_command_is_one_of_the_rest_api() {
        for (service, command) in SHARED_WITH_CONNECTED {
            let found = ConnectedCommand::find(service.name(), command);
            assert!(matches!(found, Ok(ConnectedCommand::Shared(_))), "{command}");
        }
    }

    #[test]
    fn accounts_cannot_call_what_is_for_administrators() {
        for (service, command, code) in [
            ("group_open_http_svc", "destroy_group", ErrorCode::UnknownGroupCommand),
            ("group_open_http_svc", "", ErrorCode::UnknownGroupCommand),
            ("im_open_login_svc", "account_delete", ErrorCode::UnknownCommand),
            ("openim_msg_ext_http_svc", "send_group_msg", ErrorCode::UnknownCommand),
            ("openim", "admin_msgwithdraw", ErrorCode::UnknownCommand),
            ("openim", "admin_getroammsg", ErrorCode::UnknownCommand),
            ("no_such_service", "send_group_msg", ErrorCode::UnknownCommand),
        ] {
            assert_eq!(ConnectedCommand::find(service, command).err(), Some(code), "{service}.{command}");
        }
        let found = ConnectedCommand::find("group_open_http_svc", "group_msg_get");
        assert!(matches!(found, Ok(ConnectedCommand::Own(_))));
    }
}
