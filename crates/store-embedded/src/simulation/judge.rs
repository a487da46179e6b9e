//! Says whether what clients were told can be true. It runs the rules over a plain map, command by command in the
//! order of commits, and remembers the state after each batch. (That the rules themselves are right is shown
//! elsewhere, by the naive model in `sidenote-store`.)

use std::collections::BTreeMap;
use std::sync::Arc;

use sidenote_core::command::Command;
use sidenote_core::query::{self, Answer, Query};
use sidenote_core::rows::{Missing, Range, Row, RowKey, Rows};
use sidenote_core::{Limits, decide};
use sidenote_store::{Committed, StoreError};

use super::engine::Disk;
use super::workload::number_of;
use crate::answers::Answers;
use crate::schema::{encode_key, encode_row};

#[derive(Clone, Default)]
struct State(BTreeMap<RowKey, Row>);

impl Rows for State {
    fn row(&self, key: &RowKey) -> Result<Option<Row>, Missing> {
        Ok(self.0.get(key).cloned())
    }

    fn range(&self, range: &Range) -> Result<Vec<(RowKey, Row)>, Missing> {
        let is_within =
            |key: &RowKey| range.span.contains(key) && range.after.as_deref().is_none_or(|after| key > after);
        let rows = self.0.iter().filter(|(key, _)| is_within(key)).take(range.limit);
        Ok(rows.map(|(key, row)| (key.clone(), row.clone())).collect())
    }
}

/// A batch that was decided, and whose commit has not ended.
struct Decided {
    state: Arc<State>,
    /// What each of its commands is to be told.
    verdicts: Vec<(u64, String)>,
    changes: bool,
}

pub(super) struct Judge {
    limits: Limits,
    /// After each batch that is durable; the first is the empty state.
    states: Vec<Arc<State>>,
    under_way: Option<Decided>,
    /// By number of the command: the batch that it rests on, and what it is to be told.
    verdicts: BTreeMap<u64, (u64, String)>,
    /// The oldest batch that nobody may fall behind any more: somebody was told of it.
    floor: u64,
    /// Whether a commit has failed since the store was opened.
    has_failed: bool,
}

type Judgement = Result<(), String>;

