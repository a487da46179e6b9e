//! What an operator does with dead letters, the same for a running server and for a store that nobody uses: a request
//! of one line, an answer in lines of text.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Write;
use std::str::FromStr;

use anyhow::Context as _;
use sidenote_core::ids::{Conversation, ConversationId, Incarnation};
use sidenote_core::query::DeadLetterAt;
use sidenote_server::clock::{Clock as _, SystemClock};
use sidenote_server::webhooks::{DeadLetters, LetterId, NotReplayed};
use tokio::runtime::Handle;

use crate::progress::count;

/// Letters that are read at a time.
const LETTERS_PER_PAGE: usize = 64;

/// Letters that one request can name.
pub(crate) const MAX_NAMED: usize = 1000;

/// What is to be done with letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    List,
    Show,
    Replay,
    Discard,
}

/// What is to be done with which letters of which app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) deed: Deed,
    pub(crate) app: u32,
    /// `None`: all.
    pub(crate) letters: Option<BTreeSet<LetterId>>,
}

const DEEDS: [(&str, Deed); 4] =
    [("list", Deed::List), ("show", Deed::Show), ("replay", Deed::Replay), ("discard", Deed::Discard)];

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let deed = DEEDS.iter().find(|(_, deed)| *deed == self.deed).map_or("list", |(name, _)| *name);
        write!(f, "{deed} {}", self.app)?;
        match &self.letters {
            None => f.write_str(" all"),
            Some(letters) => letters.iter().try_for_each(|letter| write!(f, " {letter}")),
        }
    }
}

impl FromStr for Request {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        let mut words = line.split(' ');
        let mut next = || words.next().ok_or(());
        let name = next()?;
        let deed = DEEDS.iter().find(|(of, _)| *of == name).ok_or(())?.1;
        let app = next()?.parse().map_err(|_| ())?;
        let first = next()?;
        let letters = if first == "all" {
            None
        } else {
            let named = std::iter::once(first).chain(words.by_ref()).take(MAX_NAMED + 1);
            let letters: BTreeSet<_> =
                named.map(|name| name.parse().map_err(|_| ())).collect::<Result<_, _>>()?;
            if letters.len() > MAX_NAMED {
                return Err(());
            }
            Some(letters)
        };
        if words.next().is_some() { Err(()) } else { Ok(Self { deed, app, letters }) }
    }
}

/// Does what is asked and tells it. Says whether all of it worked. Must not be called by a thread of the runtime.
pub(crate) fn carry_out(
    request: &Request,
    letters: &DeadLetters,
    runtime: &Handle,
    out: &mut dyn Write,
) -> anyhow::Result<bool> {
    let mut work = Work { request, letters, runtime, out, done: 0, failed: 0, held_up: None };
    let mut missing = request.letters.clone().unwrap_or_default();
    let mut after = None;
    loop {
        let page = runtime
            .block_on(letters.page(request.app, after.as_ref(), LETTERS_PER_PAGE))
            .context("the dead letters cannot be read")?;
        for letter in &page {
            let id = LetterId::of(letter);
            if request.letters.is_none() || missing.remove(&id) {
                work.on(letter, id)?;
            }
        }
        if page.len() < LETTERS_PER_PAGE || (request.letters.is_some() && missing.is_empty()) {
            break;
        }
        after = page.into_iter().next_back();
    }
    for id in &missing {
        writeln!(work.out, "{id}: there is no such dead letter")?;
        work.failed += 1;
    }
    work.end()
}

struct Work<'a> {
    request: &'a Request,
    letters: &'a DeadLetters,
    runtime: &'a Handle,
    out: &'a mut dyn Write,
    done: u64,
    failed: u64,
    /// The life of a conversation in which a letter failed: those after it would come out of order.
    held_up: Option<(ConversationId, Incarnation)>,
}

