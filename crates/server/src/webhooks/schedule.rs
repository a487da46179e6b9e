//! Whose turn it is: one lane for each conversation that has something to tell, served in turns.
//!
//! Within a lane one event is told after the other. Lanes stand in one line, and after a bounded number of events a lane
//! goes to its end, so that a busy conversation does not hold up the others. A lane whose event failed waits aside.

use std::collections::{BTreeSet, HashMap, VecDeque};

use sidenote_core::ids::{Conversation, EventNumber, Incarnation, Timestamp};
use sidenote_core::outbox::Gone;
use sidenote_store::shared::Claim;
use tokio::time::Instant;

/// How far a conversation was told, ahead of what the store knows of it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) incarnation: Incarnation,
    /// What is left of a group that was destroyed.
    pub(super) gone: Option<Gone>,
    /// The last event that needs no more telling.
    pub(super) told: EventNumber,
    /// What the store knows of that.
    pub(super) settled: EventNumber,
    /// By which it may be told, where several processes could.
    pub(super) claim: Option<Claim>,
    /// A settlement has removed the outbox, or may have: a new one is not claimed by this, and may be somebody else's.
    pub(super) in_doubt: bool,
}

/// What a turn begins with, and leaves to the next one.
#[derive(Clone, Debug, Default)]
pub(super) struct Work {
    /// `None`: the store is to be asked.
    pub(super) place: Option<Place>,
    /// When what was told is to be settled, if anything is unsettled.
    pub(super) settle_at: Option<Instant>,
    /// How often the next event was tried.
    pub(super) tries: u32,
    /// Those tries that say something about the event: those while the receiver answered others.
    pub(super) counted: u32,
    /// Failures of this lane since it last was answered, whichever events they were of. The pauses grow with them.
    pub(super) failures: u32,
    /// When the last of them was.
    pub(super) failed_at: Option<Instant>,
    /// When the next event happened, as far as that is known.
    pub(super) oldest: Option<Timestamp>,
}

/// How a turn ended.
#[derive(Debug)]
pub(super) enum Next {
    /// There is more to tell: back into the line.
    More(Work),
    /// The event that is next failed; it is tried again then.
    Retry(Instant, Work),
    /// Nothing is left to tell; what was told is settled then.
    Linger(Instant, Work),
    /// Nothing is left at all.
    Done,
}

/// What became of a conversation that has something to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It has a lane now.
    New,
    /// It had one.
    Known,
    /// There are as many lanes as there may be.
    NoRoom,
}

#[derive(Debug)]
enum State {
    InLine,
    /// True: there is something new since it began.
    Running(bool),
    Retries(Instant),
    Lingers(Instant),
}

#[derive(Debug)]
struct Lane {
    state: State,
    work: Work,
}

/// The lanes of one app.
#[derive(Debug)]
pub(super) struct Schedule {
    lanes: HashMap<Conversation, Lane>,
    line: VecDeque<Conversation>,
    waiting: BTreeSet<(Instant, Conversation)>,
    most: usize,
    overflown: bool,
}

impl Schedule {
    /// For at most so many lanes.
    pub(super) fn new(most: usize) -> Self {
        Self {
            lanes: HashMap::new(),
            line: VecDeque::new(),
            waiting: BTreeSet::new(),
            most,
            overflown: false,
        }
    }

    /// Something happened in this conversation. True if somebody who waits for work should look.
    pub(super) fn look(&mut self, conversation: &Conversation) -> bool {
        let Some(lane) = self.lanes.get_mut(conversation) else {
            let found = self.find(conversation);
            self.overflown |= found == Found::NoRoom;
            return found == Found::New;
        };
        match lane.state {
            // Before the event that failed nothing can be told.
            State::InLine | State::Retries(_) => false,
            State::Running(_) => {
                lane.state = State::Running(true);
                false
            }
            State::Lingers(until) => {
                self.waiting.remove(&(until, conversation.clone()));
                lane.state = State::InLine;
                self.line.push_back(conversation.clone());
                true
            }
        }
    }

