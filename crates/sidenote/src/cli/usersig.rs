//! `sidenote usersig`: signs a ticket.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Args;
use sidenote_server::auth::user_sig;
use sidenote_server::clock::{Clock as _, SystemClock};

use crate::credentials::{CredentialArgs, user_id};
use crate::failure::Usage;

/// Print a UserSig, the ticket by which an app vouches for a user
#[derive(Args)]
#[command(after_help = "\
Example: sidenote usersig --config sidenote.toml --user administrator

In a URL the ticket can stand as it is printed. Whoever has it is that user until it expires.")]
pub(crate) struct UserSig {
    #[command(flatten)]
    credentials: CredentialArgs,
    /// UserID that the ticket is for
    #[arg(long, value_name = "U", value_parser = user_id)]
    user: String,
    /// How long the ticket is valid
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400,
          value_parser = clap::value_parser!(u64).range(1..=u64::from(u32::MAX)))]
    expire: u64,
    /// Text that is signed along; the server does not look at it
    #[arg(long, value_name = "TEXT")]
    userbuf: Option<String>,
}

impl UserSig {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let credentials = self.credentials.resolve()?;
        let now = SystemClock.now_millis() / 1000;
        let userbuf = self.userbuf.as_deref().map(str::as_bytes);
        let (app, key) = (credentials.app, &credentials.key);
        let token = user_sig::sign(app, key, &self.user, now, self.expire, userbuf);
        // Whatever a server would refuse is not worth printing; the only thing that can be wrong is its size.
        if user_sig::verify(&token, app, &self.user, std::slice::from_ref(key), now).is_err() {
            return Err(Usage::error(
                "with this --userbuf the ticket is larger than a server accepts; shorten it",
            ));
        }
        let mut output = std::io::stdout().lock();
        writeln!(output, "{token}")?;
        output.flush()?;
        Ok(ExitCode::SUCCESS)
    }
}
