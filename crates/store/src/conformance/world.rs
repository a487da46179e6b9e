//! What scenarios are told with: an app of a store, in few words.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use sidenote_core::command::{
    AccountAction, Action, Claim, Command, DirectAction, Extend, GroupAction, Items, NewDirectMessage,
    NewGroup, NewMember, NewMessage,
};
use sidenote_core::debt::Debt;
use sidenote_core::decide::Extended;
use sidenote_core::direct::{Party, Peers};
use sidenote_core::event::{CallerKind, Event, Operator, Platform};
use sidenote_core::extension::{Key, Seq, Value};
use sidenote_core::group::{ApplyJoin, GroupProfile, GroupType, InviteJoin, Role};
use sidenote_core::ids::{
    AccountId, AppId, ConversationId, EventNumber, GroupId, Incarnation, MessageName, MsgKey, MsgSeq,
    Timestamp, TinyId, UserId,
};
use sidenote_core::message::{Fingerprint, MessageBody, Priority, Sent};
use sidenote_core::query::{
    Accounts, DescribeDirect, DescribeGroup, DirectHistory, DirectPage, DirectPull, DirectView, DueDebts,
    Events, JoinedGroups, ListMembers, Pull, PullPage,
};
use sidenote_core::{Outcome, Refusal};

use crate::{Committed, Store, debts};

/// One app of a store, with a clock that stands still until it is moved.
#[derive(Clone)]
pub(super) struct World {
    pub(super) store: Arc<dyn Store>,
    pub(super) app: AppId,
    /// Which conversation lived under which number, as far as that was asked.
    lives: Arc<Mutex<HashMap<Incarnation, ConversationId>>>,
    clock: Arc<AtomicU64>,
    drawn: Arc<AtomicU64>,
}

