//! Whose turn it is: one lane for each conversation that has something to tell, served in turns.
//!
//! Within a lane one event is told after the other. Lanes stand in one line, and after a bounded number of events a lane
//! goes to its end, so that a busy conversation does not hold up the others. A lane whose event failed waits aside.

use std::collections::{BTreeSet, HashMap, VecDeque};

use sidenote_core::ids::{Conversation, EventNumber, Incarnation, Timestamp};
use sidenote_core::outbox::Gone;
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
        let Some(lane) = self.lanes.get_mut(conversation) else { return self.find(conversation) };
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

    /// The store knows that this conversation has something to tell. True if that is news.
    pub(super) fn find(&mut self, conversation: &Conversation) -> bool {
        if self.lanes.contains_key(conversation) {
            return false;
        }
        if self.lanes.len() >= self.most {
            self.overflown = true;
            return false;
        }
        let lane = Lane { state: State::InLine, work: Work::default() };
        self.lanes.insert(conversation.clone(), lane);
        self.line.push_back(conversation.clone());
        true
    }

    /// Whether there were conversations without room for a lane since the last call. They are still known to the store.
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

    /// Puts those whose event failed back into the line: the receiver answers again.
    pub(super) fn retry_now(&mut self) -> bool {
        let mut failed = Vec::new();
        for (conversation, lane) in &mut self.lanes {
            if let State::Retries(at) = lane.state {
                lane.state = State::InLine;
                failed.push((at, conversation.clone()));
            }
        }
        // In the order in which they would have been tried.
        failed.sort_unstable();
        let any = !failed.is_empty();
        for waiting in failed {
            self.waiting.remove(&waiting);
            self.line.push_back(waiting.1);
        }
        any
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
    async fn a_receiver_that_is_back_gets_everything_at_once() {
        let (mut schedule, now) = (Schedule::new(9), Instant::now());
        for (name, secs) in [("a", 9), ("b", 8)] {
            schedule.look(&group(name));
            next(&mut schedule, now);
            schedule.give_back(group(name), Next::Retry(now + Duration::from_secs(secs), Work::default()));
        }
        assert!(schedule.retry_now() && !schedule.retry_now());
        assert_eq!(next(&mut schedule, now).as_deref(), Some("b"));
        assert_eq!(next(&mut schedule, now).as_deref(), Some("a"));
        assert_eq!(schedule.due(), None);
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
        assert!(schedule.find(&group("c")));
    }
}
