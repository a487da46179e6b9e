//! What clients ask for: a few people, groups, messages and keys, so that they meet all the time.

mod direct;
mod outboxes;

use sidenote_core::Limits;
use sidenote_core::command::{
    AccountAction, Action, Claim, Command, DirectAction, Extend, GroupAction, GroupPatch, Items, NewGroup,
    NewMember, NewMessage,
};
use sidenote_core::decide::Outcome;
use sidenote_core::direct::Peers;
use sidenote_core::event::{CallerKind, Operator, Platform};
use sidenote_core::extension::{Key, Seq, Value};
use sidenote_core::group::{ApplyJoin, GroupProfile, GroupType, InviteJoin, Role};
use sidenote_core::ids::{
    AccountId, AppId, ConversationId, EventNumber, GroupId, Incarnation, MsgKey, MsgSeq, Timestamp, TinyId,
    UserId,
};
use sidenote_core::message::{Fingerprint, MessageBody, Priority};
use sidenote_core::query::{
    Accounts, Answer, Ask, DescribeGroup, DueDebts, Events, FindMembers, History, JoinedGroups, ListMembers,
    Pull, Query,
};
use sidenote_core::refusal::Refusal;

use super::random::Random;

const APP: AppId = AppId::new(1_400_000_001);
const PEOPLE: [&str; 3] = ["ann", "bob", "cem"];
const GROUPS: [&str; 2] = ["@TGS#1", "@TGS#2"];
const KEYS: [&str; 5] = ["a", "b", "c", "d", "e"];
const MESSAGES: std::ops::Range<u64> = 1..4;

const BEGIN: u64 = 1_700_000_000_000;

/// From one command to the next, in milliseconds.
const STEP: u64 = 400;

/// Limits so low that a few commands meet them.
pub(super) fn limits() -> Limits {
    Limits {
        pairs_per_message: 3,
        tombstones_per_message: 2,
        pairs_per_pull: 2,
        attempts_per_minute: 40,
        events_kept: 12,
        webhook_apps: &[APP],
        untold_events_kept: 20,
        dead_letters_kept: 2,
        ..Limits::default()
    }
}

/// Commands are told apart by their times.
pub(super) fn number_of(command: &Command) -> u64 {
    (command.at.millis() - BEGIN) / STEP
}

fn command(number: u64, operator: Operator, action: Action) -> Command {
    Command { operator, at: Timestamp::from_millis(BEGIN + number * STEP), action }
}

/// What clients can name because they were told of it.
#[derive(Default)]
pub(super) struct Known {
    /// Lives of conversations.
    homes: Vec<(ConversationId, Incarnation)>,
    /// One-to-one messages, and who sent them to whom.
    letters: Vec<(Peers, MsgKey)>,
}

impl Known {
    /// Somebody asks for this. Whoever makes a group knows which life of it that would be.
    pub(super) fn asked(&mut self, command: &Command) {
        if let Action::Group(id, GroupAction::Create(new)) = &command.action {
            self.homes.push((id.clone(), new.incarnation));
        }
    }

    /// Somebody was told what became of a command.
    pub(super) fn decided(&mut self, command: &Command, verdict: &Result<Outcome, Refusal>) {
        if let (Action::Direct(peers, DirectAction::Send(_)), Ok(Outcome::Sent(sent))) =
            (&command.action, verdict)
        {
            self.letters.extend(sent.key().map(|key| (Peers::clone(peers), key)));
        }
    }

    /// Somebody was told the answer to a question.
    pub(super) fn answered(&mut self, query: &Query, answer: &Answer) {
        if let (Query::DescribeDirect(asked), Answer::DescribeDirect(Some(view))) = (query, answer) {
            let home = (asked.id.clone(), view.direct.incarnation);
            if !self.homes.contains(&home) {
                self.homes.push(home);
            }
        }
    }

    fn home(&self, random: &mut Random) -> Option<(ConversationId, Incarnation)> {
        if self.homes.is_empty() { None } else { Some(self.homes[random.index(self.homes.len())].clone()) }
    }

    /// Mostly one of the newest, so that clients meet.
    fn letter(&self, random: &mut Random) -> Option<(Peers, MsgKey)> {
        let count = self.letters.len();
        let newest = if random.one_in(4) { count } else { count.min(3) };
        if newest == 0 { None } else { Some(self.letters[count - 1 - random.index(newest)].clone()) }
    }
}

