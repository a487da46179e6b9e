//! `sidenote migrate`: the schema of a database.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use sidenote_server::config::{Config, Overrides, Store};
use sidenote_server::rule_limits;

use super::serve::runtime;
use crate::failure::Usage;
use crate::storage::postgres;

/// Bring the schema of a PostgreSQL database up to date
#[derive(Args)]
#[command(after_help = "\
Example: sidenote migrate --config sidenote.toml

Run it once before the first node is started, and before nodes of a new version are. It may run while nodes of the version
before are serving, who write meanwhile, and more than once; run it again where it was broken off. It waits for long
transactions of others. Nothing else changes a schema: `serve` refuses one that does not fit.")]
pub(crate) struct Migrate {
    /// Configuration with store.engine = "postgres"
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Change nothing, and say whether this version could serve; if not, the exit code is 1
    #[arg(long)]
    check: bool,
    /// Spread the tables over the workers of a Citus cluster afterwards; the database is its coordinator
    #[arg(long, conflicts_with = "check")]
    citus: bool,
}

impl Migrate {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let Self { config, check, citus } = self;
        let config = Config::load(Some(&config), Overrides::default())?;
        let Store::Postgres(options) = &config.store else {
            return Err(Usage::error(
                "this configuration has the embedded store, which a server brings up to date itself; `migrate` is for \
                 store.engine = \"postgres\"",
            ));
        };
        let runtime = runtime()?;
        let mut output = std::io::stdout().lock();
        if check {
            runtime.block_on(async {
                let store: Arc<dyn sidenote_store::Store> =
                    postgres::open_alone(options, rule_limits(&config)).await?;
                store.close().await;
                anyhow::Ok(())
            })?;
            writeln!(output, "the database can be reached and holds a schema that this version can use")?;
            return Ok(ExitCode::SUCCESS);
        }
        match runtime.block_on(postgres::migrate(options))? {
            (0, to) => writeln!(output, "the database was empty and holds schema {to} now")?,
            (from, to) if from == to => writeln!(output, "the database holds schema {to} already")?,
            (from, to) => writeln!(output, "the database held schema {from} and holds schema {to} now")?,
        }
        if citus {
            runtime.block_on(postgres::distribute(options))?;
            writeln!(output, "the tables are spread over the workers")?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
