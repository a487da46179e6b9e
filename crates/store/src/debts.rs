//! Paying debts: carrying out what one home owes another, and the rest of what was too large for one commit.
//!
//! Everything here is made of ordinary commands and questions, so it works on every backend, and every step may be
//! repeated: a crash half-way only means that it starts again.

use futures_util::future::{BoxFuture, FutureExt, join_all, try_join_all};
use sidenote_core::Outcome;
use sidenote_core::account::Membership;
use sidenote_core::command::{AccountAction, Action, Command, GroupAction};
use sidenote_core::debt::{Debt, Task};
use sidenote_core::event::{Happening, Operator};
use sidenote_core::ids::{
    AccountId, Conversation, ConversationId, EventNumber, GroupId, Incarnation, Timestamp, TinyId, UserId,
};
use sidenote_core::query::{
    Accounts, DescribeGroup, DueDebts, Events, FindMembers, JoinedGroups, NextReaped,
};

use crate::{Store, StoreError};

/// Groups of a deleted account that are handled at a time.
const GROUPS_AT_A_TIME: usize = 100;

/// What a round of payments came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// Debts that were paid.
    pub paid: usize,
    /// Why the first of those that could not be paid stays owed.
    pub failure: Option<StoreError>,
    /// The last debt that was looked at, for the next round to go on after; `None` if none is left.
    pub next: Option<Debt>,
}

/// Pays up to `limit` debts that are due at `now` and come after that one. A debt that can't be paid does not stand
/// in the way of others: it stays owed, and whoever begins with `None` again tries it again.
///
/// # Errors
///
/// If the debts can't be read.
pub async fn pay_due(
    store: &dyn Store,
    now: Timestamp,
    after: Option<Debt>,
    limit: usize,
) -> Result<Round, StoreError> {
    let debts = store.ask(DueDebts { by: now, after, limit }).await?;
    // A debt to other homes is many commands already. Of the others there may be as many as there are messages; side by
    // side they keep pace with whoever causes them: they share commits, as far as a store can put them into one.
    let (prompt, others): (Vec<_>, Vec<_>) = debts.iter().partition(|debt| debt.task.is_prompt());
    let mut results = Vec::with_capacity(debts.len());
    for debt in prompt {
        results.push(pay(store, debt, now).await);
    }
    results.extend(join_all(others.into_iter().map(|debt| pay(store, debt, now))).await);
    Ok(Round {
        paid: results.iter().filter(|result| result.is_ok()).count(),
        failure: results.into_iter().find_map(Result::err),
        next: debts.last().filter(|_| debts.len() >= limit).cloned(),
    })
}

/// Pays one debt in full.
pub fn pay<'a>(
    store: &'a dyn Store,
    debt: &'a Debt,
    now: Timestamp,
) -> BoxFuture<'a, Result<(), StoreError>> {
    async move {
        match &debt.task {
            Task::Announce(id, incarnation, number) => {
                announce(store, id, *incarnation, *number, now).await?;
            }
            Task::Forsake(account, tiny_id) => forsake(store, account, *tiny_id, now).await?,
            Task::Reap(..) | Task::Strip(..) | Task::ForgetSend(..) | Task::TrimEvents(..) => {}
        }
        loop {
            let mut told = Vec::new();
            if let (Task::Reap(id, incarnation), Some(group)) = (&debt.task, group_of(debt)) {
                told = store.ask(NextReaped { id: id.clone(), incarnation: *incarnation }).await?;
                let last = EventNumber::new(u64::MAX);
                let left = |_: &UserId| AccountAction::Left(group.clone(), *incarnation, last);
                tell(store, id, &told, left, now).await?;
            }
            let (operator, action) = (Operator::server(someone()), Action::Pay(debt.clone(), told));
            let committed = store.commit(Command { operator, at: now, action }).await?;
            if committed.verdict != Ok(Outcome::Paid { more: true }) {
                return Ok(());
            }
        }
    }
    .boxed()
}

/// Tells the accounts named by an event that they joined or left.
async fn announce(
    store: &dyn Store,
    id: &ConversationId,
    incarnation: Incarnation,
    number: EventNumber,
    now: Timestamp,
) -> Result<(), StoreError> {
    let Conversation::Group(group) = &id.conversation else { return Ok(()) };
    let after = EventNumber::new(number.get().saturating_sub(1));
    let page = store.ask(Events { id: id.clone(), incarnation, after, limit: 1 }).await?;
    let Some(event) = page.events.first().filter(|event| event.number == number) else {
        return Ok(());
    };
    match &event.what {
        Happening::MembersJoined { users, .. } => {
            let joined = |_: &UserId| AccountAction::Joined(group.clone(), incarnation, number);
            tell(store, id, users, joined, now).await?;
            look_again(store, id, incarnation, number, users, now).await
        }
        Happening::MembersLeft { users, .. } => {
            let left = |_: &UserId| AccountAction::Left(group.clone(), incarnation, number);
            tell(store, id, users, left, now).await
        }
        _ => Ok(()),
    }
}