    /// The store knows that this conversation has something to tell.
    pub(super) fn find(&mut self, conversation: &Conversation) -> Found {
        if self.lanes.contains_key(conversation) {
            return Found::Known;
        }
        if self.lanes.len() >= self.most {
            return Found::NoRoom;
        }
        let lane = Lane { state: State::InLine, work: Work::default() };
        self.lanes.insert(conversation.clone(), lane);
        self.line.push_back(conversation.clone());
        Found::New
    }

    /// Whether something happened in conversations without room for a lane since the last call. They are still known
    /// to the store.
    pub(super) fn take_overflow(&mut self) -> bool {
        std::mem::take(&mut self.overflown)
    }

    /// The next lane to be served; it is to be [given back](Self::give_back).
    pub(super) fn take(&mut self, now: Instant) -> Option<(Conversation, Work)> {
        while self.waiting.first().is_some_and(|(due, _)| *due <= now) {
            let Some((_, conversation)) = self.waiting.pop_first() else { break };
            if let Some(lane) = self.lanes.get_mut(&conversation) {
                lane.state = State::InLine;
                self.line.push_back(conversation);
            }
        }
        let conversation = self.line.pop_front()?;
        let lane = self.lanes.get_mut(&conversation)?;
        lane.state = State::Running(false);
        Some((conversation, std::mem::take(&mut lane.work)))
    }

    /// A turn has ended.
    pub(super) fn give_back(&mut self, conversation: Conversation, next: Next) {
        let Some(lane) = self.lanes.get_mut(&conversation) else { return };
        let has_news = matches!(lane.state, State::Running(true));
        (lane.state, lane.work) = match next {
            Next::Retry(at, work) => (State::Retries(at), work),
            Next::More(work) => (State::InLine, work),
            Next::Linger(_, work) if has_news => (State::InLine, work),
            Next::Linger(at, work) => (State::Lingers(at), work),
            Next::Done if has_news => (State::InLine, Work::default()),
            Next::Done => {
                self.lanes.remove(&conversation);
                return;
            }
        };
        match lane.state {
            State::Retries(at) | State::Lingers(at) => {
                self.waiting.insert((at, conversation));
            }
            State::InLine | State::Running(_) => self.line.push_back(conversation),
        }
    }

