//! What one set and one pull cost the database, counted and not timed: flushes as the store counts them, which has to be
//! exactly two and one, and statements as the database counts them.

use anyhow::{Context, Result, bail};
use sidenote_core::Outcome;
use sidenote_core::command::{Action, Claim, Command, Extend, GroupAction, Items};
use sidenote_core::event::{CallerKind, Operator, Platform};
use sidenote_core::extension::{Key, Seq, Value};
use sidenote_core::ids::{AccountId, AppId, ConversationId, GroupId, MsgSeq, UserId};
use sidenote_core::query::{Accounts, Pull};
use sidenote_store::Store;

use super::house::{EACH, GROUPS, House, block_on, open};
use super::script::Scripts;
use crate::fill::time_of_day;
use crate::record::{Cost, Line};
use crate::servers::{APP, Groups, MEMBER};
use crate::session::Session;
use crate::workload::float;

const CASE: &str = "nodes-cost";

/// Counts, and returns what pgbench has to run to do the same. No node may run.
pub(super) fn count(session: &mut Session, house: &House) -> Result<Scripts> {
    let title = "what a set and a pull cost the database, one after the other";
    session.records.write(&Line::Case { case: CASE, title, baseline: "" })?;
    let (costs, texts) = block_on(measure(house))?;
    for cost in costs {
        let each = |count: u64| float(count) / float(cost.requests);
        session.say(&format!(
            "{}: {} flushes, {} statements, {:.0} bytes of WAL",
            cost.server,
            each(cost.round_trips.unwrap_or(0)),
            each(cost.statements),
            each(cost.wal_bytes)
        ));
        session.records.write(&Line::Cost(cost))?;
    }
    Scripts::of(&texts)
}

async fn measure(house: &House) -> Result<([Cost<'static>; 2], Vec<String>)> {
    let store = open(&house.pgbench).await?;
    let app = AppId::new(APP);
    let user = UserId::new(MEMBER).context("the name is sound")?;
    let ids = vec![AccountId { app, user: user.clone() }];
    let accounts = (&store as &dyn Store).ask(Accounts { ids }).await.context("cannot read an account")?;
    let account = accounts.into_iter().next().flatten().context("there is no member")?;
    let (tiny_id, platform) = (Some(account.tiny_id), Platform::RestApi);
    let ann = Operator { user, tiny_id, kind: CallerKind::Member, platform, address: None };

    // Texts are prepared once for each connection, and one after the other these need only one. Those of what was asked
    // before are not what pgbench is to run.
    store.close().await;
    let store = open(&house.pgbench).await?;
    let first = sets(&store, &ann, &vec![Seq::NEVER; usize::try_from(GROUPS)?]).await?;
    pulls(&store, &ann).await?;

    let before = (store.round_trips(), house.meter(&[])?);
    sets(&store, &ann, &first).await?;
    let between = (store.round_trips(), house.meter(&[])?);
    pulls(&store, &ann).await?;
    let after = (store.round_trips(), house.meter(&[])?);
    let mut costs = Vec::new();
    for (what, flushes, old, new) in [("a set", 2, &before, &between), ("a pull", 1, &between, &after)] {
        let counted = new.0.flushes - old.0.flushes;
        if counted != flushes * GROUPS || new.0.preparations != old.0.preparations {
            bail!("{GROUPS} times {what} took {counted} flushes, and not {flushes} each");
        }
        // The question for these figures is among them.
        let statements = new.1.statements - old.1.statements - 1;
        // What ends a set are two statements for the database and one piece of text for the store.
        let known = new.0.statements - old.0.statements + if flushes == 2 { GROUPS } else { 0 };
        if statements != known {
            bail!("the database counts {statements} statements for {GROUPS} times {what}, the store {known}");
        }
        costs.push(Cost {
            case: CASE,
            server: what,
            connections: 1,
            pair: 1,
            requests: GROUPS,
            round_trips: Some(counted),
            statements,
            transactions: new.1.transactions - old.1.transactions,
            wal_bytes: new.1.wal_bytes - old.1.wal_bytes,
        });
    }
    let texts = store.statement_texts();
    store.close().await;
    let costs = costs.try_into().map_err(|_| anyhow::anyhow!("two things are counted"))?;
    Ok((costs, texts))
}

fn place(group: u64, seq: u64) -> Result<(ConversationId, MsgSeq)> {
    let id = GroupId::new(&Groups::name(group)).context("the name is sound")?;
    Ok((ConversationId::group(AppId::new(APP), id), MsgSeq::new(seq).context("the number is sound")?))
}

/// A set of one pair in each group, which has the version that is named. Returns those that they have then.
async fn sets(store: &dyn Store, ann: &Operator, saw: &[Seq]) -> Result<Vec<Seq>> {
    let mut versions = Vec::new();
    for (group, saw) in (0..GROUPS).zip(saw) {
        // A key that no load uses, for loads know the versions of theirs.
        let pair = (Key::new("cost")?, Value::new(&"v".repeat(40))?);
        let items = Items::new(vec![(pair, Claim::Saw(*saw))]).context("the pair is sound")?;
        let (id, seq) = place(group, EACH)?;
        let action = Action::Group(id, GroupAction::Extend(seq, Extend::Set(items)));
        let command = Command { operator: ann.clone(), at: time_of_day()?, action };
        let committed = store.commit(command).await.context("the store took no more")?;
        match committed.verdict {
            Ok(Outcome::Extended(extended)) if extended.latest > *saw => versions.push(extended.latest),
            other => bail!("a set was answered {other:?}"),
        }
    }
    Ok(versions)
}

/// A pull of the 20 pairs of a message of each group.
async fn pulls(store: &dyn Store, ann: &Operator) -> Result<()> {
    for group in 0..GROUPS {
        let (id, seq) = place(group, 2 * EACH)?;
        let (operator, start) = (ann.clone(), Seq::NEVER);
        let page = store.ask(Pull { id, seq, operator, start, tombstones: false }).await;
        match page.context("the store did not answer")? {
            Ok(page) if page.pairs.len() == 20 => {}
            other => bail!("a pull was answered {other:?}"),
        }
    }
    Ok(())
}