/// What a simulation begins with, so that most of what follows finds something.
pub(super) fn founding() -> Vec<Command> {
    let mut actions: Vec<_> = PEOPLE.iter().map(|name| import(name, false)).collect();
    actions.extend(GROUPS.iter().zip(1..).map(|(id, number)| create(id, number, "ann")));
    actions.extend([1, 2].map(|random| on(GROUPS[0], GroupAction::Send(Box::new(message("ann", random))))));
    actions.push(on(GROUPS[1], GroupAction::Send(Box::new(message("ann", 1)))));
    actions.push(direct::first());
    (1..).zip(actions).map(|(number, action)| command(number, administrator(), action)).collect()
}

/// Any command.
pub(super) fn any_command(random: &mut Random, number: u64, known: &Known) -> Command {
    let name = random.pick(&PEOPLE);
    let action = match random.within(0..40) {
        0 => import(name, random.one_in(2)),
        1 if random.one_in(2) => Action::Account(account(name), AccountAction::Delete),
        2 | 3 => create(random.pick(&GROUPS), number, name),
        4..=11 => direct::any_action(random, number, known),
        12 | 13 => outboxes::any_action(random, number, known),
        _ => {
            // Mostly the same group.
            let id = random.pick(&GROUPS);
            on(id, group_action(random, name))
        }
    };
    let operator = if random.one_in(3) {
        let user = user(random.pick(&PEOPLE));
        let tiny_id = Some(tiny_id(user.as_str(), false));
        Operator { user, tiny_id, kind: CallerKind::Member, ..administrator() }
    } else {
        administrator()
    };
    command(number, operator, action)
}

/// The server pays a debt, and has told whoever there is.
pub(super) fn payment(number: u64, debt: sidenote_core::debt::Debt) -> Command {
    command(number, Operator::server(user("ann")), Action::Pay(debt, PEOPLE.map(user).to_vec()))
}

fn group_action(random: &mut Random, name: &str) -> GroupAction {
    match random.within(0..40) {
        0..=5 => {
            let number = random.within(0..6);
            GroupAction::Send(Box::new(message(name, u32::try_from(number).unwrap())))
        }
        6..=8 => GroupAction::AddMembers { members: vec![member(name, random.one_in(4))], imported: false },
        9 => GroupAction::RemoveMembers { users: vec![user(name)], reason: "why".to_owned() },
        10 if random.one_in(2) => {
            let seq = MsgSeq::new(random.within(MESSAGES)).unwrap();
            GroupAction::Recall { seqs: vec![seq], reason: String::new() }
        }
        11 => {
            let name = Some(format!("name {}", random.within(0..9)));
            GroupAction::Modify(Box::new(GroupPatch { name, ..GroupPatch::default() }))
        }
        12 => GroupAction::ChangeOwner(user(name)),
        13 if random.one_in(3) => GroupAction::Destroy,
        _ => {
            let seq = if random.one_in(2) { 1 } else { random.within(MESSAGES) };
            GroupAction::Extend(MsgSeq::new(seq).unwrap(), extend(random))
        }
    }
}

fn extend(random: &mut Random) -> Extend {
    let claim =
        if random.one_in(3) { Claim::Saw(Seq::new(random.within(0..9)).unwrap()) } else { Claim::Unchecked };
    let begin = random.index(KEYS.len());
    let keys: Vec<_> =
        KEYS[begin..].iter().take(1 + random.index(3)).map(|it| Key::new(it).unwrap()).collect();
    match random.within(0..12) {
        0 => Extend::Clear,
        1..=4 => Extend::Delete(Items::new(keys.into_iter().map(|key| (key, claim)).collect()).unwrap()),
        _ => {
            let value = Value::new(&format!("value {}", random.within(0..99))).unwrap();
            let pairs = keys.into_iter().map(|key| ((key, value.clone()), claim)).collect();
            Extend::Set(Items::new(pairs).unwrap())
        }
    }
}

/// Any question.
pub(super) fn any_question(random: &mut Random, known: &Known) -> Query {
    let id = group(random.pick(&GROUPS));
    match random.within(0..34) {
        0 => Accounts { ids: PEOPLE.map(account).into() }.into_query(),
        1 | 2 => DescribeGroup { id }.into_query(),
        3 => ListMembers { id }.into_query(),
        4 | 5 => FindMembers { id, users: PEOPLE.map(user).into() }.into_query(),
        6 => History { id, up_to: None, count: 5 }.into_query(),
        7 => {
            let (account, limit) = (account(random.pick(&PEOPLE)), 1 + random.index(3));
            JoinedGroups { account, after: None, limit }.into_query()
        }
        8 => DueDebts { by: Timestamp::from_millis(u64::MAX / 2), after: None, limit: 5 }.into_query(),
        9..=11 => {
            let (id, incarnation) = known.home(random).unwrap_or((id, Incarnation::from_random(0)));
            let after = EventNumber::new(random.within(0..20));
            Events { id, incarnation, after, limit: 4 }.into_query()
        }
        12..=17 => direct::any_question(random, known),
        18 => outboxes::any_question(random),
        _ => {
            let seq = if random.one_in(2) { 1 } else { random.within(MESSAGES) };
            pull(id, seq, random.within(0..4), random.one_in(2))
        }
    }
}

