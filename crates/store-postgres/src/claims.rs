//! Who tells which conversation, in one short transaction each: nothing is locked while anything is sent.
//!
//! A claim is two columns of the outboxes of a conversation: the node, and a random number. It holds for as long as the
//! node says that it lives, which is one row for all that it has claimed. An outbox that was told goes, and its claim with
//! it.

use sidenote_core::command::Command;
use sidenote_core::ids::{AppId, ConversationId, Incarnation};
use sidenote_core::outbox::Outbox;
use sidenote_core::rows::{Row, RowKey};
use sidenote_store::{Committed, StoreError};

use crate::home::{conversation_key, conversation_name, conversation_of, life_of, signed};
use crate::members::lives;
use crate::pool::Borrowed;
use crate::session::{Fault, Param, Piece};
use crate::shape::{OUTBOX_ROW, Shape};
use crate::store::PostgresStore;
use crate::transaction::Guard;

/// Claims all outboxes of a conversation that are nobody's, the node's own, or those of a node that is dead. What is
/// locked at this moment is left out, since whoever locks it may wait for a standby: it is worth another try.
const CLAIM: &str = concat!(
    "UPDATE outboxes SET claimed_by = $4, claim = $5 FROM \
     (SELECT incarnation AS free FROM outboxes WHERE gkey = $1 AND app = $2 AND name = $3 \
     AND (claimed_by IS NULL OR claimed_by = $4 OR NOT EXISTS \
     (SELECT 1 FROM nodes WHERE node = claimed_by AND ",
    lives!(),
    ")) FOR UPDATE SKIP LOCKED) AS found \
     WHERE gkey = $1 AND app = $2 AND name = $3 AND incarnation = free"
);

/// Lives of an app's conversations that no other node tells. Asks all homes, as only background work does.
const UNCLAIMED: &str = concat!(
    "SELECT name, incarnation FROM outboxes WHERE app = $1 AND (name, incarnation) > ($2, $3) \
     AND (claimed_by IS NULL OR claimed_by = $4 OR NOT EXISTS \
     (SELECT 1 FROM nodes WHERE node = claimed_by AND ",
    lives!(),
    ")) ORDER BY name, incarnation LIMIT $5"
);

/// What became of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outboxes {
    /// What the lives of the conversation have to tell, those that are over first; the first one is claimed.
    Mine(Vec<(Incarnation, Outbox)>),
    /// There are none.
    None,
    /// Another node that lives has claimed them.
    Others,
    /// Somebody has them locked, or a later life is claimed and the first one not.
    Locked,
}

/// A life of a conversation that has something to tell.
struct Found {
    life: Incarnation,
    outbox: Outbox,
    is_mine: bool,
    is_others: bool,
}

impl PostgresStore {
    /// Claims what a conversation has to tell for a node, under a number that is drawn for this claim.
    ///
    /// # Errors
    ///
    /// If the database can't be asked. It may have been claimed.
    pub async fn claim(&self, id: &ConversationId, node: i64, claim: i64) -> Result<Outboxes, StoreError> {
        self.takes_commits()?;
        let params = || -> Vec<Param> {
            let name = conversation_name(id);
            vec![Box::new(conversation_key(id)), Box::new(i64::from(id.app.get())), Box::new(name)]
        };
        let (mut claiming, mut reading) = (params(), params());
        for params in [&mut claiming, &mut reading] {
            params.extend([Box::new(node) as Param, Box::new(claim)]);
        }
        let pieces = vec![
            Piece::Prepared(CLAIM.into(), claiming),
            // Another statement, so that it sees what the first one did.
            Piece::Prepared(reading_text().into(), reading),
        ];
        let mut found = Vec::new();
        let borrowed = self.desk().pool.get_to_write().await?;
        for row in all_answered(borrowed, pieces).await?.last().into_iter().flatten() {
            let number = |at: usize| -> Result<bool, StoreError> { row.try_get(at).map_err(unreadable) };
            let (is_mine, is_others) = (number(13)?, number(14)?);
            if let (RowKey::Outbox(_, life), Row::Outbox(outbox)) = Shape::read(row)? {
                found.push(Found { life, outbox, is_mine, is_others });
            }
        }
        found.sort_by_key(|found| (found.outbox.gone.is_none(), found.outbox.since));
        let Some(first) = found.first() else { return Ok(Outboxes::None) };
        if first.is_mine {
            return Ok(Outboxes::Mine(found.into_iter().map(|found| (found.life, found.outbox)).collect()));
        }
        let is_others = first.is_others && !found.iter().any(|found| found.is_mine);
        Ok(if is_others { Outboxes::Others } else { Outboxes::Locked })
    }

