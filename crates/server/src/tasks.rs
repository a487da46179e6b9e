//! Background tasks under supervision. A task that panics is not just gone: it is logged, and whoever asks
//! learns that the server is no longer whole (`/readyz`, the store).

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Tasks of one server that run until it stops. Clones stand for the same tasks.
///
/// It is for the few tasks that the program starts with, not for requests: each of those runs inside the task
/// of its connection.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    failed: Arc<OnceLock<&'static str>>,
    failure: CancellationToken,
}

/// There are as many tasks as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} background tasks are running already", Tasks::MOST)]
pub struct TooManyTasks;

impl Tasks {
    /// How many tasks may run at a time.
    pub const MOST: usize = 256;

    /// No tasks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs what `task` makes of the token, which is cancelled when the server stops; the task should then
    /// end by itself.
    pub fn spawn<F>(
        &self,
        name: &'static str,
        task: impl FnOnce(CancellationToken) -> F,
    ) -> Result<(), TooManyTasks>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if self.tracker.len() >= Self::MOST {
            return Err(TooManyTasks);
        }
        #[expect(clippy::disallowed_methods, reason = "the task below notices its panic")]
        let running = tokio::spawn(task(self.stop.clone()));
        let (failed, failure) = (Arc::clone(&self.failed), self.failure.clone());
        self.tracker.spawn(async move {
            if let Err(error) = running.await
                && error.is_panic()
            {
                tracing::error!(task = name, "a background task panicked; restart the server");
                // Only the first is kept: what follows is often a consequence of it.
                let _ = failed.set(name);
                failure.cancel();
            }
        });
        Ok(())
    }

    /// The name of the first task that panicked, if any has.
    pub fn failed(&self) -> Option<&'static str> {
        self.failed.get().copied()
    }

    /// Waits until a task panics and tells its name; without a panic it waits for ever.
    pub async fn failure(&self) -> &'static str {
        self.failure.cancelled().await;
        self.failed().expect("the name is set before the token is cancelled")
    }

    /// Asks the tasks to end and waits for them, though not longer than `patience`. Says whether all have
    /// ended.
    pub async fn stop(&self, patience: Duration) -> bool {
        self.stop.cancel();
        self.tracker.close();
        tokio::time::timeout(patience, self.tracker.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_in_a_task_is_noticed_by_name() {
        let tasks = Tasks::new();
        assert_eq!(tasks.failed(), None);
        tasks.spawn("reaper", |_| async { panic!("on purpose") }).unwrap();
        assert_eq!(tasks.failure().await, "reaper");
        assert_eq!(tasks.failed(), Some("reaper"));
        assert!(tasks.stop(Duration::from_mins(1)).await);
    }

    #[tokio::test]
    async fn tasks_end_when_they_are_told_to() {
        let tasks = Tasks::new();
        let ended = Arc::new(OnceLock::new());
        let in_task = Arc::clone(&ended);
        tasks
            .spawn("waiter", |stop| async move {
                stop.cancelled().await;
                in_task.set(()).unwrap();
            })
            .unwrap();
        assert!(tasks.stop(Duration::from_mins(1)).await);
        assert_eq!((ended.get(), tasks.failed()), (Some(&()), None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_end_is_waited_for_only_so_long() {
        let tasks = Tasks::new();
        tasks.spawn("deaf", |_| std::future::pending()).unwrap();
        assert!(!tasks.stop(Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn there_are_never_more_tasks_than_allowed() {
        let tasks = Tasks::new();
        let waiting = |stop: CancellationToken| async move { stop.cancelled().await };
        for _ in 0..Tasks::MOST {
            tasks.spawn("one of many", waiting).unwrap();
        }
        assert_eq!(tasks.spawn("one too many", waiting), Err(TooManyTasks));
        assert!(tasks.stop(Duration::from_mins(1)).await);
    }
}
