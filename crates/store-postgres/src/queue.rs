//! Commands wait here for their home. Those that wait for the same one are decided together and committed as one
//! transaction: whoever writes to a home follows whoever did before anyway, and one flush is worth as much as many.
//!
//! A home that has anything to do has a task of its own, which ends with the last command. Its commands are carried out
//! even if nobody waits for the answer any more: a transaction is never given up half-way.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sidenote_core::Limits;
use sidenote_core::command::Command;
use sidenote_store::figures::Figures;
use sidenote_store::news::Newsroom;
use sidenote_store::{Committed, StoreError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::condition::Condition;
use crate::home::Home;
use crate::options::PostgresOptions;
use crate::pool::Pool;
use crate::transaction::{self, Done, Failure, Guard, Guarded};

/// `None`: the guard of the command did not hold.
type Answer = Result<Option<Committed>, StoreError>;

/// A command and who waits for it.
struct Waiting {
    command: Command,
    guard: Guard,
    reply: oneshot::Sender<Answer>,
    since: Instant,
    _place: OwnedSemaphorePermit,
}

impl Waiting {
    fn guarded(&mut self) -> Guarded<'_> {
        Guarded { command: &mut self.command, guard: &self.guard }
    }
}

/// What the tasks of all homes share.
pub(crate) struct Desk {
    pub(crate) pool: Arc<Pool>,
    pub(crate) options: PostgresOptions,
    pub(crate) limits: Limits,
    pub(crate) condition: Arc<Condition>,
    pub(crate) figures: Figures,
    /// News of what this node committed, for other nodes.
    pub(crate) own_news: Newsroom,
    /// News of what any node committed, as far as it is heard of.
    pub(crate) all_news: Newsroom,
}

/// The commands that wait.
pub(crate) struct Queue {
    desk: Arc<Desk>,
    homes: Arc<Mutex<HashMap<Home, VecDeque<Waiting>>>>,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl Queue {
    pub(crate) fn new(desk: Arc<Desk>) -> Self {
        let places = Arc::new(Semaphore::new(PostgresOptions::MOST_WAITING));
        Self { desk, homes: Arc::default(), places, tasks: TaskTracker::new() }
    }

    /// How many commands wait or are being carried out.
    pub(crate) fn depth(&self) -> u64 {
        (PostgresOptions::MOST_WAITING - self.places.available_permits()) as u64
    }

    /// Carries out a command.
    pub(crate) async fn commit(&self, command: Command) -> Result<Committed, StoreError> {
        let committed = self.commit_guarded(command, Guard::None).await?;
        Ok(committed.expect("only a guard that does not hold keeps a command from being decided"))
    }

    /// Carries out a command if its guard holds.
    pub(crate) async fn commit_guarded(&self, command: Command, guard: Guard) -> Answer {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| StoreError::Busy {
            reason: format!("{} commands wait already", PostgresOptions::MOST_WAITING),
        })?;
        let (reply, answer) = oneshot::channel();
        let home = Home::of(&command);
        let waiting = Waiting { command, guard, reply, since: Instant::now(), _place: place };
        {
            let mut homes = lock(&self.homes);
            // Under the lock, so that whoever closes finds every task that was begun.
            self.desk.condition.open()?;
            if let Some(error) = self.desk.condition.refuses_commands() {
                return Err(error);
            }
            if let Some(queue) = homes.get_mut(&home) {
                queue.push_back(waiting);
            } else {
                homes.insert(home.clone(), VecDeque::from([waiting]));
                let work = Work { desk: Arc::clone(&self.desk), homes: Arc::clone(&self.homes), home };
                self.tasks.spawn(work.run());
            }
        }
        answer.await.unwrap_or_else(|_| {
            let reason = "the task that carried it out panicked".to_owned();
            Err(StoreError::Unknown { reason })
        })
    }

    /// Waits until everything that was accepted is done.
    pub(crate) async fn close(&self) {
        // Whoever was let in before has put its command down by now.
        drop(lock(&self.homes));
        self.tasks.close();
        self.tasks.wait().await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds this lock.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The task of one home.
struct Work {
    desk: Arc<Desk>,
    homes: Arc<Mutex<HashMap<Home, VecDeque<Waiting>>>>,
    home: Home,
}

impl Drop for Work {
    /// After a panic those that wait learn of it, and the home can be worked for again.
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(
                "a command panicked in the rules or in the store; those that waited with it are not answered"
            );
            lock(&self.homes).remove(&self.home);
        }
    }
}