impl World {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        let clock = Arc::new(AtomicU64::new(1_700_000_000_000));
        Self { store, app: AppId::new(1), lives: Arc::default(), clock, drawn: Arc::default() }
    }

    /// Another app of the same store.
    pub(super) fn other_app(&self) -> Self {
        Self { app: AppId::new(2), ..self.clone() }
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.clock.load(Ordering::SeqCst))
    }

    pub(super) fn wait(&self, millis: u64) {
        self.clock.fetch_add(millis, Ordering::SeqCst);
    }

    /// A number that was not drawn before, spread over all 64 bits.
    pub(super) fn draw(&self) -> u64 {
        (self.drawn.fetch_add(1, Ordering::SeqCst) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    pub(super) fn command(&self, action: Action) -> Command {
        Command { operator: administrator(), at: self.now(), action }
    }

    /// An administrator does something, and sees it done.
    pub(super) async fn act(&self, action: Action) -> Result<Outcome, Refusal> {
        self.store.execute(self.command(action)).await.expect("the store works")
    }

    pub(super) async fn act_on(&self, group: &str, action: GroupAction) -> Result<Outcome, Refusal> {
        self.act(Action::Group(self.group_id(group), action)).await
    }

    /// The same, but what it owes stays owed.
    pub(super) async fn only_commit(&self, group: &str, action: GroupAction) -> Committed {
        let command = self.command(Action::Group(self.group_id(group), action));
        self.store.commit(command).await.expect("the store works")
    }

    pub(super) fn group_id(&self, group: &str) -> ConversationId {
        ConversationId::group(self.app, group_name(group))
    }

    pub(super) fn account_id(&self, name: &str) -> AccountId {
        AccountId { app: self.app, user: user(name) }
    }

    pub(super) async fn import(&self, name: &str) -> TinyId {
        let tiny_id = TinyId::from_random(self.draw());
        let import = AccountAction::Import { tiny_id, nick: None, face_url: None };
        let done = self.act(Action::Account(self.account_id(name), import)).await;
        assert_eq!(done, Ok(Outcome::Done));
        self.tiny_id(name).await.expect("it was imported just now")
    }

    pub(super) async fn delete_account(&self, name: &str) {
        let done = self.act(Action::Account(self.account_id(name), AccountAction::Delete)).await;
        assert_eq!(done, Ok(Outcome::Done));
    }

    pub(super) async fn tiny_id(&self, name: &str) -> Option<TinyId> {
        let question = Accounts { ids: vec![self.account_id(name)] };
        let accounts = self.store.ask(question).await.expect("the store works");
        assert_eq!(accounts.len(), 1, "one answer for one account");
        accounts[0].as_ref().map(|account| account.tiny_id)
    }

    /// A member to be. Its account is made if there is none.
    pub(super) async fn member(&self, name: &str) -> NewMember {
        let tiny_id = match self.tiny_id(name).await {
            Some(tiny_id) => tiny_id,
            None => self.import(name).await,
        };
        let user = user(name);
        NewMember { user, tiny_id, role: Role::Member, joined_at: None, unread: 0, custom: Vec::new() }
    }

    pub(super) async fn creation(&self, owner: Option<&str>, members: &[&str]) -> NewGroup {
        let owner = match owner {
            Some(name) => Some(NewMember { role: Role::Owner, ..self.member(name).await }),
            None => None,
        };
        let mut first = Vec::with_capacity(members.len());
        for name in members {
            first.push(self.member(name).await);
        }
        NewGroup {
            incarnation: Incarnation::from_random(self.draw()),
            kind: GroupType::Public,
            owner,
            profile: profile(),
            members: first,
            created_at: self.now(),
            imported: false,
        }
    }

    pub(super) async fn create(&self, group: &str, members: &[&str]) {
        let new = self.creation(None, members).await;
        let done = self.act_on(group, GroupAction::Create(Box::new(new))).await;
        assert_eq!(done, Ok(Outcome::Done));
    }

    pub(super) async fn add(&self, group: &str, name: &str) -> Result<Outcome, Refusal> {
        let members = vec![self.member(name).await];
        self.act_on(group, GroupAction::AddMembers { members, imported: false }).await
    }

    pub(super) async fn remove(&self, group: &str, name: &str) -> Result<Outcome, Refusal> {
        let users = vec![user(name)];
        self.act_on(group, GroupAction::RemoveMembers { users, reason: String::new() }).await
    }

    pub(super) async fn members(&self, group: &str) -> Result<Vec<String>, Refusal> {
        let question = ListMembers { id: self.group_id(group) };
        let members = self.store.ask(question).await.expect("the store works")?;
        let counted = self.describe(group).await.map(|view| view.counters.members);
        assert_eq!(counted, u32::try_from(members.len()).ok(), "the count of members");
        Ok(members.into_iter().map(|(user, _)| user.to_string()).collect())
    }

    pub(super) async fn describe(&self, group: &str) -> Option<sidenote_core::group::GroupView> {
        let id = self.group_id(group);
        let view = self.store.ask(DescribeGroup { id: id.clone() }).await.expect("the store works");
        if let Some(view) = &view {
            self.lives().insert(view.group.incarnation, id);
        }
        view
    }

    pub(super) async fn incarnation(&self, group: &str) -> Incarnation {
        self.describe(group).await.expect("the group exists").group.incarnation
    }

    /// The groups of an account, read page by page.
    pub(super) async fn joined(&self, name: &str, limit: usize) -> Vec<String> {
        let (mut names, mut after) = (Vec::new(), None);
        loop {
            let question = JoinedGroups { account: self.account_id(name), after, limit };
            let page = self.store.ask(question).await.expect("the store works");
            assert!(page.lines.len() <= limit, "a page holds what was asked for");
            names.extend(page.groups.into_iter().map(|(group, ..)| group.to_string()));
            after = page.next;
            if after.is_none() {
                return names;
            }
        }
    }

    /// Lines of the list of an account's groups, those that lead nowhere included.
    pub(super) async fn lines(&self, name: &str) -> usize {
        let question = JoinedGroups { account: self.account_id(name), after: None, limit: 1000 };
        self.store.ask(question).await.expect("the store works").lines.len()
    }

    pub(super) fn message(&self, sender: &str, supports_extension: bool) -> NewMessage {
        let number = self.draw();
        NewMessage {
            sender: user(sender),
            sender_tiny_id: TinyId::from_random(number),
            sender_is_administrator: true,
            random: u32::try_from(number >> 32).expect("32 bits are left"),
            client_time: None,
            sent_at: None,
            priority: Priority::Normal,
            supports_extension,
            online_only: false,
            body: MessageBody { elements: "[]".to_owned(), ..MessageBody::default() },
            fingerprint: Fingerprint(u128::from(number).to_be_bytes()),
        }
    }

    /// Sends a message that may carry pairs, or may not; its number.
    pub(super) async fn send(&self, group: &str, supports_extension: bool) -> u64 {
        let message = self.message("ann", supports_extension);
        self.send_this(group, message).await.expect("a message of history has a number")
    }

    pub(super) async fn send_this(&self, group: &str, message: NewMessage) -> Option<u64> {
        match self.act_on(group, GroupAction::Send(Box::new(message))).await {
            Ok(Outcome::Sent(sent)) => sent.seq().map(MsgSeq::get),
            other => panic!("a message is not answered by {other:?}"),
        }
    }

    pub(super) async fn recall(&self, group: &str, seq: u64) -> bool {
        let recall = GroupAction::Recall { seqs: vec![msg_seq(seq)], reason: String::new() };
        match self.act_on(group, recall).await {
            Ok(Outcome::Recalled(recalled)) => recalled == [(msg_seq(seq), true)],
            other => panic!("a recall is not answered by {other:?}"),
        }
    }

    pub(super) async fn extend(
        &self,
        operator: Operator,
        group: &str,
        seq: u64,
        extend: Extend,
    ) -> Result<Extended, Refusal> {
        let action = Action::Group(self.group_id(group), GroupAction::Extend(msg_seq(seq), extend));
        let command = Command { operator, at: self.now(), action };
        match self.store.execute(command).await.expect("the store works")? {
            Outcome::Extended(extended) => Ok(extended),
            other => panic!("a change of a set is not answered by {other:?}"),
        }
    }

    /// An administrator sets one pair; `LatestSeq` afterwards.
    pub(super) async fn set(&self, group: &str, seq: u64, key: &str, value: &str) -> Result<u64, Refusal> {
        let extended = self.extend(administrator(), group, seq, set(key, value, Claim::Unchecked)).await?;
        Ok(extended.latest.get())
    }

    pub(super) async fn pull(
        &self,
        operator: Operator,
        group: &str,
        seq: u64,
        start: u64,
        tombstones: bool,
    ) -> Result<PullPage, Refusal> {
        let start = Seq::new(start).expect("tests count less far");
        let question = Pull { id: self.group_id(group), seq: msg_seq(seq), operator, start, tombstones };
        self.store.ask(question).await.expect("the store works")
    }

    /// The live pairs of a message as key, value and Seq, read page by page.
    pub(super) async fn pairs(&self, group: &str, seq: u64) -> Vec<(String, String, u64)> {
        let (mut pairs, mut start) = (Vec::new(), 0);
        loop {
            let page = self.pull(administrator(), group, seq, start, false).await.expect("it may be read");
            let plain = page.pairs.iter().filter_map(|pair| {
                let value = pair.value.as_ref()?.as_str().to_owned();
                Some((pair.key.as_str().to_owned(), value, pair.seq.get()))
            });
            pairs.extend(plain);
            if page.complete {
                return pairs;
            }
            start = pairs.last().expect("a page that does not say it is the last is not empty").2 + 1;
        }
    }

    /// Two accounts as they are now, who writes to whom. They are made if there are none.
    pub(super) async fn peers(&self, from: &str, to: &str) -> Peers {
        let [from, to] = [self.member(from).await, self.member(to).await]
            .map(|member| Party { user: member.user, tiny_id: member.tiny_id });
        Peers { app: self.app, from, to }
    }

    /// A message between two accounts; the same one for the same numbers and text.
    pub(super) fn letter(&self, from: &str, seq: u32, random: u32, text: &str) -> NewDirectMessage {
        let sides = u128::from(from == "ann") << 120;
        let hash = text.bytes().fold(u128::from(seq) << 32 | u128::from(random), |hash, byte| {
            hash.wrapping_mul(257).wrapping_add(u128::from(byte))
        });
        NewDirectMessage {
            incarnation: Incarnation::from_random(self.draw()),
            seq,
            random,
            client_time: None,
            supports_extension: true,
            online_only: false,
            body: MessageBody { elements: format!("[{text:?}]"), ..MessageBody::default() },
            fingerprint: Fingerprint((hash & (u128::MAX >> 16) | sides).to_be_bytes()),
        }
    }

    /// An administrator does something between two accounts.
    pub(super) async fn act_between(&self, peers: &Peers, action: DirectAction) -> Result<Outcome, Refusal> {
        self.act(Action::Direct(Box::new(peers.clone()), action)).await
    }

    pub(super) async fn write(&self, peers: &Peers, letter: NewDirectMessage) -> Result<MsgKey, Refusal> {
        match self.act_between(peers, DirectAction::Send(Box::new(letter))).await? {
            Outcome::Sent(Sent { name: Some(MessageName::Key(key)), .. }) => Ok(key),
            other => panic!("a message is not answered by {other:?}"),
        }
    }

    pub(super) async fn extend_between(
        &self,
        operator: Operator,
        peers: &Peers,
        key: MsgKey,
        extend: Extend,
    ) -> Result<Extended, Refusal> {
        let action = Action::Direct(Box::new(peers.clone()), DirectAction::Extend(key, extend));
        let command = Command { operator, at: self.now(), action };
        match self.store.execute(command).await.expect("the store works")? {
            Outcome::Extended(extended) => Ok(extended),
            other => panic!("a change of a set is not answered by {other:?}"),
        }
    }

    pub(super) async fn pull_between(
        &self,
        operator: Operator,
        peers: &Peers,
        key: MsgKey,
        start: u64,
        tombstones: bool,
    ) -> Result<PullPage, Refusal> {
        let (peers, start) = (peers.clone(), Seq::new(start).expect("tests count less far"));
        let question = DirectPull { peers, key, operator, start, tombstones };
        self.store.ask(question).await.expect("the store works")
    }

    pub(super) async fn describe_between(&self, peers: &Peers) -> Option<DirectView> {
        let view = self.store.ask(DescribeDirect { id: peers.id() }).await.expect("the store works");
        if let Some(view) = &view {
            self.lives().insert(view.direct.incarnation, peers.id());
        }
        view
    }

    /// A page of what two accounts wrote, of these seconds, as an administrator reads it.
    pub(super) async fn letters(
        &self,
        peers: &Peers,
        (from, to): (u64, u64),
        after: Option<MsgKey>,
        limit: usize,
    ) -> DirectPage {
        let (peers, operator) = (peers.clone(), administrator());
        let question = DirectHistory { peers, operator, from, to, after, limit };
        self.store.ask(question).await.expect("the store works").expect("an administrator may read it")
    }

    fn lives(&self) -> MutexGuard<'_, HashMap<Incarnation, ConversationId>> {
        self.lives.lock().expect("nothing panics while it holds this lock")
    }

    /// All events of an incarnation that are kept, read a few at a time. It must have been described before.
    pub(super) async fn events(&self, incarnation: Incarnation, after: u64) -> Vec<Arc<Event>> {
        let id = self.lives().get(&incarnation).cloned().expect("it was described before");
        let mut events: Vec<Arc<Event>> = Vec::new();
        loop {
            let after = events.last().map_or(EventNumber::new(after), |event| event.number);
            let question = Events { id: id.clone(), incarnation, after, limit: 7 };
            let page = self.store.ask(question).await.expect("the store works");
            assert!(page.events.len() <= 7, "a page holds what was asked for");
            if page.events.is_empty() {
                return events;
            }
            events.extend(page.events);
        }
    }

    /// Pays everything that is due by now.
    pub(super) async fn settle(&self) {
        let mut after = None;
        loop {
            let round = debts::pay_due(&*self.store, self.now(), after, 10).await.expect("the store works");
            assert_eq!(round.failure, None);
            after = round.next;
            if round.paid == 0 {
                return;
            }
        }
    }

    /// Everything that is owed, whenever it is due.
    pub(super) async fn owed(&self) -> Vec<Debt> {
        let by = Timestamp::from_millis(u64::MAX);
        self.store.ask(DueDebts { by, after: None, limit: 10_000 }).await.expect("the store works")
    }
}

