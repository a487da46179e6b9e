//! What pgbench runs in the place of a node: the statements that the store of the nodes has prepared, in the same two
//! flushes, on tables of the same shape and size, with the rules left out.
//!
//! pgbench remembers no versions and reads no answers in a pipeline. The numbers of events and pairs are therefore counted
//! up by each of its clients, and interleave.

use std::time::SystemTime;

use anyhow::{Context, Result, bail};

use super::house::{EACH, FULL, GROUPS, OF_PGBENCH, PLAIN};
use crate::load::Outcome;
use crate::servers::{APP, Drive, Pgbench, Script};
use crate::workload::{KEYS, Mix};

/// From one `gkey` to the next: spreads the groups over all numbers.
const STEP: i64 = i64::MAX / 1001;

/// What a connection of the store is told when it is made.
const OPTIONS: &str = "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c jit=off";

/// The event of a set of one pair with 40 bytes, as it is stored.
const EVENT_BYTES: usize = 150;

/// Two scripts: of a set and of a pull.
pub(super) struct Scripts {
    set: String,
    pull: String,
}

/// Rows like those of the nodes, for the groups with the numbers from 0 and the hot one behind them.
pub(super) fn data() -> String {
    let groups = format!("generate_series(0, {GROUPS}) AS g");
    let home = format!("g * {STEP}, g * {STEP}");
    let plain = format!("generate_series(1, {EACH}) AS m");
    let full = format!("generate_series({}, {}) AS m", EACH + 1, 2 * EACH);
    let all = format!("generate_series(1, {}) AS m", 2 * EACH);
    let bytes = |count: usize| format!("decode(repeat('ab', {count}), 'hex')");
    let (group, member, message) = (bytes(52), bytes(36), bytes(36));
    format!(
        "INSERT INTO conversations SELECT g * {STEP}, {APP}, g::text, g * {STEP}, {group}, 'public', NULL FROM {groups};
         INSERT INTO counters SELECT {home}, 0, 2, 20, 1700000000000 FROM {groups};
         INSERT INTO members SELECT {home}, '0', {member}, 1, 'member' FROM {groups};
         INSERT INTO messages SELECT {home}, m::text, {message}, 'ann', 1, false FROM {groups}, {all};
         INSERT INTO extension_sets SELECT {home}, m::text, 0, 0, 0, 0, 0, 0 FROM {groups}, {plain};
         INSERT INTO extension_sets SELECT {home}, m::text, 1, 0, {KEYS}, 0, 0, 0 FROM {groups}, {full};
         INSERT INTO pairs SELECT {home}, m::text, k::text, 1, repeat('v', 40) \
         FROM {groups}, {full}, generate_series(0, {}) AS k;",
        KEYS - 1
    )
}

impl Scripts {
    /// From the texts that a store has prepared for sets of one pair by a member, and for pulls of one.
    pub(super) fn of(texts: &[String]) -> Result<Self> {
        let find = |what: &[&str]| {
            let mut found = texts.iter().filter(|text| what.iter().all(|part| text.contains(part)));
            match (found.next(), found.next()) {
                (Some(text), None) => Ok(text.as_str()),
                _ => bail!("there is not one statement with {what:?} among {texts:#?}"),
            }
        };
        let own = [":gkey", ":app", ":name::text"];
        let lock = bind(find(&["FROM conversations", "FOR UPDATE"])?, &own)?;
        let message = ":message::text";
        let wanted = [own.as_slice(), &[":user::text", message, message, message, ":key::text"]].concat();
        let reads = bind(find(&["FROM pairs", "FROM counters"])?, &wanted)?;
        let wanted = [own.as_slice(), &[":user::text", message, message, message, ":start"]].concat();
        let pull = bind(find(&["FROM pairs", "seq >= "])?, &wanted)?;
        let home = [":gkey", ":gkey"];
        let mut writes = String::new();
        for (table, cells) in [
            ("counters", &[":number", "2", "20", "1700000000000"] as &[&str]),
            ("extension_sets", &[message, ":number", "0", "20", "0", "0", "0"]),
            ("pairs", &[message, ":key::text", ":number", ":value::text"]),
            ("events", &[":number", ":data::bytea", ":at", ":what::text"]),
        ] {
            let cells = [home.as_slice(), cells].concat();
            writes += &bind(find(&[&format!("INSERT INTO {table} ")])?, &cells)?;
            writes += ";\n";
        }
        Ok(Self {
            set: format!(
                "\\set count :count + 1\n\\set number :count * 1000 + :client_id\n\\startpipeline\n\
                 BEGIN ISOLATION LEVEL READ COMMITTED;\n{lock};\n{reads};\n\\endpipeline\n\\startpipeline\n\
                 {writes}SET LOCAL statement_timeout = 0;\nCOMMIT;\n\\endpipeline\n"
            ),
            pull: format!("{pull};\n"),
        })
    }