impl Work<'_> {
    fn on(&mut self, letter: &DeadLetterAt, id: LetterId) -> anyhow::Result<()> {
        match self.request.deed {
            Deed::List => {
                let command = letter.letter.request.as_ref().map_or("-", |request| &*request.command);
                let (place, ago) = (place(&letter.id), ago(letter));
                let tries = letter.letter.tries;
                writeln!(
                    self.out,
                    "{id}  {ago} ago  {place}  {command}  {tries} tries  {}",
                    in_one_line(&letter.letter.reason)
                )?;
                self.done += 1;
            }
            Deed::Show => {
                show(self.out, letter, id)?;
                self.done += 1;
            }
            Deed::Replay
                if self
                    .held_up
                    .as_ref()
                    .is_some_and(|(id, of)| (id, *of) == (&letter.id, letter.incarnation)) =>
            {
                writeln!(self.out, "{id}: not tried, because the one before it failed")?;
                self.failed += 1;
            }
            Deed::Replay => match self.runtime.block_on(self.letters.replay(letter)) {
                Ok(()) => {
                    writeln!(self.out, "{id}: told")?;
                    self.done += 1;
                }
                Err(error) => {
                    writeln!(self.out, "{id}: {}", in_one_line(&error.to_string()))?;
                    self.failed += 1;
                    // Nothing can be sent of what is not known any more, so nothing has to wait for it.
                    if !matches!(error, NotReplayed::Empty) {
                        self.held_up = Some((letter.id.clone(), letter.incarnation));
                    }
                }
            },
            Deed::Discard => {
                self.runtime
                    .block_on(self.letters.discard(letter))
                    .with_context(|| format!("{id} cannot be discarded"))?;
                writeln!(self.out, "{id}: discarded")?;
                self.done += 1;
            }
        }
        Ok(())
    }

    fn end(self) -> anyhow::Result<bool> {
        let Self { request, out, done, failed, .. } = self;
        match request.deed {
            Deed::List => writeln!(out, "{}", count(done, "dead letter", "dead letters"))?,
            Deed::Show => {}
            Deed::Replay => writeln!(out, "{done} told, {failed} not")?,
            Deed::Discard => writeln!(out, "{done} discarded")?,
        }
        Ok(failed == 0)
    }
}

fn show(out: &mut dyn Write, at: &DeadLetterAt, id: LetterId) -> anyhow::Result<()> {
    let letter = &at.letter;
    writeln!(out, "{id}")?;
    writeln!(out, "  conversation  {}", place(&at.id))?;
    if letter.first == at.number {
        writeln!(out, "  event         {}", at.number.get())?;
    } else {
        writeln!(out, "  events        {} to {}", letter.first.get(), at.number.get())?;
    }
    writeln!(out, "  happened at   {} ms since 1970", letter.happened_at.millis())?;
    writeln!(out, "  given up at   {} ms since 1970", letter.given_up_at.millis())?;
    writeln!(out, "  tries         {}", letter.tries)?;
    writeln!(out, "  reason        {}", in_one_line(&letter.reason))?;
    if let Some(request) = &letter.request {
        writeln!(out, "  command       {}", request.command)?;
        writeln!(out, "  parameters    {}", request.origin.trim_start_matches('&'))?;
        writeln!(out, "  body          {}", in_one_line(&request.body))?;
    }
    Ok(())
}

/// A name that cannot be mistaken for anything around it.
fn place(id: &ConversationId) -> String {
    match &id.conversation {
        Conversation::Group(group) => format!("group {:?}", group.as_str()),
        Conversation::Direct(one, other) => format!("{:?} and {:?}", one.as_str(), other.as_str()),
    }
}

fn ago(letter: &DeadLetterAt) -> String {
    let millis = SystemClock.now_millis().saturating_sub(letter.letter.given_up_at.millis());
    match millis / 1000 {
        secs @ 0..120 => format!("{secs} s"),
        secs @ 120..7200 => format!("{} min", secs / 60),
        secs @ 7200..172_800 => format!("{} h", secs / 3600),
        secs => format!("{} days", secs / 86_400),
    }
}