impl Work {
    async fn run(self) {
        loop {
            let together: Vec<_> = {
                let mut homes = lock(&self.homes);
                let queue = homes.get_mut(&self.home).expect("only this task removes it");
                // Nobody waits for these any more, and nothing of them has begun.
                queue.retain(|waiting| !waiting.reply.is_closed());
                if queue.is_empty() {
                    homes.remove(&self.home);
                    return;
                }
                let most = self.desk.options.batch.clamp(1, PostgresOptions::MOST_TOGETHER);
                let count = queue.len().min(most);
                queue.drain(..count).collect()
            };
            if let Some(error) = self.desk.condition.refuses_commands() {
                refuse(together, Failure::Refused(error));
                continue;
            }
            // Whoever is first has had nobody before, and those behind wait no longer than one who is tried again does.
            let together = self.in_time(together);
            if !together.is_empty() {
                self.carry_out(together).await;
            }
        }
    }

    /// Those that have not waited too long by now. The others are told so.
    fn in_time(&self, together: Vec<Waiting>) -> Vec<Waiting> {
        let patience = self.desk.options.patience;
        let (late, together): (Vec<_>, Vec<_>) =
            together.into_iter().partition(|waiting| waiting.since.elapsed() > patience);
        refuse(late, Failure::Busy(format!("it did not come to its turn within {patience:?}")));
        together
    }

    async fn carry_out(&self, mut together: Vec<Waiting>) {
        let mut commands: Vec<_> = together.iter_mut().map(Waiting::guarded).collect();
        match self.commit(&mut commands).await {
            Ok(done) => self.tell(together, done),
            // One of them may be at fault; the others need not suffer for it.
            Err(Failure::Refused(_)) if together.len() > 1 => {
                let mut left = together;
                loop {
                    left.retain(|waiting| !waiting.reply.is_closed());
                    left = self.in_time(left);
                    if left.is_empty() {
                        return;
                    }
                    let mut waiting = left.remove(0);
                    match self.commit(&mut [waiting.guarded()]).await {
                        Ok(done) => self.tell(vec![waiting], done),
                        Err(failure) => refuse(vec![waiting], failure),
                    }
                }
            }
            Err(failure) => refuse(together, failure),
        }
    }

    /// Tries until it is clear what became of it, or patience ends, or nobody may wait any longer.
    async fn commit(&self, commands: &mut [Guarded<'_>]) -> Result<Done, Failure> {
        tokio::select! {
            biased;
            result = self.try_to_commit(commands) => result,
            // It may have been sent. Its connection is not used again.
            error = self.desk.condition.refused() => Err(Failure::Unknown(error.to_string())),
        }
    }

    async fn try_to_commit(&self, commands: &mut [Guarded<'_>]) -> Result<Done, Failure> {
        let Desk { pool, options, limits, condition, figures, .. } = &*self.desk;
        let patience_ends = Instant::now() + options.patience;
        let mut pause = std::time::Duration::from_millis(2);
        loop {
            let began = Instant::now();
            let failure = match pool.get_to_write().await {
                Ok(mut borrowed) => {
                    let result =
                        transaction::commit(&mut borrowed.session, &self.home, commands, limits).await;
                    let is_lost = !borrowed.session.is_clean();
                    match result {
                        Ok(done) => {
                            condition.well();
                            if done.has_written {
                                condition.commits();
                                figures.committed(commands.len() as u64, began.elapsed());
                            }
                            return Ok(done);
                        }
                        Err(failure) => {
                            if is_lost {
                                pool.suspect_all();
                            }
                            failure
                        }
                    }
                }
                Err(StoreError::Busy { reason }) => Failure::Again(reason),
                Err(error) => return Err(Failure::Refused(error)),
            };
            let Failure::Again(reason) = failure else { return Err(failure) };
            if Instant::now() + pause >= patience_ends {
                // No command is at fault, so none of them is tried alone, each with patience of its own.
                return Err(Failure::Again(reason));
            }
            tracing::debug!(reason, "a transaction is tried again");
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
            pause = (pause * 2).min(std::time::Duration::from_millis(250));
        }
    }

    /// Tells the news, and then those who waited.
    fn tell(&self, together: Vec<Waiting>, done: Done) {
        self.desk.own_news.tell(&done.gathered);
        self.desk.all_news.tell(&done.gathered);
        for (waiting, verdict) in together.into_iter().zip(done.verdicts) {
            let committed = verdict.map(|(verdict, prompt_debts)| Committed { verdict, prompt_debts });
            // Whoever does not wait any more needs no answer.
            drop(waiting.reply.send(Ok(committed)));
        }
    }
}

fn refuse(together: Vec<Waiting>, failure: Failure) {
    let error = match failure {
        Failure::Again(reason) | Failure::Busy(reason) => StoreError::Busy { reason },
        Failure::Refused(error) => error,
        Failure::Unknown(reason) => StoreError::Unknown { reason },
    };
    if matches!(error, StoreError::Unknown { .. }) {
        tracing::warn!(commands = together.len(), "{error}");
    }
    for waiting in together {
        drop(waiting.reply.send(Err(error.clone())));
    }
}
