//! `sidenote restore`: a store out of a backup.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use super::origin::{Folder, open_backup, require_file};
use crate::progress::{Progress, so_far};
use crate::storage::{self, Source};

/// Make a store out of a backup
#[derive(Args)]
#[command(after_help = "\
Example: sidenote restore --from backup-2026-01-31.sidenote --data ./restored

The folder must be empty or new. The backup is read to its end first, so a damaged one changes nothing. If the second
reading is interrupted, no server opens the folder before the same command was run again.")]
pub(crate) struct Restore {
    /// Backup to read
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    #[command(flatten)]
    folder: Folder,
}

impl Restore {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let unreadable = || format!("cannot restore {}", self.from.display());
        let open = || open_backup(&self.from).with_context(unreadable);
        let folder = self.folder.path()?;

        require_file(&self.from).with_context(unreadable)?;
        let mut source = open()?;
        let mut progress = Progress::begin("reading", source.approximate_rows());
        while next(&mut source, &mut progress).with_context(unreadable)?.is_some() {}
        let whole = source.totals();
        drop(progress);

        let unwritable = || format!("cannot restore to {}", folder.display());
        let mut loader = storage::fill(&folder).with_context(unwritable)?;
        let mut source = open()?;
        let mut progress = Progress::begin("writing", whole.rows);
        while let Some(row) = next(&mut source, &mut progress).with_context(unreadable)? {
            loader.put(row).with_context(unwritable)?;
        }
        if source.totals() != whole {
            anyhow::bail!("{} changed while it was read; run the command again", self.from.display());
        }
        loader.finish().with_context(unwritable)?;
        drop(progress);
        let (batch, size) = (source.batch(), so_far(whole.rows, whole.bytes));
        let mut output = std::io::stdout().lock();
        writeln!(output, "{}: the state after batch {batch}, {size}", folder.display())?;
        Ok(ExitCode::SUCCESS)
    }
}

fn next(source: &mut Source, progress: &mut Progress) -> anyhow::Result<Option<storage::RawRow>> {
    let row = source.next_row()?;
    let totals = source.totals();
    progress.at(totals.rows, totals.rows, totals.bytes);
    Ok(row)
}
