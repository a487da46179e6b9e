//! Whether the database can be reached and takes commits, and why not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sidenote_store::StoreError;
use tokio::sync::watch;
use tokio::time::Instant;

#[derive(Debug)]
pub(crate) struct Condition {
    trouble: Mutex<Trouble>,
    /// How long nothing has worked before requests are refused at once.
    refuse_after: Duration,
    refuses: watch::Sender<bool>,
    closing: AtomicBool,
}

#[derive(Debug, Default)]
struct Trouble {
    /// Nothing works: since when, and why.
    away: Option<(Instant, String)>,
    /// Commits get no answer, though questions do.
    hanging: Option<String>,
}

impl Condition {
    pub(crate) fn new(refuse_after: Duration) -> Self {
        let (refuses, _) = watch::channel(false);
        Self { trouble: Mutex::default(), refuse_after, refuses, closing: AtomicBool::new(false) }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Trouble) -> T) -> T {
        change(&mut self.trouble.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// It can't be reached, as was found by looking from `began` on. Logged when it begins.
    pub(crate) fn trouble(&self, began: Instant, reason: String) {
        let since = self.change(|trouble| {
            let since = trouble.away.as_ref().map(|(since, _)| *since);
            if since.is_none() {
                tracing::error!(reason, "the database can't be used");
            }
            let since = since.unwrap_or(began);
            trouble.away = Some((since, reason));
            since
        });
        if since.elapsed() >= self.refuse_after && !self.refuses.send_replace(true) {
            tracing::error!("requests are refused at once from now on, until the database answers");
        }
    }

    /// It can.
    pub(crate) fn well(&self) {
        let ended = self.change(|trouble| trouble.away.take());
        self.refuses.send_if_modified(std::mem::take);
        if ended.is_some() {
            tracing::info!("the database can be used again");
        }
    }

    /// Commits get no answer. Logged when it begins.
    pub(crate) fn hangs(&self, reason: &str) {
        let before = self.change(|trouble| trouble.hanging.replace(reason.to_owned()));
        if before.is_none() {
            tracing::error!(reason, "the database takes no commits");
        }
    }

    /// A commit got through.
    pub(crate) fn commits(&self) {
        if self.change(|trouble| trouble.hanging.take()).is_some() {
            tracing::info!("the database takes commits again");
        }
    }

    /// Nothing new is taken from now on.
    pub(crate) fn begin_closing(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Whether anything new is taken.
    pub(crate) fn open(&self) -> Result<(), StoreError> {
        if self.closing.load(Ordering::Acquire) { Err(StoreError::Closed) } else { Ok(()) }
    }

    /// Whether questions are taken.
    pub(crate) fn takes_questions(&self) -> Result<(), StoreError> {
        self.open()?;
        self.refuses_questions().map_or(Ok(()), Err)
    }

    /// Why questions are refused without asking the database; `None` if they are not.
    pub(crate) fn refuses_questions(&self) -> Option<StoreError> {
        let refuses = *self.refuses.borrow();
        refuses.then(|| {
            let why = self.change(|trouble| trouble.away.as_ref().map(|(_, reason)| reason.clone()));
            let reason = format!("the database does not answer: {}", why.unwrap_or_default());
            StoreError::Busy { reason }
        })
    }

    /// The same of commands.
    pub(crate) fn refuses_commands(&self) -> Option<StoreError> {
        self.refuses_questions().or_else(|| {
            let reason = self.change(|trouble| trouble.hanging.clone())?;
            Some(StoreError::Busy { reason: format!("the database takes no commits: {reason}") })
        })
    }

    /// Waits until questions are refused.
    pub(crate) async fn refused(&self) -> StoreError {
        let mut refuses = self.refuses.subscribe();
        loop {
            if let Some(error) = self.refuses_questions() {
                return error;
            }
            if refuses.changed().await.is_err() {
                // The sender lives as long as this.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Whether commands can be carried out.
    pub(crate) fn health(&self) -> Result<(), StoreError> {
        self.open()?;
        let reason = self.change(|trouble| match (&trouble.away, &trouble.hanging) {
            (Some((_, reason)), _) => Some(format!("the database can't be used: {reason}")),
            (None, Some(reason)) => Some(format!("the database takes no commits: {reason}")),
            (None, None) => None,
        });
        reason.map_or(Ok(()), |reason| Err(StoreError::Busy { reason }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_are_refused_once_it_has_lasted_and_taken_when_it_is_over() {
        let condition = Condition::new(Duration::from_millis(50));
        let began = Instant::now();
        condition.trouble(began, "first".to_owned());
        assert!(condition.health().unwrap_err().to_string().contains("first"));
        assert_eq!((condition.refuses_questions(), condition.refuses_commands()), (None, None));
        tokio::time::sleep(Duration::from_millis(60)).await;
        condition.trouble(Instant::now(), "later".to_owned());
        for refused in [condition.refused().await, condition.refuses_commands().unwrap()] {
            assert!(refused.to_string().contains("does not answer: later"), "{refused}");
        }
        condition.well();
        assert_eq!((condition.refuses_questions(), condition.health()), (None, Ok(())));
        // It begins anew.
        condition.trouble(Instant::now(), "again".to_owned());
        assert_eq!(condition.refuses_commands(), None);
    }

    #[test]
    fn where_commits_hang_questions_go_on() {
        let condition = Condition::new(Duration::ZERO);
        condition.hangs("no answer");
        assert_eq!(condition.refuses_questions(), None);
        for refused in [condition.refuses_commands().unwrap(), condition.health().unwrap_err()] {
            assert!(refused.to_string().contains("takes no commits: no answer"), "{refused}");
        }
        condition.commits();
        assert_eq!((condition.refuses_commands(), condition.health()), (None, Ok(())));
    }
}
