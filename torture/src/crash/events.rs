//! The events of a closed store, replayed: no change without its event, no event without its change, no gaps.

use std::collections::BTreeSet;
use std::path::Path;

use sidenote_core::event::{Event, ExtensionChange, Happening, Operation};
use sidenote_core::ids::{AppId, ConversationId, EventNumber, GroupId, MessageName};
use sidenote_core::query::{DescribeGroup, Events};
use sidenote_store::Store;
use sidenote_store_embedded::{EmbeddedStore, Settings};

use super::load::{self, GROUP, MESSAGES};
use crate::model::Set;
use crate::server::APP;

/// Events that are read at once.
const AT_ONCE: usize = 500;

/// What the events of the group lead to.
pub(super) struct Told {
    pub(super) count: usize,
    /// The pairs of the messages that may carry some.
    pub(super) sets: Vec<Set>,
    /// Messages that were sent.
    pub(super) messages: BTreeSet<u64>,
    pub(super) members: BTreeSet<String>,
}

/// Opens the folder as the server does, and replays all events of the group from the first one.
pub(super) fn replay(data: &Path) -> Told {
    let store = EmbeddedStore::open(data, &Settings::default(), sidenote_core::Limits::default()).unwrap();
    let mut told = Told {
        count: 0,
        sets: vec![Set::default(); usize::try_from(MESSAGES).unwrap()],
        messages: BTreeSet::new(),
        members: BTreeSet::new(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let store: &dyn Store = &store;
        let group = GroupId::new(GROUP).unwrap();
        let id = ConversationId::group(AppId::new(APP), group);
        let view = store.ask(DescribeGroup { id: id.clone() }).await.unwrap().unwrap();
        let mut after = EventNumber::START;
        loop {
            let (id, incarnation) = (id.clone(), view.group.incarnation);
            let events = Events { id, incarnation, after, limit: AT_ONCE };
            let page = store.ask(events).await.unwrap();
            assert!(!page.cursor_too_old, "events are gone that should be kept");
            for event in &page.events {
                assert_eq!(event.number.get(), after.get() + 1, "a gap among the events");
                after = event.number;
                told.hear(event);
            }
            if page.events.is_empty() {
                assert_eq!(view.counters.last_event, after, "the last events are missing");
                break;
            }
        }
        store.close().await;
    });
    told
}

impl Told {
    fn hear(&mut self, event: &Event) {
        self.count += 1;
        match &event.what {
            Happening::MembersJoined { users, .. } => {
                self.members.extend(users.iter().map(|user| user.as_str().to_owned()));
            }
            Happening::MembersLeft { users, .. } => {
                for user in users {
                    assert!(self.members.remove(user.as_str()), "{user:?} left twice");
                }
            }
            Happening::MessageSent { seq, .. } => {
                assert!(self.messages.insert(seq.get()), "message {seq:?} was told twice");
            }
            Happening::Extension(change) => self.change(change),
            _ => {}
        }
    }

    fn change(&mut self, change: &ExtensionChange) {
        let MessageName::Seq(message) = change.message else { panic!("no message of a group: {change:?}") };
        let set = &mut self.sets[usize::try_from(message.get() - 1).unwrap()];
        // Rule 3.2: each change raises LatestSeq by one; what a compaction adds is told as changes too.
        assert_eq!(change.latest.get(), set.latest + 1, "{change:?}");
        set.latest = change.latest.get();
        set.clear = change.clear.get();
        if change.operation == Operation::Clear {
            assert_eq!(set.clear, set.latest, "{change:?}");
            let before = std::mem::take(&mut set.entries);
            let live = before.values().filter(|(value, _)| !value.is_empty()).count();
            assert_eq!(change.pairs.len(), if change.compaction { 0 } else { live }, "{change:?}");
            return;
        }
        for pair in &change.pairs {
            let key = pair.key.as_str().to_owned();
            let value = pair.value.as_ref().map_or(String::new(), |value| load::folded(value.as_str()));
            assert_eq!(pair.seq.get(), set.latest, "{change:?}");
            let previous = pair.previous.as_ref().map(|previous| {
                let value =
                    previous.value.as_ref().map_or(String::new(), |value| load::folded(value.as_str()));
                (value, previous.seq.get())
            });
            let held = set.entries.insert(key, (value, set.latest));
            // A compaction drops everything first, and tells what was there before all the same.
            assert!(change.compaction || previous == held, "{change:?}");
        }
    }
}