fn in_one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sidenote_core::Limits;
    use sidenote_core::command::{Action, Command, OutboxAction};
    use sidenote_core::event::Operator;
    use sidenote_core::ids::{AppId, EventNumber, GroupId, Timestamp, UserId};
    use sidenote_core::outbox::{DeadLetter, LetterRequest};
    use sidenote_server::config::Config;
    use sidenote_store::Store;
    use sidenote_store::memory::MemoryStore;

    use super::*;

    /// Has the store keep a letter for an event of this life of a group, with something to send or without.
    async fn keep(store: &dyn Store, life: u64, event: u64, is_known: bool) {
        let id = ConversationId {
            app: AppId::new(7),
            conversation: Conversation::Group(GroupId::new("room").unwrap()),
        };
        let request = LetterRequest {
            command: "Group.CallbackAfterSendMsg".to_owned(),
            origin: String::new(),
            body: "{}".to_owned(),
        };
        let letter = DeadLetter {
            first: EventNumber::new(event),
            happened_at: Timestamp::from_millis(1),
            given_up_at: Timestamp::from_millis(2),
            tries: 1,
            reason: "why".to_owned(),
            request: is_known.then_some(request),
        };
        let through = EventNumber::new(event);
        let settle = OutboxAction::Settle { through, dead: vec![(through, letter)] };
        let command = Command {
            operator: Operator::server(UserId::new("server").unwrap()),
            at: Timestamp::from_millis(3),
            action: Action::Outbox(id, Incarnation::from_random(life), settle),
        };
        store.commit(command).await.unwrap().verdict.unwrap();
    }

    #[test]
    fn a_letter_that_fails_holds_up_those_of_the_same_life_and_one_without_a_request_none() {
        // Its handle drives nothing by itself, so that there has to be a thread that does.
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Limits::default()));
        for (life, event, is_known) in
            [(1, 1, false), (1, 2, true), (1, 3, false), (1, 4, true), (2, 1, true), (2, 2, true)]
        {
            runtime.block_on(keep(&*store, life, event, is_known));
        }
        // A port that was free a moment ago, so that nobody listens there.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "[[apps]]\nsdk_app_id = 7\nsecret_key = \"k\"\n[apps.webhook]\nurl = \"http://127.0.0.1:{port}\"\n\
             allow_networks = [\"127.0.0.1\"]\n"
        );
        let letters =
            DeadLetters::new(&Config::from_toml(&config).unwrap(), store, Arc::new(SystemClock)).unwrap();
        let request = Request { deed: Deed::Replay, app: 7, letters: None };
        let mut out = Vec::new();
        assert!(!carry_out(&request, &letters, runtime.handle(), &mut out).unwrap());
        let said = String::from_utf8(out).unwrap();
        let (gone, failed, held_up) = ("nothing to send", "no connection", "the one before it failed");
        let expected = [gone, failed, held_up, held_up, failed, held_up, "0 told, 6 not"];
        assert_eq!(said.lines().count(), expected.len(), "{said}");
        for (line, part) in said.lines().zip(expected) {
            assert!(line.contains(part), "{line}: {part}");
        }
    }

    #[test]
    fn a_request_is_one_line_and_is_read_back() {
        let named = ["00000000000000ff-12", "0000000000000001-7"].map(|id| id.parse().unwrap());
        for (request, line) in [
            (Request { deed: Deed::List, app: 7, letters: None }, "list 7 all"),
            (
                Request { deed: Deed::Replay, app: 1_400_000_001, letters: Some(named.into()) },
                "replay 1400000001 0000000000000001-7 00000000000000ff-12",
            ),
        ] {
            assert_eq!(request.to_string(), line);
            assert_eq!(line.parse(), Ok(request));
        }
        for wrong in
            ["", "list", "list 7", "list x all", "burn 7 all", "list 7 all all", "list 7 12", "list 7 "]
        {
            assert_eq!(wrong.parse::<Request>(), Err(()), "{wrong}");
        }
    }
}
