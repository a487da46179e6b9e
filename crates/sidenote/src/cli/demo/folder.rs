//! Where a demo keeps its things: a throw-away folder, or one that it was given.
//!
//! The configuration with the secret key lies beside the store, readable by its owner alone, so that the next
//! demo on the folder, `serve` and `call` can use it.

use std::fs::{self, DirBuilder};
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sidenote_server::config::{Config, Store};
use tempfile::{NamedTempFile, TempDir};

use crate::failure::Usage;

/// The configuration in the folder.
const CONFIGURATION: &str = "demo.toml";

/// The store in the folder.
const STORE: &str = "store";

/// The folder of one demo.
pub(super) struct Folder {
    path: PathBuf,
    throw_away: Option<TempDir>,
}

impl Folder {
    /// Makes a throw-away folder, or takes the one that is given: a new one, an empty one, or that of an
    /// earlier demo.
    pub(super) fn open(given: Option<PathBuf>) -> anyhow::Result<Self> {
        let folder = match given {
            None => {
                let folder = tempfile::Builder::new()
                    .prefix("sidenote-demo-")
                    .tempdir()
                    .context("cannot make a throw-away folder; name a folder with --data")?;
                Self { path: folder.path().to_owned(), throw_away: Some(folder) }
            }
            Some(path) => {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(&path)
                    .with_context(|| format!("cannot make the folder {}", path.display()))?;
                let path = path
                    .canonicalize()
                    .with_context(|| format!("cannot find the folder {}", path.display()))?;
                Self { path, throw_away: None }
            }
        };
        if !folder.configuration().exists() {
            folder.refuse_strangers()?;
            folder.write_configuration()?;
        }
        Ok(folder)
    }

    /// The configuration in the folder, with the store beside it. The environment has no say in a demo.
    pub(super) fn config(&self) -> anyhow::Result<Config> {
        let path = self.configuration();
        let unusable = || format!("{} is not usable for a demo", path.display());
        let text = fs::read_to_string(&path).with_context(unusable)?;
        let mut config = Config::from_toml(&text).with_context(unusable)?;
        match &mut config.store {
            Store::Embedded(embedded) => embedded.path = self.path.join(STORE),
            Store::Postgres(_) => {
                let sentence = "a demo keeps its data in its own folder; leave store.engine out of it";
                return Err(Usage::error(sentence)).with_context(unusable);
            }
        }
        config.tls = None;
        Ok(config)
    }

    /// What becomes of the folder, for the user.
    pub(super) fn farewell(&self) -> String {
        let path = self.path.display();
        if self.throw_away.is_some() {
            format!("Ctrl-C ends the demo and removes its folder {path}")
        } else {
            format!("Ctrl-C ends the demo; its folder {path} stays for the next one.")
        }
    }

    /// Removes the folder if it is a throw-away one.
    pub(super) fn leave(self) -> anyhow::Result<()> {
        match self.throw_away {
            Some(folder) => {
                folder.close().with_context(|| format!("cannot remove the folder {}", self.path.display()))
            }
            None => Ok(()),
        }
    }

    /// The same without patience, for a process that is about to exit: what cannot be removed stays.
    pub(super) fn leave_at_once(&self) {
        if self.throw_away.is_some() {
            let _ = fs::remove_dir_all(&self.path);
        }
    }

    fn configuration(&self) -> PathBuf {
        self.path.join(CONFIGURATION)
    }

    /// A folder with somebody's files in it was surely named by mistake.
    fn refuse_strangers(&self) -> anyhow::Result<()> {
        let unreadable = || format!("cannot read the folder {}", self.path.display());
        let mut entries = fs::read_dir(&self.path).with_context(unreadable)?;
        match entries.next() {
            None => Ok(()),
            Some(_) => Err(Usage::error(format!(
                "the folder {} holds files but no {CONFIGURATION}, so no demo has made it; name an empty folder or a \
                 new one",
                self.path.display()
            ))),
        }
    }

    /// Writes it to a file of another name first, so that a file of this name is never a part of one. Temporary
    /// files are readable by their owner alone (mode 0600), and stay so.
    fn write_configuration(&self) -> anyhow::Result<()> {
        let path = self.configuration();
        let unwritable = || format!("cannot write {}", path.display());
        let text = configuration(&self.path.join(STORE)).with_context(unwritable)?;
        let mut file = NamedTempFile::new_in(&self.path).with_context(unwritable)?;
        file.write_all(text.as_bytes()).with_context(unwritable)?;
        file.persist_noclobber(&path).with_context(unwritable)?;
        Ok(())
    }
}

fn configuration(store: &Path) -> anyhow::Result<String> {
    let Some(store) = store.to_str() else {
        return Err(Usage::error("the folder's name is not UTF-8; name another one with --data"));
    };
    let key = rand::random::<[u64; 4]>().map(|part| format!("{part:016x}")).concat();
    // A JSON text is also a TOML text.
    let store = serde_json::Value::from(store);
    Ok(format!(
        "\
# Made by `sidenote demo`. Who has the key is administrator of this server.
listen = \"127.0.0.1:7780\"

[store]
path = {store}

[[apps]]
sdk_app_id = 1400000001
secret_key = \"{key}\"
admins = [\"administrator\"]

[log]
level = \"warn\"
"
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_throw_away_folder_is_gone_afterwards() {
        let folder = Folder::open(None).unwrap();
        let path = folder.path.clone();
        assert_eq!(folder.config().unwrap().store.folder().unwrap(), path.join("store"));
        assert!(path.join("demo.toml").exists());
        folder.leave().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_given_folder_keeps_its_key_to_its_owner() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a \"quoted\" name");
        let first = Folder::open(Some(path.clone())).unwrap();
        let key = first.config().unwrap().apps[0].keys[0].expose().to_vec();
        assert_eq!(key.len(), 64);
        first.leave().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join("demo.toml"))), (0o700, 0o600));

        let second = Folder::open(Some(path)).unwrap();
        assert_eq!(second.config().unwrap().apps[0].keys[0].expose(), key);
    }

    #[test]
    fn a_folder_with_files_of_others_is_refused() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("thesis.txt"), "precious").unwrap();
        let error = Folder::open(Some(home.path().to_owned())).err().unwrap().to_string();
        assert!(error.contains("no demo has made it"), "{error}");
        assert!(!home.path().join("demo.toml").exists());
    }
}
