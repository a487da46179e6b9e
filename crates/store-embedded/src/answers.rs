//! How the answers of a batch reach their callers.
//!
//! To wake a sleeping task from another thread costs a system call, and a batch has hundreds of callers. So the
//! writer wakes one caller out of [`CARRIED`], which then hands the other answers on: woken by one of their own
//! threads, the others cost no system call, and the writer goes on with its next batch meanwhile.

use sidenote_store::{Committed, StoreError};
use tokio::sync::oneshot;

use crate::writer::Job;

/// So many answers share one call to wake a thread. Fewer would wake more often; with more the last caller of a
/// batch would wait for one thread while others are idle.
const CARRIED: usize = 32;

/// The answer to one command, and those of others that are handed on when this is dropped.
pub(crate) struct Delivery {
    answer: Result<Committed, StoreError>,
    carried: Carried,
}

impl Delivery {
    /// Hands the other answers on, and gives this one.
    pub(crate) fn take(self) -> Result<Committed, StoreError> {
        drop(self.carried);
        self.answer
    }
}

/// Where a command's answer goes.
pub(crate) type Reply = oneshot::Sender<Delivery>;

/// Commands with their answers.
pub(crate) type Answers = Vec<(Box<Job>, Result<Committed, StoreError>)>;

/// Answers under way. They are delivered when this is dropped, so none can be lost, whoever goes away: a caller
/// that is gone, and a caller that goes while it carries others.
#[derive(Default)]
struct Carried(Answers);

impl Drop for Carried {
    fn drop(&mut self) {
        for (job, answer) in self.0.drain(..) {
            // Whoever asked may have gone; the change stands all the same.
            drop(job.reply.send(Delivery { answer, carried: Self::default() }));
            drop(job.place);
        }
    }
}

/// Sends all answers on their way.
pub(crate) fn deliver(mut answers: Answers) {
    while !answers.is_empty() {
        let mut carried = Carried(answers.split_off(answers.len().saturating_sub(CARRIED)));
        if let Some((job, answer)) = carried.0.pop() {
            // If this caller has gone, what comes back is dropped, which delivers the rest.
            drop(job.reply.send(Delivery { answer, carried }));
            drop(job.place);
        }
    }
}

/// Answers one command.
pub(crate) fn answer(job: Box<Job>, answer: Result<Committed, StoreError>) {
    deliver(vec![(job, answer)]);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sidenote_core::command::{AccountAction, Action, Command};
    use sidenote_core::event::Operator;
    use sidenote_core::ids::{AccountId, AppId, Timestamp, UserId};
    use tokio::sync::Semaphore;

    use super::*;

    fn job(places: &Arc<Semaphore>) -> (Box<Job>, oneshot::Receiver<Delivery>) {
        let user = UserId::new("ann").unwrap();
        let account = AccountId { app: AppId::new(1), user: user.clone() };
        let command = Command {
            operator: Operator::server(user),
            at: Timestamp::from_millis(1),
            action: Action::Account(account, AccountAction::Delete),
        };
        let (reply, awaited) = oneshot::channel();
        (Job::new(command, reply, Arc::clone(places).try_acquire_owned().unwrap()), awaited)
    }

    /// The reason of an answer that tells one number from another.
    fn numbered(number: usize) -> Result<Committed, StoreError> {
        Err(StoreError::Busy { reason: number.to_string() })
    }

    #[test]
    fn everyone_is_answered_once_whoever_has_gone_before_and_meanwhile() {
        const CALLERS: usize = 5 * CARRIED + 7;
        let places = Arc::new(Semaphore::new(CALLERS));
        for gone in 0..CALLERS {
            let (jobs, mut awaited): (Vec<_>, Vec<_>) = (0..CALLERS).map(|_| job(&places)).unzip();
            drop(awaited.remove(gone));
            deliver(jobs.into_iter().enumerate().map(|(number, job)| (job, numbered(number))).collect());
            // Those who were woken look first. One of them goes away without a look.
            let mut numbers = Vec::new();
            let mut waiting: Vec<_> = awaited.into_iter().map(Some).collect();
            let mut gone_meanwhile = 0;
            for _ in 0..2 {
                for (at, place) in waiting.iter_mut().enumerate() {
                    let Some(mut receiver) = place.take() else { continue };
                    if at == CARRIED - 1 && gone_meanwhile == 0 {
                        gone_meanwhile = 1;
                        continue;
                    }
                    match receiver.try_recv() {
                        Ok(delivery) => numbers.push(delivery.take()),
                        Err(_) => *place = Some(receiver),
                    }
                }
            }
            let mut numbers: Vec<usize> = numbers
                .into_iter()
                .map(|answer| match answer {
                    Err(StoreError::Busy { reason }) => reason.parse().unwrap(),
                    other => panic!("{other:?}"),
                })
                .collect();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), CALLERS - 2, "with caller {gone} gone");
            assert_eq!(places.available_permits(), CALLERS, "every place is given back");
        }
    }
}
