//! `sidenote check`: does a store hold what it must?

use std::io::{StdoutLock, Write as _};
use std::process::ExitCode;

use clap::Args;
use sidenote_store::audit::{Audit, Finding, Place, Totals, Weight};

use super::origin::{Origin, Rate};
use crate::progress::count;
use crate::storage::postgres::UNFINISHED;

/// Findings that are printed. More are counted.
const MOST_LINES: u64 = 1000;

/// Look at every row of a store or a backup, and say what is wrong and where
#[derive(Args)]
#[command(after_help = "\
Example: sidenote check --config sidenote.toml

A running server is asked for the state of one moment and goes on meanwhile; so do nodes on a database. Lines that begin with \"damage:\" make
the exit code 1; those that begin with \"remark:\" are harmless. No value of a pair is ever shown.")]
pub(crate) struct Check {
    #[command(flatten)]
    origin: Origin,
    #[command(flatten)]
    rate: Rate,
}

impl Check {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let mut rows = self.origin.open("check", &self.rate, None)?;
        let mut report = Report { output: std::io::stdout().lock(), damage: 0, remarks: 0 };
        for app in rows.source().unfinished() {
            let place = Place { app: Some(app), ..Place::default() };
            report.print(vec![Finding { weight: Weight::Damage, place, what: UNFINISHED.to_owned() }])?;
        }
        let mut audit = Audit::new();
        while let Some(entry) = rows.next_entry()? {
            match entry {
                Ok((key, row)) => audit.row(&key, &row),
                Err(bad) => audit.unreadable(bad.key.as_ref(), &bad.reason),
            }
            report.print(audit.take())?;
        }
        drop(rows);
        let (totals, findings) = audit.finish();
        report.print(findings)?;
        report.end(totals)
    }
}

struct Report {
    output: StdoutLock<'static>,
    damage: u64,
    remarks: u64,
}

impl Report {
    fn print(&mut self, findings: Vec<Finding>) -> std::io::Result<()> {
        for finding in findings {
            let (kind, count) = match finding.weight {
                Weight::Damage => ("damage", &mut self.damage),
                Weight::Remark => ("remark", &mut self.remarks),
            };
            *count += 1;
            match (self.damage + self.remarks).cmp(&(MOST_LINES + 1)) {
                std::cmp::Ordering::Less => writeln!(self.output, "{kind}: {finding}")?,
                std::cmp::Ordering::Equal => writeln!(self.output, "and more, which are counted below")?,
                std::cmp::Ordering::Greater => {}
            }
        }
        Ok(())
    }

    fn end(mut self, totals: Totals) -> anyhow::Result<ExitCode> {
        writeln!(self.output, "{}", counts(totals))?;
        let remarks = count(self.remarks, "remark", "remarks");
        if self.damage == 0 {
            writeln!(self.output, "no damage, {remarks}")?;
            return Ok(ExitCode::SUCCESS);
        }
        writeln!(
            self.output,
            "damage in {}, {remarks}; restore a backup, or ask for help",
            count(self.damage, "place", "places")
        )?;
        Ok(ExitCode::FAILURE)
    }
}

fn counts(totals: Totals) -> String {
    let Totals { rows, accounts, groups, directs, members, messages, .. } = totals;
    let Totals { sets, pairs, tombstones, events, debts, outboxes, dead_letters, .. } = totals;
    let counts = [
        count(accounts, "account", "accounts"),
        count(groups, "group", "groups"),
        count(members, "member", "members"),
        count(directs, "one-to-one conversation", "one-to-one conversations"),
        count(messages, "message", "messages"),
        format!(
            "{} with {} and {}",
            count(sets, "extension set", "extension sets"),
            count(pairs, "pair", "pairs"),
            count(tombstones, "tombstone", "tombstones")
        ),
        count(events, "event", "events"),
        count(debts, "debt", "debts"),
        count(outboxes, "outbox", "outboxes"),
        count(dead_letters, "dead letter", "dead letters"),
    ];
    format!("{}: {}", count(rows, "row", "rows"), counts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_kind_is_told_as_one() {
        let few =
            Totals { rows: 9, groups: 1, messages: 1, sets: 1, pairs: 1, outboxes: 1, ..Totals::default() };
        assert_eq!(
            counts(few),
            "9 rows: 0 accounts, 1 group, 0 members, 0 one-to-one conversations, 1 message, 1 extension set with 1 pair and \
             0 tombstones, 0 events, 0 debts, 1 outbox, 0 dead letters"
        );
    }
}
