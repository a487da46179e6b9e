//! Who is logged in, and on how many connections.
//!
//! An account has a bounded number of them. One more than that sends the oldest away with a kick, which its client shows
//! to its user. A connection of an instance that is logged in already, which is what a client opens when the old one has
//! died without a word, takes the place of the old one.
//!
//! Where several servers share the store, that knows all logins and says who has to go, here or elsewhere.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sidenote_core::ids::AccountId;
use sidenote_store::shared::{self, LoginNumber, Logins};
use sidenote_store::{Store, StoreError};
use tokio::sync::watch;

pub(super) use sidenote_store::shared::Leave;

/// All logins of one server.
pub(crate) struct Presence {
    most: usize,
    /// What counts the logins of all servers, where there are several.
    store: Option<Arc<dyn Store>>,
    /// For each account its logins, the oldest first.
    logins: Mutex<HashMap<AccountId, Vec<Login>>>,
}

#[derive(Debug)]
struct Login {
    number: LoginNumber,
    instance: u32,
    leave: watch::Sender<Option<Leave>>,
}

/// A login that lasts until this is dropped.
pub(super) struct Seat {
    presence: Arc<Presence>,
    login: shared::Login,
    leave: watch::Receiver<Option<Leave>>,
}

impl Presence {
    /// With at most `most` logins for each account.
    pub(crate) fn new(most: usize, store: &Arc<dyn Store>) -> Arc<Self> {
        let store = store.shared().is_some().then(|| Arc::clone(store));
        Arc::new(Self { most: most.max(1), store, logins: Mutex::default() })
    }

    /// Logs an instance of an account in, and sends away whom that leaves no place for.
    ///
    /// # Errors
    ///
    /// If the store can't write it down where it has to.
    pub(super) async fn enter(
        self: &Arc<Self>,
        account: AccountId,
        instance: u32,
    ) -> Result<Seat, StoreError> {
        let seat = self.take_place(account, instance);
        if let Some(shared) = self.shared() {
            shared.enter(&seat.login, self.most).await?;
        }
        Ok(seat)
    }

    fn take_place(self: &Arc<Self>, account: AccountId, instance: u32) -> Seat {
        let number = LoginNumber::from_random(rand::random());
        let (sender, leave) = watch::channel(None);
        let mut all = self.all();
        let logins = all.entry(account.clone()).or_default();
        if let Some(place) = logins.iter().position(|login| login.instance == instance) {
            logins.remove(place).leave.send_replace(Some(Leave::Replaced));
        }
        // Where there are several servers, the oldest may be elsewhere.
        while self.store.is_none() && logins.len() >= self.most {
            logins.remove(0).leave.send_replace(Some(Leave::Kicked));
        }
        logins.push(Login { number, instance, leave: sender });
        drop(all);
        let login = shared::Login { account, number, instance };
        Seat { presence: Arc::clone(self), login, leave }
    }

    /// How many logins there are, of all accounts.
    pub(crate) fn count(&self) -> usize {
        self.all().values().map(Vec::len).sum()
    }

    fn all(&self) -> MutexGuard<'_, HashMap<AccountId, Vec<Login>>> {
        // Nothing panics while it holds the lock, and the list would be whole even then.
        self.logins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shared(&self) -> Option<&dyn shared::Shared> {
        self.store.as_ref().and_then(|store| store.shared())
    }
}

impl Logins for Presence {
    fn all(&self) -> Vec<shared::Login> {
        let all = self.all();
        let of_account = |(account, logins): (&AccountId, &Vec<Login>)| {
            let login = |login: &Login| shared::Login {
                account: account.clone(),
                number: login.number,
                instance: login.instance,
            };
            logins.iter().map(login).collect::<Vec<_>>()
        };
        all.iter().flat_map(of_account).collect()
    }

    fn is_empty(&self) -> bool {
        self.all().is_empty()
    }

    fn leave(&self, account: &AccountId, number: LoginNumber, why: Leave) -> bool {
        let mut all = self.all();
        let Some(logins) = all.get_mut(account) else { return false };
        let Some(place) = logins.iter().position(|login| login.number == number) else { return false };
        logins.remove(place).leave.send_replace(Some(why));
        if logins.is_empty() {
            all.remove(account);
        }
        true
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
        {
            let mut all = self.presence.all();
            if let Some(logins) = all.get_mut(&self.login.account) {
                logins.retain(|login| login.number != self.login.number);
                if logins.is_empty() {
                    all.remove(&self.login.account);
                }
            }
        }
        if let Some(shared) = self.presence.shared() {
            shared.left(self.login.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use sidenote_core::Limits;
    use sidenote_core::ids::{AppId, UserId};
    use sidenote_store::memory::MemoryStore;

    use super::*;

    fn account(app: u32, user: &str) -> AccountId {
        AccountId { app: AppId::new(app), user: UserId::new(user).unwrap() }
    }

    fn alone(most: usize) -> Arc<Presence> {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Limits::default()));
        Presence::new(most, &store)
    }

    fn left(seat: &mut Seat) -> Option<Leave> {
        seat.left().now_or_never()
    }

    #[test]
    fn the_oldest_login_gives_way_to_one_too_many() {
        let presence = alone(2);
        let [mut first, mut second, mut third] = [1, 2, 3].map(|n| presence.take_place(account(1, "ann"), n));
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
        let fourth = presence.take_place(account(1, "ann"), 4);
        assert_eq!((left(&mut third), presence.count()), (None, 2));
        drop((third, fourth));
        assert!(presence.all().is_empty());
    }

    #[test]
    fn an_instance_that_comes_back_takes_its_own_place() {
        let presence = alone(2);
        let [mut first, mut second] = [1, 2].map(|n| presence.take_place(account(1, "ann"), n));
        let mut again = presence.take_place(account(1, "ann"), 1);
        assert_eq!(left(&mut first), Some(Leave::Replaced));
        assert_eq!((left(&mut second), left(&mut again)), (None, None));
        drop(first);
        assert_eq!(presence.count(), 2);
    }

    #[test]
    fn accounts_do_not_take_places_from_one_another() {
        let presence = alone(1);
        let mut seats =
            [account(1, "ann"), account(1, "bob"), account(2, "ann")].map(|id| presence.take_place(id, 1));
        assert!(seats.iter_mut().all(|seat| left(seat).is_none()));
        assert_eq!(presence.count(), 3);
    }
    #[test]
    fn a_login_that_has_to_go_is_told_so_once() {
        let presence = alone(2);
        let mut seat = presence.take_place(account(1, "ann"), 1);
        let login = Logins::all(&*presence).remove(0);
        assert_eq!(login, seat.login);
        assert!(!presence.leave(&account(1, "bob"), login.number, Leave::Kicked));
        assert!(presence.leave(&login.account, login.number, Leave::Kicked));
        assert!(!presence.leave(&login.account, login.number, Leave::Replaced));
        assert_eq!((left(&mut seat), presence.is_empty()), (Some(Leave::Kicked), true));
    }
}
