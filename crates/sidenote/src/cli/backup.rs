//! `sidenote backup`: everything that a store holds, in one file.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use sidenote_server::clock::{Clock as _, SystemClock};
use tempfile::NamedTempFile;

use super::origin::{Folder, Rate, open_folder};
use crate::failure::Usage;
use crate::progress::so_far;
use crate::storage::Writer;

/// Write everything that a store holds to one file, also while its server runs
#[derive(Args)]
#[command(after_help = "\
Example: sidenote backup --config sidenote.toml --to backup-2026-01-31.sidenote

The file holds the state of one moment: every change that was answered before the backup began. A running server goes
on as before; run this as the user that it runs as. The file appears when it is whole, readable by its owner alone.")]
pub(crate) struct Backup {
    #[command(flatten)]
    folder: Folder,
    /// File to make; it must not exist
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    #[command(flatten)]
    rate: Rate,
}

impl Backup {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let Self { folder, to, rate } = self;
        let unwritable = || format!("cannot write {}", to.display());
        let mut draft = draft(&to).with_context(unwritable)?;
        let mut rows = open_folder(&folder.path()?, "backup", &rate)?;
        let header = rows.source().header(SystemClock.now_millis()).context("there are no files")?;
        let to_file = BufWriter::with_capacity(256 * 1024, draft.as_file_mut());
        let mut writer = Writer::begin(to_file, &header).with_context(unwritable)?;
        while let Some(row) = rows.next_row()? {
            writer.row(&row).with_context(unwritable)?;
        }
        let (file, totals) = writer.finish().with_context(unwritable)?;
        drop(file);
        drop(rows);
        publish(draft, &to).with_context(unwritable)?;
        let mut output = std::io::stdout().lock();
        let size = so_far(totals.rows, totals.bytes);
        writeln!(output, "{}: the state after batch {}, {size}", to.display(), header.batch)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A file beside the one to be made, under another name until it is whole.
pub(super) fn draft(to: &Path) -> anyhow::Result<NamedTempFile> {
    if to.symlink_metadata().is_ok() {
        return Err(Usage::error("it exists already; choose another name"));
    }
    let folder = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(tempfile::Builder::new().prefix(".sidenote-unfinished-").tempfile_in(folder)?)
}

/// Makes the file durable and gives it its name.
pub(super) fn publish(draft: NamedTempFile, to: &Path) -> anyhow::Result<()> {
    draft.as_file().sync_all()?;
    let folder = draft.path().parent().map(Path::to_owned);
    draft.persist_noclobber(to)?;
    if let Some(folder) = folder {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}
