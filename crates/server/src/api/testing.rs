//! Commands without HTTP around them: a call over a volatile store, and what a caller would read.

use std::sync::Arc;

use serde_json::Value;
use sidenote_core::command::{AccountAction, GroupAction, NewGroup};
use sidenote_core::event::{CallerKind, Operator, Platform};
use sidenote_core::group::{ApplyJoin, GroupProfile, GroupType, InviteJoin};
use sidenote_core::ids::{AppId, GroupId, Incarnation, Timestamp, TinyId, UserId};
use sidenote_core::{Limits as RuleLimits, decide};
use sidenote_store::Store;
use sidenote_store::caller::Caller;
use sidenote_store::memory::MemoryStore;

use crate::api::{App, Call, ENDPOINTS, Pending};
use crate::config::Config;
use crate::webhooks::Before;
use crate::wire::envelope;
use crate::wire::json::Document;

/// An app of its own in a volatile store. The administrator's account exists, as it does in a running server.
pub(crate) struct World {
    store: Arc<dyn Store>,
    app: Arc<App>,
    /// Who asks the app before something happens.
    pub(crate) before: Option<Arc<Before>>,
    /// The time of the next calls, Unix seconds.
    pub(crate) now: u64,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::over(Arc::new(MemoryStore::new(RuleLimits::default()))).await
    }

    /// The same over a store of the test's own.
    pub(crate) async fn over(store: Arc<dyn Store>) -> Self {
        let administrator = user("administrator");
        let app = App {
            id: AppId::new(1_400_000_001),
            keys: Vec::new(),
            administrators: vec![administrator.clone()],
            ultimate: true,
        };
        let world = Self { store, app: Arc::new(app), before: None, now: 1_700_000_000 };
        let import = AccountAction::Import { tiny_id: TinyId::from_random(1), nick: None, face_url: None };
        let call = world.call("administrator");
        let outcome = call.change_account(&administrator, import).await;
        assert!(matches!(outcome, Ok(decide::Outcome::Done)));
        world
    }

    /// A call by this account: an administrator if the app says so.
    pub(crate) fn call(&self, caller: &str) -> Call {
        let user = user(caller);
        let kind = if self.app.administrators.contains(&user) {
            CallerKind::Administrator
        } else {
            CallerKind::Member
        };
        Call {
            app: Arc::clone(&self.app),
            operator: Operator { user, tiny_id: None, kind, platform: Platform::RestApi, address: None },
            pending: None,
            at: Timestamp::from_secs(self.now),
            limits: limits(),
            store: Arc::clone(&self.store),
            before: self.before.clone(),
        }
    }

    /// The administrator calls a command; the whole answer.
    pub(crate) async fn post(&self, command: &str, body: &str) -> Value {
        self.answer(&self.call("administrator"), command, body).await
    }

    /// An account calls a command in this way; the whole answer.
    pub(super) async fn post_as(&self, caller: &str, kind: CallerKind, command: &str, body: &str) -> Value {
        let mut call = self.call(caller);
        call.operator.kind = kind;
        let account = call.find_account(&call.operator.user).await.expect("a volatile store answers");
        call.operator.tiny_id = account.map(|account| account.tiny_id);
        self.answer(&call, command, body).await
    }

    /// A member calls a command, and the store has yet to say whether there is such an account; the whole answer.
    pub(crate) async fn post_unseen(&self, caller: &str, command: &str, body: &str) -> Value {
        let mut call = self.call(caller);
        call.pending = Some(Pending::new(Caller { account: call.account(&user(caller)), tiny_id: None }));
        self.answer(&call, command, body).await
    }

    async fn answer(&self, call: &Call, command: &str, body: &str) -> Value {
        let endpoint = ENDPOINTS.iter().find(|endpoint| endpoint.command == command).expect("a command");
        let document = Document::parse(body.as_bytes()).expect("a test writes JSON");
        let answer = match (endpoint.handle)(call, document.root()).await {
            Ok(answer) => answer,
            Err(fault) => {
                envelope::failure(fault.number(endpoint.service), &fault.info(endpoint.service)).into()
            }
        };
        serde_json::from_slice(&answer).expect("an answer is JSON")
    }

    /// The administrator calls a command that must succeed.
    pub(crate) async fn ok(&self, command: &str, body: &str) -> Value {
        let answer = self.post(command, body).await;
        assert_eq!(answer["ErrorCode"], 0, "{command} {body}: {answer}");
        assert_eq!(answer["ActionStatus"], "OK");
        answer
    }

    /// Imports accounts whose numbers are random.
    pub(crate) async fn import_accounts(&self, names: &[&str]) {
        let call = self.call("administrator");
        for name in names {
            let tiny_id = TinyId::from_random(crate::api::random_bits());
            let import = AccountAction::Import { tiny_id, nick: None, face_url: None };
            assert!(matches!(call.change_account(&user(name), import).await, Ok(decide::Outcome::Done)));
        }
    }

    /// Makes a group of this type that has neither owner nor members.
    pub(crate) async fn found_group(&self, id: &str, kind: GroupType) {
        let call = self.call("administrator");
        let new = NewGroup {
            incarnation: Incarnation::from_random(crate::api::random_bits()),
            kind,
            owner: None,
            profile: GroupProfile {
                name: id.to_owned(),
                introduction: String::new(),
                notification: String::new(),
                face_url: String::new(),
                max_members: None,
                apply_join: ApplyJoin::FreeAccess,
                invite_join: InviteJoin::FreeAccess,
                mute_all: false,
                history_before_join: true,
                custom: Vec::new(),
            },
            members: Vec::new(),
            created_at: call.at,
            imported: false,
        };
        let group = GroupId::new(id).expect("a test names sound groups");
        let outcome = call.change_group(&group, GroupAction::Create(Box::new(new))).await;
        assert!(matches!(outcome, Ok(decide::Outcome::Done)));
    }

    /// The code of a call by the administrator.
    pub(crate) async fn code(&self, command: &str, body: &str) -> u64 {
        self.post(command, body).await["ErrorCode"].as_u64().expect("an answer has a code")
    }
}

pub(crate) fn user(name: &str) -> UserId {
    UserId::new(name).expect("a test names sound accounts")
}

/// The limits that a configuration without `[limits]` has.
fn limits() -> crate::config::Limits {
    let minimal = "[[apps]]\nsdk_app_id = 1400000001\nsecret_key = \"k\"\n";
    Config::from_toml(minimal).expect("a minimal configuration").limits
}
