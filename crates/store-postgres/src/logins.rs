//! Who is logged in on the long connection of which node. An account has a bounded number of logins on all nodes
//! together; those that have to go are marked, and their nodes end them.

use std::collections::HashSet;

use sidenote_core::ids::{AccountId, AppId, UserId};
use sidenote_store::StoreError;
use sidenote_store::shared::{Leave, Login, LoginNumber};

use crate::claims::{busy, unreadable};
use crate::home::account_key;
use crate::members::lives;
use crate::session::{Fault, Param, Piece, Session};
use crate::store::PostgresStore;

/// Logins that are told to end at a time.
const MOST_LEAVING: i64 = 10_000;

const LOCK: &str = "SELECT tiny_id FROM accounts WHERE akey = $1 AND app = $2 AND user_id = $3 FOR UPDATE";

/// Logins of an account that stand, the oldest first, each with its node and whether that lives.
const STANDING: &str = concat!(
    "SELECT login, instance, node, EXISTS (SELECT 1 FROM nodes WHERE nodes.node = logins.node AND ",
    lives!(),
    ") AS lives FROM logins WHERE akey = $1 AND app = $2 AND user_id = $3 AND leave = 0 ORDER BY since, login"
);

const ENTER: &str = "INSERT INTO logins (akey, app, user_id, login, instance, node, since, leave) \
     VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp(), 0) \
     ON CONFLICT (akey, app, user_id, login) DO NOTHING";

const MARK: &str =
    "UPDATE logins SET leave = $5 WHERE akey = $1 AND app = $2 AND user_id = $3 AND login = $4";

const REMOVE: &str = "DELETE FROM logins WHERE akey = $1 AND app = $2 AND user_id = $3 AND login = $4";

/// Logins of a node that are to end. Asks all homes, as only background work does.
const MARKED: &str = "SELECT app, user_id, login, leave FROM logins WHERE node = $1 AND leave > 0 LIMIT $2";

/// A login that has to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departure {
    /// Whose.
    pub account: AccountId,
    /// Which.
    pub number: LoginNumber,
    /// Why.
    pub why: Leave,
}

struct Standing {
    number: i64,
    instance: i64,
    lives: bool,
}

impl PostgresStore {
    /// Writes down that somebody has logged in on a node, and whom that sends away, wherever they are.
    ///
    /// # Errors
    ///
    /// If the database can't be asked. It may have been written down.
    pub async fn enter_login(
        &self,
        login: &Login,
        most: usize,
        node: i64,
    ) -> Result<Vec<Departure>, StoreError> {
        self.takes_commits()?;
        let mut borrowed = self.desk().pool.get_to_write().await?;
        let result = enter(&mut borrowed.session, login, most, node).await;
        if result.is_err() {
            // Whatever is open ends with the connection.
            borrowed.session.spoil();
        }
        result.map_err(|fault| busy(&fault))
    }

    /// The logins of a node that have to go.
    ///
    /// # Errors
    ///
    /// If the database can't be asked.
    pub async fn departures(&self, node: i64) -> Result<Vec<Departure>, StoreError> {
        let params: Vec<Param> = vec![Box::new(node), Box::new(MOST_LEAVING)];
        let mut departures = Vec::new();
        for row in self.asked(vec![Piece::Prepared(MARKED.into(), params)]).await?.iter().flatten() {
            let app: i64 = row.try_get(0).map_err(unreadable)?;
            let user = UserId::new(row.try_get(1).map_err(unreadable)?);
            let (number, leave): (i64, i16) =
                (row.try_get(2).map_err(unreadable)?, row.try_get(3).map_err(unreadable)?);
            // A row that makes no sense ends nobody's login.
            let (Ok(app), Ok(user)) = (u32::try_from(app), user) else { continue };
            let account = AccountId { app: AppId::new(app), user };
            let why = if leave == mark(Leave::Kicked) { Leave::Kicked } else { Leave::Replaced };
            departures.push(Departure { account, number: number_of(number), why });
        }
        Ok(departures)
    }

    /// These logins are over.
    ///
    /// # Errors
    ///
    /// If the database can't be asked. Some may have been removed.
    pub async fn remove_logins(&self, logins: &[Login]) -> Result<(), StoreError> {
        self.told(logins.iter().map(removing).collect()).await
    }

    /// The same of one of which nobody knows whether it [was entered](Self::enter_login): whoever does that still is waited for.
    ///
    /// # Errors
    ///
    /// If the database can't be asked.
    pub async fn remove_login_in_doubt(&self, login: &Login) -> Result<(), StoreError> {
        let plain = |sql: &'static str| Piece::Plain(sql.into());
        let lock = Piece::Prepared(LOCK.into(), account(&login.account));
        // If the lock can't be had, what follows is refused, and the last of it ends the transaction all the same.
        self.told(vec![plain("BEGIN"), lock, removing(login), plain("COMMIT")]).await
    }

    /// Writes down again that these logins of a node stand: it was taken for dead, and they may have been cleared away.
    ///
    /// # Errors
    ///
    /// If the database can't be asked. Some may have been written down.
    pub async fn keep_logins(&self, logins: &[Login], node: i64) -> Result<(), StoreError> {
        self.told(logins.iter().map(|login| entering(login, node)).collect()).await
    }
}