    /// Runs what stands for this workload.
    pub(super) fn run(&self, pgbench: &Pgbench, drive: &Drive) -> Result<Outcome> {
        let (groups, messages, keys) = match drive.workload.range {
            PLAIN => (format!("random(0, {})", GROUPS - 1), format!("random(1, {EACH})"), KEYS),
            FULL => {
                (format!("random(0, {})", GROUPS - 1), format!("random({}, {})", EACH + 1, 2 * EACH), KEYS)
            }
            // The group behind the others.
            hot => (GROUPS.to_string(), "1".to_owned(), hot.keys.unwrap_or(KEYS)),
        };
        let body = if drive.workload.mix == Mix::Pulls { &self.pull } else { &self.set };
        let text = format!(
            "\\set name {groups}\n\\set gkey :name * {STEP}\n\\set message {messages}\n\
             \\set key random(0, {})\n\\set user 0\n{body}",
            keys - 1
        );
        let variables = [
            ("app", APP.to_string()),
            ("start", "0".to_owned()),
            ("count", first_number()?.to_string()),
            ("value", "v".repeat(40)),
            ("data", format!("\\x{}", "ab".repeat(EVENT_BYTES))),
            ("at", "1700000000000".to_owned()),
            ("what", "extension".to_owned()),
        ];
        pgbench.run(&Script {
            text: &text,
            database: OF_PGBENCH,
            variables: &variables,
            options: OPTIONS,
            connections: drive.connections,
            threads: drive.threads,
            warm_up: drive.warm_up,
            time: drive.time,
            seed: drive.seed,
        })
    }
}

/// Puts names in the place of parameters. Arrays would need names of their own kind, and there should be none.
fn bind(text: &str, names: &[&str]) -> Result<String> {
    let mut bound = text.to_owned();
    for (index, name) in names.iter().enumerate().rev() {
        let parameter = format!("${}", index + 1);
        if !bound.contains(&parameter) {
            bail!("{parameter} is missing in {text}");
        }
        bound = bound.replace(&parameter, name);
    }
    if bound.contains('$') || bound.contains("unnest(") {
        bail!("this has other parameters than {names:?}: {text}");
    }
    Ok(bound)
}

/// A number that no earlier run has reached: no client makes a million transactions a second.
#[expect(clippy::disallowed_methods, reason = "a number that grows from run to run, and no time of anything")]
fn first_number() -> Result<u64> {
    let since =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("the clock is before 1970")?;
    Ok(since.as_secs() % 1_000_000_000 * 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_group_has_a_key_that_fits() {
        assert!(STEP.checked_mul(i64::try_from(GROUPS).unwrap()).is_some());
    }

    #[test]
    fn parameters_get_names_and_none_is_left() {
        assert!(bind("SELECT $1, $12, $2", &["a"; 12]).is_err(), "$3 is missing");
        assert_eq!(bind("SELECT $1, $2, $1", &[":a", ":b"]).unwrap(), "SELECT :a, :b, :a");
        assert!(bind("SELECT $1, $2", &[":a"]).is_err());
        assert!(bind("SELECT unnest($1)", &[":a"]).is_err());
    }
}