/// Puts right what may have changed before the accounts of these members heard that they joined. Whatever changes
/// after this look finds their lines in place, and takes them away itself.
async fn look_again(
    store: &dyn Store,
    id: &ConversationId,
    incarnation: Incarnation,
    number: EventNumber,
    users: &[UserId],
    now: Timestamp,
) -> Result<(), StoreError> {
    let Conversation::Group(group) = &id.conversation else { return Ok(()) };
    let places = store.ask(FindMembers { id: id.clone(), users: users.to_vec() }).await?;
    // Asked last: an incarnation that is still there was there for the question before.
    let described = store.ask(DescribeGroup { id: id.clone() }).await?;
    let places = match places {
        Ok(places) if described.is_some_and(|view| view.group.incarnation == incarnation) => places,
        _ => vec![None; users.len()],
    };
    let account = |user: &UserId| AccountId { app: id.app, user: user.clone() };
    let accounts = store.ask(Accounts { ids: users.iter().map(account).collect() }).await?;
    let (mut gone, mut ghosts) = (Vec::new(), Vec::new());
    for ((user, place), account) in users.iter().zip(places).zip(accounts) {
        match place {
            // They left, or the group was destroyed.
            None => gone.push(user.clone()),
            // Their account was deleted after whoever added them had looked it up, and perhaps made anew.
            Some(member) if account.is_none_or(|account| account.tiny_id != member.tiny_id) => {
                ghosts.push((user, member.tiny_id));
            }
            Some(_) => {}
        }
    }
    let left = |_: &UserId| AccountAction::Left(group.clone(), incarnation, number);
    tell(store, id, &gone, left, now).await?;
    for (user, tiny_id) in ghosts {
        forget(store, id, user, tiny_id, now).await?;
    }
    Ok(())
}

/// Takes a deleted account out of a group and tells it; `false` if the group knows nothing of it.
async fn forget(
    store: &dyn Store,
    id: &ConversationId,
    user: &UserId,
    tiny_id: TinyId,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let action = Action::Group(id.clone(), GroupAction::Forget(user.clone(), tiny_id));
    let committed =
        store.commit(Command { operator: Operator::server(user.clone()), at: now, action }).await?;
    for debt in committed.prompt_debts {
        pay(store, &debt, now).await?;
    }
    Ok(committed.verdict.is_ok())
}

/// Takes a deleted account out of its groups, one page of its list after the other.
async fn forsake(
    store: &dyn Store,
    account: &AccountId,
    tiny_id: TinyId,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let question = JoinedGroups { account: account.clone(), after, limit: GROUPS_AT_A_TIME };
        let page = store.ask(question).await?;
        // A new account of the same name may have joined since; its groups are not ours to leave.
        let is_current = |line: &(GroupId, Incarnation, Membership)| {
            page.groups.iter().any(|(name, view, _)| *name == line.0 && view.group.incarnation == line.1)
        };
        // Side by side, as `tell` does: whoever deletes the account waits for it.
        let left = page.lines.iter().filter(|line| !is_current(line));
        try_join_all(left.map(|line| leave(store, account, tiny_id, line, now))).await?;
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

/// Takes a deleted account out of a group, and the line out of its list.
async fn leave(
    store: &dyn Store,
    account: &AccountId,
    tiny_id: TinyId,
    (group, incarnation, line): &(GroupId, Incarnation, Membership),
    now: Timestamp,
) -> Result<(), StoreError> {
    let id = ConversationId::group(account.app, group.clone());
    if forget(store, &id, &account.user, tiny_id, now).await? {
        return Ok(());
    }
    // The group is gone or knows nothing of the account, so no event will ever take the line away.
    let left = |_: &UserId| AccountAction::Left(group.clone(), *incarnation, line.since);
    tell(store, &id, std::slice::from_ref(&account.user), left, now).await
}

/// Gives each of these accounts of a conversation's app a command, all at once: a store that commits what waits as one
/// shares commits among them, one in which each account is a home carries out as many at a time as it has connections.
async fn tell(
    store: &dyn Store,
    id: &ConversationId,
    users: &[UserId],
    what: impl Fn(&UserId) -> AccountAction,
    now: Timestamp,
) -> Result<(), StoreError> {
    let commands = users.iter().map(|user| {
        let account = AccountId { app: id.app, user: user.clone() };
        let action = Action::Account(account, what(user));
        store.commit(Command { operator: Operator::server(user.clone()), at: now, action })
    });
    try_join_all(commands).await.map(|_| ())
}

fn group_of(debt: &Debt) -> Option<&GroupId> {
    match &debt.task {
        Task::Reap(ConversationId { conversation: Conversation::Group(group), .. }, _) => Some(group),
        _ => None,
    }
}

/// The operator of a payment is never told to anybody, but a command has one.
fn someone() -> UserId {
    UserId::new("server").expect("six letters are a UserID")
}
