//! Takes what other nodes tell, and listens to what somebody on this one follows.

use std::collections::{BTreeSet, HashMap};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_nats::Subscriber;
use futures_util::StreamExt as _;
use futures_util::stream::{SelectAll, TakeUntil};
use sidenote_core::ids::Timestamp;
use sidenote_store::audience::Audience;
use sidenote_store_postgres::PostgresStore;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::broker::Broker;
use crate::clock::{is_late, now};
use crate::figures::Figures;
use crate::membership::Membership;
use crate::message::Message;
use crate::subject::{Subject, subjects_for};

/// What is followed is asked for again after so many times as long as asking took, and no sooner than this.
const LEAST_PAUSE: Duration = Duration::from_millis(5);
const PAUSE_FACTOR: u32 = 20;

/// How long the broker may take to hear what is listened to. After this the tables are looked at once more.
const SETTLED: Duration = Duration::from_millis(300);

/// What the broker did not take is asked for again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// How often the log says that messages come too late.
const COMPLAINT_PAUSE: Duration = Duration::from_mins(1);

/// Messages that are taken before others get the worker.
const AT_A_TIME: usize = 64;

pub(crate) struct Listener {
    pub(crate) store: Arc<PostgresStore>,
    pub(crate) membership: Arc<Membership>,
    pub(crate) broker: Arc<Broker>,
    pub(crate) figures: Arc<Figures>,
    /// Rung when something may have been missed.
    pub(crate) look: Arc<Notify>,
    pub(crate) audience: watch::Receiver<Option<Weak<dyn Audience>>>,
    /// When this node began.
    pub(crate) began: Timestamp,
    /// When the log said last that messages come too late.
    pub(crate) complained: Option<Instant>,
}

type Ear = Pin<Box<TakeUntil<Subscriber, WaitForCancellationFutureOwned>>>;

#[derive(Default)]
struct Ears {
    heard: SelectAll<Ear>,
    open: HashMap<Subject, CancellationToken>,
}

/// What became of the wish to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Adjusted {
    /// There is nothing new to listen to.
    Already,
    /// The broker was asked for all of it.
    Fully,
    /// It did not take all.
    InPart,
}

impl Listener {
    pub(crate) async fn listen(mut self) {
        let Some(mut changes) = changes_of(&mut self.audience).await else { return };
        let mut ears = Ears::default();
        let mut renewals = self.broker.renewals();
        let mut rested = Instant::now();
        let (mut due, mut settled) = (Some(rested), None);
        loop {
            tokio::select! {
                Some(message) = ears.heard.next() => {
                    let mut taken = 0;
                    let mut next = Some(message);
                    while let Some(message) = next {
                        self.take(&message.payload);
                        taken += 1;
                        next = (taken < AT_A_TIME).then(|| futures_util::FutureExt::now_or_never(ears.heard.next()))
                            .flatten()
                            .flatten();
                    }
                }
                () = renewals.next() => {
                    // Whatever was listened to has ended with the client.
                    ears = Ears::default();
                    due = Some(rested.max(Instant::now()));
                }
                seen = changes.changed(), if due.is_none() => {
                    if seen.is_err() {
                        // Nobody follows any more, and nobody will.
                        return;
                    }
                    due = Some(rested.max(Instant::now()));
                }
                () = at(due) => {
                    let began = Instant::now();
                    changes.mark_unchanged();
                    let Some(audience) = self.audience.borrow().as_ref().and_then(Weak::upgrade) else { return };
                    let wanted = subjects_for(&audience.followed(), ears.open.contains_key(&Subject::All));
                    drop(audience);
                    let pause = (began.elapsed() * PAUSE_FACTOR).max(LEAST_PAUSE);
                    let adjusted = self.adjust(&mut ears, &wanted).await;
                    rested = Instant::now() + pause;
                    due = (adjusted == Adjusted::InPart).then(|| rested + AGAIN);
                    if adjusted != Adjusted::Already {
                        // What happened before the broker heard of it was told to nobody here.
                        self.look.notify_one();
                        settled = Some(Instant::now() + SETTLED);
                    }
                }
                () = at(settled) => {
                    settled = None;
                    self.look.notify_one();
                }
            }
        }
    }

    /// Listens to what is followed now, and to nothing else.
    async fn adjust(&self, ears: &mut Ears, wanted: &BTreeSet<Subject>) -> Adjusted {
        let mut adjusted = Adjusted::Already;
        for subject in wanted {
            if ears.open.contains_key(subject) {
                continue;
            }
            // If the broker is away, the subscription is made when it comes back.
            let Ok(subscriber) = self.broker.subscribe(*subject).await else { return Adjusted::InPart };
            let token = CancellationToken::new();
            ears.heard.push(Box::pin(subscriber.take_until(token.clone().cancelled_owned())));
            ears.open.insert(*subject, token);
            adjusted = Adjusted::Fully;
        }
        // Only when what takes the place of these is there.
        ears.open.retain(|subject, token| {
            let stays = wanted.contains(subject);
            if !stays {
                token.cancel();
            }
            stays
        });
        if adjusted == Adjusted::Fully {
            // In vain if it is away. Then it is told when it is back, and the tables are looked at.
            drop(self.broker.flush().await);
        }
        adjusted
    }

    fn take(&mut self, bytes: &[u8]) {
        self.figures.heard.add(1);
        match Message::decode(bytes) {
            // It was found by looking meanwhile; what was not is now.
            Ok((Message::News(_), sent)) if is_late(sent, now(), self.began) => {
                self.look.notify_one();
                if self.complained.is_none_or(|then| then.elapsed() >= COMPLAINT_PAUSE) {
                    self.complained = Some(Instant::now());
                    tracing::warn!(
                        "what another node told came too late to be pushed; NATS held it up, or the clock of that node is behind"
                    );
                }
            }
            Ok((Message::News(news), _)) => {
                self.store.hear_news(&news);
            }
            // Neither an account nor a login ever comes back under its number.
            Ok((Message::Deleted(account, tiny_id), _)) => self.store.hear_deleted(account, tiny_id),
            Ok((Message::Leave(account, number, why), _)) => {
                self.membership.leave(&account, number, why);
            }
            Err(error) => {
                self.figures.refused.add(1);
                tracing::debug!(%error, "what another node told is left alone");
            }
        }
    }
}

/// Waits for those who follow, and says how to see that they change.
async fn changes_of(
    audience: &mut watch::Receiver<Option<Weak<dyn Audience>>>,
) -> Option<watch::Receiver<u64>> {
    let there = audience.wait_for(Option::is_some).await.ok()?;
    there.as_ref().and_then(Weak::upgrade).map(|audience| audience.changes())
}

/// Waits until then, or for ever.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
