//! An import that was begun and will not be finished.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use sidenote_core::ids::AppId;
use sidenote_core::rows::RowKey;

use crate::cli::export::Selection;
use crate::cli::origin::Place;
use crate::progress::{Progress, count, so_far};
use crate::storage;

/// Longest name of a piece of work, in bytes, that a folder keeps.
const MAX_WORK_BYTES: usize = 200;

/// What an import into the store in a folder is called as long as it is not done. It names the apps, if they are not too
/// many, so that it can be given up without its file.
pub(super) fn work(apps: &BTreeSet<AppId>, digest: u64) -> String {
    let names: Vec<_> = apps.iter().map(ToString::to_string).collect();
    let work = format!("import of app {} from the file with the digest {digest:016x}", names.join(", "));
    if work.len() > MAX_WORK_BYTES {
        return format!("import of the file with the digest {digest:016x}");
    }
    work
}

/// The apps that a piece of work brings in, if it is an import that names them.
fn apps_of(work: &str) -> Option<BTreeSet<AppId>> {
    let (apps, _) = work.strip_prefix("import of app ")?.split_once(" from the file")?;
    apps.split(", ").map(|app| app.parse().ok().map(AppId::new)).collect()
}

/// Gives up the import of this app, or the only one.
pub(super) fn run(place: Place, app: Option<u32>) -> anyhow::Result<ExitCode> {
    let (apps, rows) = match place {
        Place::Folder(folder) => in_folder(&folder, app.map(AppId::new)),
        Place::Database(options) => {
            storage::postgres::abandon(&options, app).map(|abandoned| (abandoned.apps, abandoned.rows))
        }
    }
    .context("cannot give up the import")?;
    let apps: Vec<_> = apps.iter().map(ToString::to_string).collect();
    let apps = apps.join(", ");
    writeln!(
        std::io::stdout().lock(),
        "the import of app {apps} was given up, and what it had brought in was removed: {}",
        count(rows, "row", "rows")
    )?;
    Ok(ExitCode::SUCCESS)
}

fn in_folder(folder: &Path, app: Option<AppId>) -> anyhow::Result<(BTreeSet<AppId>, u64)> {
    let name = folder.display();
    let Some(work) = storage::unfinished_work(folder)? else {
        bail!("there is no import into {name} that was begun and not finished");
    };
    let Some(apps) = apps_of(&work) else {
        if storage::is_vacant(folder) {
            bail!("nothing else is in {name}: remove it, or import another file to it");
        }
        bail!("the {work} does not say which apps it brings to {name}; restore a backup of it");
    };
    if let Some(app) = app.filter(|app| !apps.contains(app)) {
        bail!("there is no import of app {app} into {name} that was begun and not finished");
    }
    let mut loader = storage::add(folder, &work)?;
    let mut removed = 0;
    // First what lies within conversations, which is found by their rows and by what is owed, for this may be interrupted too.
    for is_within in [true, false] {
        let mut selections: Vec<_> = apps.iter().map(|app| Selection::new(Some(app.get()))).collect();
        let mut there = storage::rows_before(&loader);
        let mut progress = Progress::begin("giving up", there.approximate_rows());
        while let Some(entry) = there.next_entry()? {
            let totals = there.totals();
            progress.at(totals.rows, totals.rows, totals.bytes);
            let Ok((key, row)) = entry else {
                bail!(
                    "the store there is damaged ({}); restore a backup of it",
                    so_far(totals.rows, totals.bytes)
                );
            };
            let is_of_it = selections.iter_mut().any(|selection| selection.takes(&key, &row));
            if is_of_it && is_within == matches!(key, RowKey::Within(..) | RowKey::Event(..)) {
                storage::remove(&mut loader, &key)?;
                removed += 1;
            }
        }
        loader.flush()?;
    }
    loader.finish()?;
    Ok((apps, removed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_an_import_tells_its_apps_unless_they_are_too_many() {
        let few = BTreeSet::from([AppId::new(1), AppId::new(u32::MAX)]);
        assert_eq!(
            work(&few, 255),
            "import of app 1, 4294967295 from the file with the digest 00000000000000ff"
        );
        assert_eq!(apps_of(&work(&few, 255)), Some(few));
        let many: BTreeSet<_> = (0..100).map(|app| AppId::new(1_400_000_000 + app)).collect();
        assert!(work(&many, 255).len() <= MAX_WORK_BYTES);
        for work in
            [&work(&many, 255), "restore or import", "import of app x from the file", "import of app 1"]
        {
            assert_eq!(apps_of(work), None, "{work}");
        }
    }
}
