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
        let Totals { rows, accounts, groups, directs, members, messages, .. } = totals;
        let Totals { sets, pairs, tombstones, events, debts, outboxes, dead_letters, .. } = totals;
        writeln!(
            self.output,
            "{}: {}, {}, {}, {}, {}, {} with {} and {}, {}, {}, {}, {}",
            count(rows, "row", "rows"),
            count(accounts, "account", "accounts"),
            count(groups, "group", "groups"),
            count(members, "member", "members"),
            count(directs, "one-to-one conversation", "one-to-one conversations"),
            count(messages, "message", "messages"),
            count(sets, "extension set", "extension sets"),
            count(pairs, "pair", "pairs"),
            count(tombstones, "tombstone", "tombstones"),
            count(events, "event", "events"),
            count(debts, "debt", "debts"),
            count(outboxes, "outbox", "outboxes"),
            count(dead_letters, "dead letter", "dead letters"),
        )?;
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
