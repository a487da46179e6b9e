//! The readers: threads that read files, for questions and for commands whose rows are not in memory. They wait for
//! nobody but the disk.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, select};
use sidenote_core::query::{Answer, Query, answer};
use sidenote_core::{Limits, decide};
use sidenote_store::StoreError;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::cache::Cache;
use crate::inner_engine::InnerEngine;
use crate::views::{Loading, guarded};
use crate::writer::{Input, Job};

/// A question under way.
pub(crate) struct Question {
    pub(crate) query: Query,
    pub(crate) reply: oneshot::Sender<Result<Answer, StoreError>>,
    /// A place among the questions that the store has accepted; given back with the answer.
    pub(crate) place: OwnedSemaphorePermit,
}

/// What one reader works with.
pub(crate) struct Reader<E> {
    pub(crate) engine: Arc<E>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) limits: Limits,
    /// Commands to fetch for, from the writer.
    pub(crate) fetches: Receiver<Box<Job>>,
    /// Where they go back to. Has room for every command that was accepted.
    pub(crate) writer: Sender<Input>,
    /// Questions.
    pub(crate) questions: Receiver<Box<Question>>,
}

impl<E> Clone for Reader<E> {
    fn clone(&self) -> Self {
        Self {
            engine: Arc::clone(&self.engine),
            cache: Arc::clone(&self.cache),
            limits: self.limits,
            fetches: self.fetches.clone(),
            writer: self.writer.clone(),
            questions: self.questions.clone(),
        }
    }
}

impl<E: InnerEngine> Reader<E> {
    /// Runs until both the writer and the store have let go of their ends.
    pub(crate) fn run(mut self) {
        let (mut fetches_end, mut questions_end) = (false, false);
        while !(fetches_end && questions_end) {
            select! {
                recv(self.fetches) -> job => {
                    if let Ok(job) = job {
                        self.fetch(job);
                    } else {
                        fetches_end = true;
                        self.fetches = crossbeam_channel::never();
                    }
                }
                recv(self.questions) -> question => {
                    if let Ok(question) = question {
                        self.answer(*question);
                    } else {
                        questions_end = true;
                        self.questions = crossbeam_channel::never();
                    }
                }
            }
        }
    }

    /// Runs the command's rule over a snapshot, only to see what it looks at.
    pub(crate) fn fetch(&self, mut job: Box<Job>) {
        let fetched = guarded(|| {
            let view = Loading::attaching(self.snapshot(), &self.cache);
            // The verdict is the writer's business: it may see a later state.
            drop(decide(&view, &job.command, &self.limits));
            view.finish()
        });
        job.fetched = Some(fetched.and_then(|fetched| fetched));
        // If the writer is gone then so is whoever would be answered.
        drop(self.writer.send(Input::Job(job)));
    }

    /// Answers a question from a snapshot.
    pub(crate) fn answer(&self, Question { query, reply, place }: Question) {
        let answered = guarded(|| {
            let view = Loading::new(self.snapshot(), &self.cache);
            let answered = answer(&view, &query, &self.limits);
            let failed = view.finish().err();
            match (answered, failed) {
                (Ok(answer), None) => Ok(answer),
                (_, Some(error)) => Err(error),
                (Err(_), None) => Err(StoreError::Busy { reason: "a row was missing".to_owned() }),
            }
        });
        drop(place);
        // Whoever asked may have gone.
        drop(reply.send(answered.and_then(|answered| answered)));
    }

    /// The state that memory shows, or showed a moment ago. A batch that memory does not show yet is not to be seen
    /// here either: whoever had seen it, and then asked what memory can answer, would go back in time.
    fn snapshot(&self) -> E::Snapshot {
        loop {
            // The engine is at most one batch ahead of memory, for the writer shows each batch before it commits
            // the next. So this goes wrong only if two commits come between the two calls.
            if let Some(snapshot) = self.engine.snapshot_by(self.cache.published()) {
                return snapshot;
            }
        }
    }
}