fn removing(login: &Login) -> Piece {
    let mut params = account(&login.account);
    params.push(Box::new(signed(login.number)));
    Piece::Prepared(REMOVE.into(), params)
}

/// Removes all logins of a node.
pub(crate) fn leave_all(node: i64) -> Piece {
    Piece::Prepared("DELETE FROM logins WHERE node = $1".into(), vec![Box::new(node)])
}

async fn enter(
    session: &mut Session,
    login: &Login,
    most: usize,
    node: i64,
) -> Result<Vec<Departure>, Fault> {
    let prepared = |sql: &'static str| Piece::Prepared(sql.into(), account(&login.account));
    // Logins of one account follow each other.
    let pieces = vec![Piece::Plain("BEGIN".into()), prepared(LOCK), prepared(STANDING)];
    session.prepare(&pieces).await?;
    session.opened();
    let answers = all(session.flush(pieces).await?)?;
    let mut standing = Vec::new();
    for row in answers.last().into_iter().flatten() {
        let number: i64 = row.try_get(0).map_err(Fault::from)?;
        let instance: i64 = row.try_get(1).map_err(Fault::from)?;
        standing.push(Standing { number, instance, lives: row.try_get(3).map_err(Fault::from)? });
    }
    let departures = sent_away(&standing, login, most);
    let mut pieces = vec![entering(login, node)];
    let going: HashSet<_> = departures.iter().map(|departure| signed(departure.number)).collect();
    for Departure { number, why, .. } in &departures {
        let mut params = account(&login.account);
        params.extend([Box::new(signed(*number)) as Param, Box::new(mark(*why))]);
        pieces.push(Piece::Prepared(MARK.into(), params));
    }
    for dead in standing.iter().filter(|standing| !standing.lives && !going.contains(&standing.number)) {
        let mut params = account(&login.account);
        params.push(Box::new(dead.number));
        pieces.push(Piece::Prepared(REMOVE.into(), params));
    }
    pieces.push(Piece::Plain("COMMIT".into()));
    session.prepare(&pieces).await?;
    all(session.flush(pieces).await?)?;
    session.closed();
    Ok(departures)
}

/// Who has to go for this login: another one of the same instance, and the oldest where there are too many. Those of nodes
/// that are dead do not count.
fn sent_away(standing: &[Standing], login: &Login, most: usize) -> Vec<Departure> {
    let departure = |standing: &Standing, why| Departure {
        account: login.account.clone(),
        number: number_of(standing.number),
        why,
    };
    let others = standing.iter().filter(|standing| standing.lives && standing.number != signed(login.number));
    let (same, others): (Vec<_>, Vec<_>) =
        others.partition(|standing| standing.instance == i64::from(login.instance));
    let too_many = (others.len() + 1).saturating_sub(most.max(1));
    let replaced = same.into_iter().map(|same| departure(same, Leave::Replaced));
    replaced.chain(others.into_iter().take(too_many).map(|oldest| departure(oldest, Leave::Kicked))).collect()
}

fn all<T>(answers: Vec<Result<T, Fault>>) -> Result<Vec<T>, Fault> {
    answers.into_iter().collect()
}

fn entering(login: &Login, node: i64) -> Piece {
    let mut params = account(&login.account);
    params.extend([
        Box::new(signed(login.number)) as Param,
        Box::new(i64::from(login.instance)),
        Box::new(node),
    ]);
    Piece::Prepared(ENTER.into(), params)
}

fn account(id: &AccountId) -> Vec<Param> {
    vec![Box::new(account_key(id)), Box::new(i64::from(id.app.get())), Box::new(id.user.to_string())]
}

/// As it is stored. There are no larger ones.
fn signed(number: LoginNumber) -> i64 {
    i64::try_from(number.get()).unwrap_or(i64::MAX)
}

fn number_of(stored: i64) -> LoginNumber {
    LoginNumber::from_random(stored.unsigned_abs() << 1)
}

const fn mark(why: Leave) -> i16 {
    match why {
        Leave::Kicked => 1,
        Leave::Replaced => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(number: i64, instance: i64, lives: bool) -> Standing {
        Standing { number, instance, lives }
    }

    #[test]
    fn the_same_instance_and_the_oldest_give_way_and_the_dead_do_not_count() {
        let account = AccountId { app: AppId::new(1), user: UserId::new("ann").unwrap() };
        let login = Login { account, number: number_of(9), instance: 3 };
        let all = [
            standing(1, 1, false),
            standing(2, 2, true),
            standing(3, 3, true),
            standing(4, 3, false),
            standing(5, 5, true),
            standing(9, 3, true),
        ];
        let gone = |most| {
            let gone = sent_away(&all, &login, most).into_iter();
            gone.map(|departure| (departure.number.get(), departure.why)).collect::<Vec<_>>()
        };
        assert_eq!(gone(3), [(3, Leave::Replaced)]);
        assert_eq!(gone(2), [(3, Leave::Replaced), (2, Leave::Kicked)]);
        let nobody_else = [(3, Leave::Replaced), (2, Leave::Kicked), (5, Leave::Kicked)];
        assert_eq!((gone(1), gone(0)), (nobody_else.to_vec(), nobody_else.to_vec()));
    }
}