    /// Commits a command about an outbox if it is still claimed under this number; `None` if not, or if it is gone.
    ///
    /// # Errors
    ///
    /// Those of any command.
    pub async fn commit_claimed(
        &self,
        claim: i64,
        command: Command,
    ) -> Result<Option<Committed>, StoreError> {
        self.queue().commit_guarded(command, Guard::Claim(claim)).await
    }

    /// Lives of conversations of an app with something to tell which no other node tells, after that one.
    ///
    /// # Errors
    ///
    /// If the database can't be asked.
    pub async fn unclaimed(
        &self,
        app: AppId,
        after: Option<&(ConversationId, Incarnation)>,
        limit: usize,
        node: i64,
    ) -> Result<Vec<(ConversationId, Incarnation)>, StoreError> {
        let (name, life) =
            after.map_or((String::new(), 0), |(id, life)| (conversation_name(id), signed(*life)));
        let params: Vec<Param> = vec![
            Box::new(i64::from(app.get())),
            Box::new(name),
            Box::new(life),
            Box::new(node),
            Box::new(i64::try_from(limit).unwrap_or(i64::MAX)),
        ];
        let answers = self.asked(vec![Piece::Prepared(UNCLAIMED.into(), params)]).await?;
        let mut lives = Vec::new();
        for row in answers.iter().flatten() {
            let name: &str = row.try_get(0).map_err(unreadable)?;
            let Some(id) = conversation_of(app, name) else {
                let reason = "an outbox has a name that no conversation can have".to_owned();
                return Err(StoreError::Unreadable { reason });
            };
            lives.push((id, life_of(row.try_get(1).map_err(unreadable)?)));
        }
        Ok(lives)
    }

    /// Whether what is written has a chance. A commit that waits for a lost standby keeps a process of the server for as
    /// long as that is lost, and there are not many.
    pub(crate) fn takes_commits(&self) -> Result<(), StoreError> {
        self.desk().condition.open()?;
        self.desk().condition.refuses_commands().map_or(Ok(()), Err)
    }

    /// Sends statements that write.
    pub(crate) async fn told(&self, pieces: Vec<Piece>) -> Result<(), StoreError> {
        self.takes_commits()?;
        all_answered(self.desk().pool.get_to_write().await?, pieces).await.map(drop)
    }

    /// Sends questions that are transactions of their own, and wants all of them answered.
    pub(crate) async fn asked(
        &self,
        pieces: Vec<Piece>,
    ) -> Result<Vec<Vec<tokio_postgres::Row>>, StoreError> {
        self.desk().condition.open()?;
        all_answered(self.desk().pool.get().await?, pieces).await
    }
}

async fn all_answered(
    mut borrowed: Borrowed,
    pieces: Vec<Piece>,
) -> Result<Vec<Vec<tokio_postgres::Row>>, StoreError> {
    let answers = borrowed.session.flush(pieces).await.map_err(|fault| busy(&fault))?;
    answers.into_iter().map(|answer| answer.map_err(|fault| busy(&fault))).collect()
}

/// All outboxes of a conversation, with whether they are claimed under this number, and whether by another node that lives.
fn reading_text() -> String {
    let select = OUTBOX_ROW.select();
    let (columns, table) = select.split_at(select.rfind(" FROM ").unwrap_or(select.len()));
    format!(
        "{columns}, (claim = $5) IS TRUE AS is_mine, (claimed_by <> $4 AND EXISTS \
         (SELECT 1 FROM nodes WHERE node = claimed_by AND {})) IS TRUE AS is_others{table} \
         WHERE gkey = $1 AND app = $2 AND name = $3",
        lives!()
    )
}

pub(crate) fn busy(fault: &Fault) -> StoreError {
    StoreError::Busy { reason: fault.to_string() }
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to `map_err`")]
pub(crate) fn unreadable(error: tokio_postgres::Error) -> StoreError {
    StoreError::Unreadable { reason: error.to_string() }
}
