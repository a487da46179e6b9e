//! A secret text, such as the key an app signs its tickets with.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use zeroize::Zeroizing;

/// A secret text of at least one byte. It prints as `Secret(****)`, and its memory is overwritten
/// when it is dropped.
///
/// It implements neither `PartialEq` nor `Serialize`: a secret is compared through what it signs,
/// and is never written anywhere.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over, without copying it and without trimming it: the bytes given here are
    /// the HMAC key. An empty text is refused, because anybody can sign with an empty key.
    pub fn new(text: String) -> Result<Self, EmptySecret> {
        // Wrapped before the check, so that a refused text is overwritten too: its capacity may
        // still hold what was truncated away.
        let text = Zeroizing::new(text);
        if text.is_empty() { Err(EmptySecret) } else { Ok(Self(text)) }
    }

    /// The bytes of the text. They must not reach a log line, an error or an answer.
    pub fn expose(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The text, for what takes no bytes. It must not go anywhere else either.
    pub fn expose_text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(****)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(****)")
    }
}

/// Whether everybody on this machine may read a file, by its mode. Containers are given secrets as files of root that everybody
/// may read and nobody may write, or behind a link; there nobody else is on the machine.
pub(super) fn is_exposed(path: &Path) -> bool {
    let (Ok(file), Ok(itself)) = (path.metadata(), path.symlink_metadata()) else { return false };
    let is_given = file.uid() == 0 && (file.mode() & 0o222 == 0 || itself.is_symlink());
    file.mode() & 0o004 != 0 && !is_given
}

/// An empty text was given where a secret is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the secret is empty; give at least one character")]
pub struct EmptySecret;

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_secret_is_exposed_byte_for_byte_and_only_on_demand() {
        let secret = Secret::new(" hunter2\n".to_owned()).unwrap();
        assert_eq!(secret.expose(), b" hunter2\n");
        assert_eq!(secret.clone().expose(), b" hunter2\n");
    }

    #[test]
    fn a_secret_prints_as_stars_however_it_is_printed() {
        let secret = Secret::new("hunter2".to_owned()).unwrap();
        for printed in [
            format!("{secret}"),
            format!("{secret:>40}"),
            format!("{secret:?}"),
            format!("{:#?}", Some(&secret)),
            format!("{:?}", [secret.clone(), secret.clone()]),
        ] {
            assert!(printed.contains("Secret(****)"), "{printed}");
            assert!(!printed.contains("hunter2"), "{printed}");
        }
    }

    #[test]
    fn a_file_is_exposed_if_its_mode_says_so_and_no_container_was_given_it() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("key"), folder.path().join("link"));
        std::fs::write(&path, "key").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let is_root = path.metadata().unwrap().uid() == 0;
        for (mode, of_anybody, of_root) in
            [(0o600, false, false), (0o660, false, false), (0o644, true, true), (0o444, true, false)]
        {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(is_exposed(&path), if is_root { of_root } else { of_anybody }, "{mode:o}");
            assert_eq!(is_exposed(&link), of_anybody && !is_root, "{mode:o}");
        }
        assert!(!is_exposed(&folder.path().join("none")));
    }

    #[test]
    fn an_empty_secret_is_refused() {
        assert_eq!(Secret::new(String::new()).unwrap_err(), EmptySecret);
    }
}
