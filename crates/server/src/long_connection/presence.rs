//! Who is logged in, and on how many connections.
//!
//! An account has a bounded number of them. One more than that sends the oldest away with a kick, which its client shows
//! to its user. A connection of an instance that is logged in already, which is what a client opens when the old one has
//! died without a word, takes the place of the old one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sidenote_core::ids::AccountId;
use tokio::sync::watch;

/// All logins of one server.
#[derive(Debug)]
pub(crate) struct Presence {
    most: usize,
    last_number: AtomicU64,
    /// For each account its logins, the oldest first.
    logins: Mutex<HashMap<AccountId, Vec<Login>>>,
}

#[derive(Debug)]
struct Login {
    number: u64,
    instance: u32,
    leave: watch::Sender<Option<Leave>>,
}

/// Why a login is over although its connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// The account has too many connections, and this was the oldest (`KickType` 1).
    Kicked,
    /// The same instance has come back on another connection.
    Replaced,
}

/// A login that lasts until this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    presence: Arc<Presence>,
    account: AccountId,
    number: u64,
    leave: watch::Receiver<Option<Leave>>,
}

impl Presence {
    /// With at most `most` logins for each account.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most: most.max(1), last_number: AtomicU64::new(0), logins: Mutex::default() })
    }

    /// Logs an instance of an account in, and sends away whom that leaves no place for.
    pub(super) fn enter(self: &Arc<Self>, account: AccountId, instance: u32) -> Seat {
        let number = self.last_number.fetch_add(1, Ordering::Relaxed);
        let (sender, leave) = watch::channel(None);
        let mut all = self.all();
        let logins = all.entry(account.clone()).or_default();
        if let Some(place) = logins.iter().position(|login| login.instance == instance) {
            logins.remove(place).leave.send_replace(Some(Leave::Replaced));
        }
        while logins.len() >= self.most {
            logins.remove(0).leave.send_replace(Some(Leave::Kicked));
        }
        logins.push(Login { number, instance, leave: sender });
        drop(all);
        Seat { presence: Arc::clone(self), account, number, leave }
    }

    /// How many logins there are, of all accounts.
    pub(crate) fn count(&self) -> usize {
        self.all().values().map(Vec::len).sum()
    }

    fn all(&self) -> MutexGuard<'_, HashMap<AccountId, Vec<Login>>> {
        // Nothing panics while it holds the lock, and the list would be whole even then.
        self.logins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Waits until the login is over, and says why. It may be dropped and called again.
    pub(super) async fn left(&mut self) -> Leave {
        match self.leave.wait_for(Option::is_some).await.map(|leave| *leave) {
            Ok(Some(leave)) => leave,
            // The sender is dropped only after it has said why.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut all = self.presence.all();
        if let Some(logins) = all.get_mut(&self.account) {
            logins.retain(|login| login.number != self.number);
            if logins.is_empty() {
                all.remove(&self.account);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use sidenote_core::ids::{AppId, UserId};

    use super::*;

    fn account(app: u32, user: &str) -> AccountId {
        AccountId { app: AppId::new(app), user: UserId::new(user).unwrap() }
    }

    fn left(seat: &mut Seat) -> Option<Leave> {
        seat.left().now_or_never()
    }

    #[test]
    fn the_oldest_login_gives_way_to_one_too_many() {
        let presence = Presence::new(2);
        let [mut first, mut second, mut third] = [1, 2, 3].map(|n| presence.enter(account(1, "ann"), n));
        assert_eq!(
            (left(&mut first), left(&mut second), left(&mut third)),
            (Some(Leave::Kicked), None, None)
        );
        // Whoever was sent away stays so, and its end changes nothing.
        assert_eq!(left(&mut first), Some(Leave::Kicked));
        drop(first);
        assert_eq!(presence.count(), 2);
        // Who goes by itself makes room.
        drop(second);
        let fourth = presence.enter(account(1, "ann"), 4);
        assert_eq!((left(&mut third), presence.count()), (None, 2));
        drop((third, fourth));
        assert!(presence.all().is_empty());
    }

    #[test]
    fn an_instance_that_comes_back_takes_its_own_place() {
        let presence = Presence::new(2);
        let [mut first, mut second] = [1, 2].map(|n| presence.enter(account(1, "ann"), n));
        let mut again = presence.enter(account(1, "ann"), 1);
        assert_eq!(left(&mut first), Some(Leave::Replaced));
        assert_eq!((left(&mut second), left(&mut again)), (None, None));
        drop(first);
        assert_eq!(presence.count(), 2);
    }

    #[test]
    fn accounts_do_not_take_places_from_one_another() {
        let presence = Presence::new(1);
        let mut seats =
            [account(1, "ann"), account(1, "bob"), account(2, "ann")].map(|id| presence.enter(id, 1));
        assert!(seats.iter_mut().all(|seat| left(seat).is_none()));
        assert_eq!(presence.count(), 3);
    }
}
