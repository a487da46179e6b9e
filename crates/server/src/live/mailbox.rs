//! What waits for one receiver: bounded, so that a receiver that does not take its events costs nobody else
//! anything.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use sidenote_core::ids::UserId;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio_util::sync::CancellationToken;

use super::delivery::Delivery;
use super::hub::Hub;

/// Events that may wait for one receiver.
pub(super) const CAPACITY: usize = 512;

/// Bytes of events that may wait for one receiver, roughly. One event may wait however large it is.
const CAPACITY_BYTES: usize = 4 * 1024 * 1024;

/// Why no more events come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The receiver did not take its events; it has to catch up.
    Overrun,
    /// Events were forgotten before they could be told; the receiver has to look at the state.
    Lost,
    /// The receiver is no longer a member of the group, or the group or the receiver's account is gone.
    Removed,
    /// The server stops.
    Closing,
}

/// The hub's end.
#[derive(Clone, Debug)]
pub(super) struct Mailbox {
    pub(super) id: u64,
    sender: mpsc::Sender<Delivery>,
    end: Arc<End>,
}

#[derive(Debug, Default)]
struct End {
    why: OnceLock<Ended>,
    bell: CancellationToken,
    /// What the waiting events take.
    bytes: AtomicUsize,
}

impl Mailbox {
    /// Both ends. The receiver is an account, or whoever sees everything. The hub is told when its end is dropped.
    pub(super) fn open(id: u64, hub: Weak<Hub>, user: Option<UserId>) -> (Self, Inbox) {
        let (sender, receiver) = mpsc::channel(CAPACITY);
        let end = Arc::<End>::default();
        let inbox = Inbox { id, receiver, end: Arc::clone(&end), hub, user };
        (Self { id, sender, end }, inbox)
    }

    /// Puts an event in. A receiver whose mailbox is full is cut off. True if the mailbox is more than half full.
    pub(super) fn put(&self, delivery: &Delivery) -> bool {
        if self.end.why.get().is_some() {
            return false;
        }
        // Before the receiver can take it, so that the sum never falls below nothing.
        let waiting = self.end.bytes.fetch_add(delivery.bytes(), Ordering::Relaxed);
        let bytes = waiting + delivery.bytes();
        if waiting > 0 && bytes > CAPACITY_BYTES {
            self.end(Ended::Overrun);
            return false;
        }
        if let Err(TrySendError::Full(_)) = self.sender.try_send(delivery.clone()) {
            self.end(Ended::Overrun);
            return false;
        }
        self.sender.capacity() < CAPACITY / 2 || bytes > CAPACITY_BYTES / 2
    }

    /// Nothing comes after what is in it already. Only the first reason counts.
    pub(super) fn end(&self, why: Ended) {
        let _ = self.end.why.set(why);
        self.end.bell.cancel();
    }
}

/// The receiver's end.
#[derive(Debug)]
pub(crate) struct Inbox {
    id: u64,
    receiver: mpsc::Receiver<Delivery>,
    end: Arc<End>,
    hub: Weak<Hub>,
    user: Option<UserId>,
}

impl Inbox {
    /// Waits for the next event that the receiver may be told. Nothing is lost if the future is dropped before it is
    /// done.
    pub(crate) async fn next(&mut self) -> Result<Delivery, Ended> {
        loop {
            let delivery = self.take().await?;
            self.end.bytes.fetch_sub(delivery.bytes(), Ordering::Relaxed);
            if self.user.as_ref().is_none_or(|user| delivery.is_for(user)) {
                return Ok(delivery);
            }
        }
    }

    /// Throws away what waits now.
    pub(super) fn throw_away(&mut self) {
        while let Ok(delivery) = self.receiver.try_recv() {
            self.end.bytes.fetch_sub(delivery.bytes(), Ordering::Relaxed);
        }
    }

    async fn take(&mut self) -> Result<Delivery, Ended> {
        // Whoever was cut off has missed events: what still waits would hide that for a while.
        if self.end.why.get() == Some(&Ended::Overrun) {
            return Err(Ended::Overrun);
        }
        tokio::select! {
            biased;
            Some(delivery) = self.receiver.recv() => Ok(delivery),
            () = self.end.bell.cancelled() => {
                let why = self.end.why.get().copied().unwrap_or(Ended::Closing);
                // What was put in before the end and came between the two branches.
                match self.receiver.try_recv() {
                    Ok(delivery) if why != Ended::Overrun => Ok(delivery),
                    _ => Err(why),
                }
            }
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        if let Some(hub) = self.hub.upgrade() {
            hub.forget(self.id);
        }
    }
}