    /// When the first of those that wait is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.waiting.first().map(|(due, _)| *due)
    }

    /// Puts those that failed since then back into the line, in the order in which they would have been tried: the
    /// receiver failed all of them, and answers again. One that failed before, while others were answered, goes on
    /// waiting.
    pub(super) fn retry_those_failed_since(&mut self, since: Instant) {
        let mut failed = Vec::new();
        for (at, conversation) in &self.waiting {
            if let Some(lane) = self.lanes.get_mut(conversation)
                && matches!(lane.state, State::Retries(_))
                && lane.work.failed_at.is_some_and(|failed_at| failed_at >= since)
            {
                lane.state = State::InLine;
                failed.push((*at, conversation.clone()));
            }
        }
        for waiting in failed {
            self.waiting.remove(&waiting);
            self.line.push_back(waiting.1);
        }
    }

    /// Conversations with something to tell, and when the oldest of what they have to tell happened.
    pub(super) fn backlog(&self) -> (usize, Option<Timestamp>) {
        let busy = self.lanes.values().filter(|lane| !matches!(lane.state, State::Lingers(_)));
        busy.fold((0, None), |(count, oldest), lane| {
            let of_lane = lane.work.oldest;
            (count + 1, oldest.into_iter().chain(of_lane).min())
        })
    }

    /// What was told and not settled, of all lanes that are not being served.
    pub(super) fn unsettled(&self) -> Vec<(Conversation, Place)> {
        let lanes = self.lanes.iter();
        lanes
            .filter_map(|(conversation, lane)| Some((conversation.clone(), lane.work.place.clone()?)))
            .filter(|(_, place)| place.told > place.settled)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sidenote_core::ids::GroupId;

    use super::*;

    fn group(name: &str) -> Conversation {
        Conversation::Group(GroupId::new(name).unwrap())
    }

    fn next(schedule: &mut Schedule, now: Instant) -> Option<String> {
        match schedule.take(now) {
            Some((Conversation::Group(group), _)) => Some(group.to_string()),
            _ => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lanes_are_served_in_turns() {
        let (mut schedule, now) = (Schedule::new(9), Instant::now());
        for name in ["a", "b", "a", "c"] {
            schedule.look(&group(name));
        }
        assert_eq!(next(&mut schedule, now).as_deref(), Some("a"));
        schedule.give_back(group("a"), Next::More(Work::default()));
        for name in ["b", "c", "a"] {
            assert_eq!(next(&mut schedule, now).as_deref(), Some(name));
        }
        assert_eq!(next(&mut schedule, now), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_happens_during_a_turn_is_not_forgotten() {
        let (mut schedule, now) = (Schedule::new(9), Instant::now());
        assert!(schedule.look(&group("a")));
        next(&mut schedule, now);
        assert!(!schedule.look(&group("a")));
        schedule.give_back(group("a"), Next::Done);
        assert_eq!(next(&mut schedule, now).as_deref(), Some("a"));
        schedule.give_back(group("a"), Next::Done);
        assert_eq!((next(&mut schedule, now), schedule.backlog()), (None, (0, None)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_that_failed_holds_up_its_own_lane_alone() {
        let (mut schedule, now) = (Schedule::new(9), Instant::now());
        schedule.look(&group("a"));
        next(&mut schedule, now);
        let at = now + Duration::from_secs(5);
        schedule.give_back(group("a"), Next::Retry(at, Work { tries: 1, ..Work::default() }));
        assert!(!schedule.look(&group("a")));
        schedule.look(&group("b"));
        assert_eq!(next(&mut schedule, now).as_deref(), Some("b"));
        assert_eq!((next(&mut schedule, now), schedule.due()), (None, Some(at)));
        assert_eq!(schedule.take(at).unwrap().1.tries, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_receiver_that_is_back_gets_what_it_failed_and_nothing_else() {
        let (mut schedule, start) = (Schedule::new(9), Instant::now());
        let secs = Duration::from_secs;
        // "old" failed before the receiver did not answer any more; the store failed under "odd".
        for (name, failed_at, secs_left) in [
            ("a", Some(start + secs(2)), 9),
            ("old", Some(start), 3),
            ("b", Some(start + secs(1)), 8),
            ("odd", None, 4),
        ] {
            schedule.look(&group(name));
            next(&mut schedule, start);
            let work = Work { failed_at, ..Work::default() };
            schedule.give_back(group(name), Next::Retry(start + secs(secs_left), work));
        }
        schedule.retry_those_failed_since(start + secs(1));
        assert_eq!(next(&mut schedule, start).as_deref(), Some("b"));
        assert_eq!(next(&mut schedule, start).as_deref(), Some("a"));
        assert_eq!((next(&mut schedule, start), schedule.due()), (None, Some(start + secs(3))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lane_lingers_until_there_is_news_or_it_is_time() {
        let (mut schedule, now) = (Schedule::new(9), Instant::now());
        let at = now + Duration::from_secs(1);
        schedule.look(&group("a"));
        next(&mut schedule, now);
        schedule.give_back(group("a"), Next::Linger(at, Work::default()));
        assert_eq!((schedule.backlog(), next(&mut schedule, now)), ((0, None), None));
        assert!(schedule.look(&group("a")));
        assert_eq!(next(&mut schedule, now).as_deref(), Some("a"));
        schedule.give_back(group("a"), Next::Linger(at, Work::default()));
        assert_eq!(next(&mut schedule, at).as_deref(), Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_never_more_lanes_than_allowed() {
        let (mut schedule, now) = (Schedule::new(2), Instant::now());
        assert!(schedule.look(&group("a")) && schedule.look(&group("b")));
        assert!(!schedule.take_overflow());
        assert!(!schedule.look(&group("c")));
        assert!(schedule.take_overflow() && !schedule.take_overflow());
        next(&mut schedule, now);
        schedule.give_back(group("a"), Next::Done);
        assert_eq!(schedule.find(&group("c")), Found::New);
        assert_eq!(schedule.find(&group("c")), Found::Known);
        assert_eq!(schedule.find(&group("a")), Found::NoRoom);
        assert!(!schedule.take_overflow());
    }
}