impl Judge {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            states: vec![Arc::default()],
            under_way: None,
            verdicts: BTreeMap::new(),
            floor: 0,
            has_failed: false,
        }
    }

    /// The last durable batch.
    pub(super) fn durable(&self) -> u64 {
        self.states.len() as u64 - 1
    }

    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    pub(super) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// The writer has decided these, in this order, and is about to commit.
    pub(super) fn decided(&mut self, answers: &Answers, stages_changes: bool) -> Judgement {
        let mut state = State::clone(&self.states[self.states.len() - 1]);
        let mut verdicts = Vec::new();
        let mut changes = false;
        for (job, answer) in answers {
            let number = number_of(&job.command);
            match answer {
                Ok(Committed { verdict, prompt_debts }) => {
                    let expected = decide(&state, &job.command, &self.limits).expect("all rows are at hand");
                    let found = told(verdict, prompt_debts);
                    let wanted = told(&expected.verdict, &expected.prompt_debts);
                    if found != wanted {
                        let command = describe(&job.command);
                        return Err(format!("{command}\n was decided as {found}\n but should be {wanted}"));
                    }
                    changes |= !expected.changes.is_empty();
                    for change in expected.changes {
                        match change.row {
                            Some(row) => state.0.insert(change.key, row),
                            None => state.0.remove(&change.key),
                        };
                    }
                    verdicts.push((number, wanted));
                }
                Err(error) => self.failed_alone(error, &describe(&job.command))?,
            }
        }
        if changes != stages_changes {
            return Err(
                "a batch stages changes where there are none, or none where there are some".to_owned()
            );
        }
        self.under_way = Some(Decided { state: Arc::new(state), verdicts, changes });
        Ok(())
    }

    /// The commit has ended: well, or, for a batch with changes, with an error.
    pub(super) fn commit_ended(&mut self, is_durable: bool, disk: &Disk) -> Judgement {
        let decided = self.under_way.take().expect("a batch is decided before it is committed");
        if decided.changes && !is_durable {
            self.has_failed = true;
            self.under_way = Some(decided);
            return Ok(());
        }
        if decided.changes {
            self.states.push(decided.state);
            self.compare(disk)?;
        }
        let batch = self.durable();
        self.verdicts.extend(decided.verdicts.into_iter().map(|(number, told)| (number, (batch, told))));
        Ok(())
    }

    /// The store was opened again. `survived`: the batch whose commit had failed is there all the same.
    pub(super) fn reopened(&mut self, survived: bool, disk: &Disk) -> Judgement {
        let last = self.under_way.take().filter(|_| survived);
        self.states.extend(last.map(|decided| decided.state));
        self.has_failed = false;
        self.compare(disk)
    }

    /// The rows on disk are those of the state after the last batch.
    fn compare(&self, disk: &Disk) -> Judgement {
        if disk.number != self.durable() {
            return Err(format!("the disk holds batch {} and not {}", disk.number, self.durable()));
        }
        let state = &self.states[self.states.len() - 1].0;
        let expected: BTreeMap<_, _> =
            state.iter().map(|(key, row)| (encode_key(key), (key, encode_row(row)))).collect();
        for (bytes, (key, row)) in &expected {
            if disk.rows.get(bytes).map(|row| &row[..]) != Some(&row[..]) {
                return Err(format!("batch {} has another row on disk under {key:?}", disk.number));
            }
        }
        if disk.rows.len() != expected.len() {
            return Err(format!("batch {} has rows on disk that should not be there", disk.number));
        }
        Ok(())
    }

    /// A client was told this of its command. `since`: the floor when it asked.
    pub(super) fn command_answered(
        &mut self,
        command: &Command,
        since: u64,
        answer: &Result<Committed, StoreError>,
    ) -> Judgement {
        let verdict = self.verdicts.get(&number_of(command));
        match (answer, verdict) {
            (Ok(Committed { verdict, prompt_debts }), Some((batch, expected))) => {
                let found = told(verdict, prompt_debts);
                if found != *expected {
                    return Err(format!("{}\n was told {found}\n and not {expected}", describe(command)));
                }
                if *batch < since {
                    return Err(format!("{}\n was decided before it was asked", describe(command)));
                }
                self.floor = self.floor.max(*batch);
                Ok(())
            }
            (Ok(_), None) => Err(format!("{}\n was answered and is not durable", describe(command))),
            (Err(error), Some(_)) => Err(format!("{}\n was told {error}, but it holds", describe(command))),
            (Err(error), None) => self.failed_alone(error, &describe(command)),
        }
    }

    /// A client was told this. `since`: the floor when it asked.
    pub(super) fn question_answered(
        &mut self,
        query: &Query,
        since: u64,
        answer: &Result<Answer, StoreError>,
    ) -> Judgement {
        let found = match answer {
            Ok(answer) => format!("{answer:?}"),
            Err(error) => return self.failed_alone(error, &format!("{query:?}")),
        };
        for (batch, state) in (0..).zip(&self.states).skip(usize::try_from(since).unwrap()) {
            let expected = query::answer(&**state, query, &self.limits).expect("all rows are at hand");
            if format!("{expected:?}") == found {
                // Later states may answer the same. The first that does is the least that is known now.
                self.floor = self.floor.max(batch);
                return Ok(());
            }
        }
        let before = self.states[..usize::try_from(since).unwrap()].iter().rposition(|state| {
            let expected = query::answer(&**state, query, &self.limits).expect("all rows are at hand");
            format!("{expected:?}") == found
        });
        let durable = self.durable();
        Err(format!(
            "{query:?}\n was answered {found},\n which no state from batch {since} to {durable} answers \
             (of earlier ones: {before:?})"
        ))
    }

    /// Which errors there may be, and when.
    fn failed_alone(&self, error: &StoreError, what: &str) -> Judgement {
        let is_possible = match error {
            StoreError::Poisoned { .. } => self.has_failed,
            StoreError::Busy { reason } => reason.contains("kept changing"),
            StoreError::Unreadable { reason } => reason.contains("on purpose"),
            StoreError::Closed => true,
            // Files are at hand or broken; there is no connection that could be lost.
            StoreError::Unknown { .. } => false,
        };
        if is_possible { Ok(()) } else { Err(format!("{what}\n failed: {error}")) }
    }
}

fn told(verdict: &impl std::fmt::Debug, prompt_debts: &impl std::fmt::Debug) -> String {
    format!("{verdict:?}, debts {prompt_debts:?}")
}

fn describe(command: &Command) -> String {
    format!("command {} ({:?})", number_of(command), command.action)
}