pub(super) fn user(name: &str) -> UserId {
    UserId::new(name).expect("tests use sound names")
}

pub(super) fn group_name(name: &str) -> GroupId {
    GroupId::new(name).expect("tests use sound names")
}

pub(super) fn msg_seq(number: u64) -> MsgSeq {
    MsgSeq::new(number).expect("tests count from 1")
}

pub(super) fn administrator() -> Operator {
    let (user, platform) = (user("admin"), Platform::RestApi);
    Operator { user, tiny_id: None, kind: CallerKind::Administrator, platform, address: None }
}

pub(super) fn caller(name: &str, tiny_id: TinyId) -> Operator {
    let (user, tiny_id) = (user(name), Some(tiny_id));
    let address = Some("2001:db8::7".parse().expect("an address"));
    Operator { user, tiny_id, kind: CallerKind::Member, platform: Platform::RestApi, address }
}

pub(super) fn key(text: &str) -> Key {
    Key::new(text).expect("tests use sound keys")
}

pub(super) fn value(text: &str) -> Value {
    Value::new(text).expect("tests use sound values")
}

pub(super) fn saw(seq: u64) -> Claim {
    Claim::Saw(Seq::new(seq).expect("tests count less far"))
}

pub(super) fn set(name: &str, text: &str, claim: Claim) -> Extend {
    Extend::Set(Items::new(vec![((key(name), value(text)), claim)]).expect("one pair"))
}

pub(super) fn delete(name: &str, claim: Claim) -> Extend {
    Extend::Delete(Items::new(vec![(key(name), claim)]).expect("one key"))
}

fn profile() -> GroupProfile {
    GroupProfile {
        name: "lunch".to_owned(),
        introduction: String::new(),
        notification: String::new(),
        face_url: String::new(),
        max_members: Some(6000),
        apply_join: ApplyJoin::NeedPermission,
        invite_join: InviteJoin::FreeAccess,
        mute_all: false,
        history_before_join: true,
        custom: Vec::new(),
    }
}
