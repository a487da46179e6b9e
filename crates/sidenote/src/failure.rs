//! What the user is told when something goes wrong, and the exit code that goes with it.

use std::fmt;
use std::process::ExitCode;

use sidenote_server::StartError;
use sidenote_server::config::ConfigError;
use sidenote_server::listener::TlsError;
use sidenote_server::webhooks::ReceiverError;

/// It did not work this time.
const RUNTIME: u8 = 1;
/// It cannot work before the command line or the configuration is changed; clap uses this number too.
const USAGE: u8 = 2;

/// A mistake on the command line that clap cannot see.
#[derive(Debug)]
pub(crate) struct Usage(String);

impl Usage {
    /// An error with a sentence that says what is wrong and what to do.
    pub(crate) fn error(sentence: impl Into<String>) -> anyhow::Error {
        Self(sentence.into()).into()
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Prints the error in one line on standard error, and says how to exit.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    eprintln!("sidenote: {}", sentence(error));
    ExitCode::from(if is_usage(error) { USAGE } else { RUNTIME })
}

/// The error and its causes in one line. Many errors repeat their cause in their own text, so a cause that
/// has been told is not told again.
fn sentence(error: &anyhow::Error) -> String {
    let mut sentence = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if sentence.is_empty() {
            sentence = cause;
        } else if !sentence.contains(&cause) {
            sentence = format!("{sentence}: {cause}");
        }
    }
    sentence
}

fn is_usage(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<Usage>()
            || cause.is::<ConfigError>()
            || cause.is::<TlsError>()
            || cause.is::<ReceiverError>()
            || matches!(
                cause.downcast_ref::<StartError>(),
                Some(StartError::Tls(_) | StartError::Administrator { .. } | StartError::Webhook(_))
            )
    })
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;
    use sidenote_server::config::Config;

    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let cause = std::io::Error::other("the disk is full");
        let error = anyhow::Error::new(cause).context("cannot write: the disk is full");
        assert_eq!(sentence(&error), "cannot write: the disk is full");
        assert_eq!(
            sentence(&error.context("the demo cannot begin")),
            "the demo cannot begin: cannot write: the disk is full"
        );
    }

    #[test]
    fn a_mistake_of_the_user_is_told_apart_from_bad_luck() {
        assert!(!is_usage(&anyhow::anyhow!("bad luck")));
        assert!(is_usage(&Usage::error("give --app").context("cannot sign")));
        let unreadable = Config::from_toml("listen = 7").context("cannot start").unwrap_err();
        assert!(is_usage(&unreadable));
    }
}