/// Questions whose answers together hold most of what there is.
pub(super) fn all_questions(known: &Known) -> Vec<Query> {
    let mut all = vec![
        Accounts { ids: PEOPLE.map(account).into() }.into_query(),
        DueDebts { by: Timestamp::from_millis(u64::MAX / 2), after: None, limit: 1000 }.into_query(),
    ];
    for id in GROUPS.map(group) {
        all.push(DescribeGroup { id: id.clone() }.into_query());
        all.push(ListMembers { id: id.clone() }.into_query());
        all.push(History { id: id.clone(), up_to: None, count: 9 }.into_query());
        all.extend(MESSAGES.map(|seq| pull(id.clone(), seq, 0, true)));
    }
    all.extend(direct::all_questions(known));
    all.extend(outboxes::all_questions());
    all
}

fn pull(id: ConversationId, seq: u64, start: u64, tombstones: bool) -> Query {
    let (seq, start) = (MsgSeq::new(seq).unwrap(), Seq::new(start).unwrap());
    Pull { id, seq, operator: administrator(), start, tombstones }.into_query()
}

fn administrator() -> Operator {
    let (user, platform) = (user("administrator"), Platform::RestApi);
    Operator { user, tiny_id: None, kind: CallerKind::Administrator, platform, address: None }
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn account(name: &str) -> AccountId {
    AccountId { app: APP, user: user(name) }
}

fn group(id: &str) -> ConversationId {
    ConversationId::group(APP, GroupId::new(id).unwrap())
}

fn on(id: &str, action: GroupAction) -> Action {
    Action::Group(group(id), action)
}

/// Each person has one of two numbers, as if the account had been deleted and made again.
fn tiny_id(name: &str, second: bool) -> TinyId {
    let first = name.bytes().fold(7, |sum, byte| sum * 31 + u64::from(byte));
    TinyId::from_random(first + u64::from(second))
}

fn import(name: &str, second: bool) -> Action {
    let tiny_id = tiny_id(name, second);
    let nick = Some(name.to_uppercase());
    Action::Account(account(name), AccountAction::Import { tiny_id, nick, face_url: None })
}

fn member(name: &str, second: bool) -> NewMember {
    let tiny_id = tiny_id(name, second);
    NewMember {
        user: user(name),
        tiny_id,
        role: Role::Member,
        joined_at: None,
        unread: 0,
        custom: Vec::new(),
    }
}

fn create(id: &str, number: u64, owner: &str) -> Action {
    let profile = GroupProfile {
        name: "a group".to_owned(),
        introduction: String::new(),
        notification: String::new(),
        face_url: String::new(),
        max_members: Some(200),
        apply_join: ApplyJoin::NeedPermission,
        invite_join: InviteJoin::DisableInvite,
        mute_all: false,
        history_before_join: true,
        custom: Vec::new(),
    };
    let new = NewGroup {
        incarnation: Incarnation::from_random(number),
        kind: GroupType::Public,
        owner: Some(NewMember { role: Role::Owner, ..member(owner, false) }),
        profile,
        members: Vec::new(),
        created_at: Timestamp::from_millis(BEGIN + number * STEP),
        imported: false,
    };
    on(id, GroupAction::Create(Box::new(new)))
}

fn message(sender: &str, random: u32) -> NewMessage {
    let mut fingerprint = [0; 16];
    fingerprint[..4].copy_from_slice(&random.to_be_bytes());
    NewMessage {
        sender: user(sender),
        sender_tiny_id: tiny_id(sender, false),
        sender_is_administrator: true,
        random,
        client_time: None,
        sent_at: None,
        priority: Priority::Normal,
        supports_extension: true,
        online_only: false,
        body: MessageBody { elements: format!("[\"{random}\"]"), ..MessageBody::default() },
        fingerprint: Fingerprint(fingerprint),
    }
}
