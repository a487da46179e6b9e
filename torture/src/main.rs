//! `sidenote-torture`: load and failures for a server, for as long as one likes.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use sidenote_torture::{crash, linear, server};

/// Break a server on purpose, and judge what is left
///
/// Each life has a data folder of its own and a seed that decides what happens to it. The line that lives it
/// again is printed before it begins. The first thing that is not as it must be ends everything, with exit code
/// 101; the folder is then kept.
#[derive(Parser)]
#[command(name = "sidenote-torture", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    ordeal: Ordeal,
    /// Program under test [default: the file `sidenote` beside this program]
    #[arg(long, global = true, value_name = "FILE")]
    program: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Ordeal {
    /// Kill the server under load, spoil its journal, start it again, and compare with what it answered
    #[command(after_help = "\
Examples:
  sidenote-torture crash                           one life of ten rounds
  sidenote-torture crash --lives 20                two hundred rounds, on twenty folders
  sidenote-torture crash --seed 4711 --rounds 10   the life that this seed decides")]
    Crash(Repeats),
    /// Take the power from the server under load and while it starts: what it did not sync is lost
    #[command(after_help = "\
Example: sidenote-torture power --lives 30   three hundred rounds, on thirty folders

Needs Linux with glibc and a C compiler: the disk that loses power is a library loaded before all others.")]
    Power(Repeats),
    /// Let sixteen members contend for a few keys, kill the server, and look for an order of all requests
    #[command(after_help = "\
Examples:
  sidenote-torture linear --rounds 100             one hundred histories, each ended by kill -9
  sidenote-torture linear --seed 4711 --rounds 10  the histories that this seed decides")]
    Linear(Repeats),
    /// The same, and the power is lost with each kill: what was not synced is gone
    LinearPower(Repeats),
    /// The same over three servers on one database: servers, the database and NATS fail
    #[command(after_help = "\
Examples:
  sidenote-torture linear-nodes --rounds 100             one hundred histories, three of four with a failure
  sidenote-torture linear-nodes --patroni --rounds 16    the database is a Patroni cluster, whose primary fails
  sidenote-torture linear-nodes --nats                   with NATS, which fails too

Needs PostgreSQL, and Patroni and etcd or NATS where they are asked for (Debian: apt install postgresql patroni
etcd-server nats-server); it starts servers of its own in temporary folders.")]
    LinearNodes(LinearNodes),
    /// The same over three servers that are replaced by those of this version, one after the other
    #[command(after_help = "\
Example: sidenote-torture neighbours --previous $(tools/previous.sh)   the newest release before this one

Needs PostgreSQL (Debian: apt install postgresql); it starts a server of its own in a temporary folder.")]
    Neighbours(Neighbours),
}

#[derive(Args)]
struct Repeats {
    /// Data folders, one after the other
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    lives: u64,
    /// Rounds of load and failure on each
    #[arg(long, value_name = "N", default_value_t = 10)]
    rounds: usize,
    /// Decides the first life; those after it take the numbers that follow [default: any]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
}

#[derive(Args)]
struct LinearNodes {
    #[command(flatten)]
    repeats: Repeats,
    /// Keep the data in a Patroni cluster, whose primary fails in every way
    #[arg(long)]
    patroni: bool,
    /// Let the servers hear of each other over NATS, which is killed and stopped
    #[arg(long)]
    nats: bool,
}

#[derive(Args)]
struct Neighbours {
    #[command(flatten)]
    repeats: Repeats,
    /// Program of the version before
    #[arg(long, value_name = "FILE")]
    previous: PathBuf,
}

impl LinearNodes {
    fn live(&self) {
        let Self { repeats, patroni, nats } = self;
        let name =
            ["linear-nodes", if *patroni { " --patroni" } else { "" }, if *nats { " --nats" } else { "" }];
        repeats.live(&name.concat(), |seed, rounds| {
            let plan = linear::nodes::Plan { seed, rounds, nodes: 3, patroni: *patroni, nats: *nats };
            let tally = linear::nodes::run(plan, &mut |line| println!("  {line}"));
            tally.map_or_else(|| "skipped".to_owned(), |tally| tally.to_string())
        });
    }
}

impl Repeats {
    /// Lives all of them, and prints what they have seen.
    fn live(&self, name: &str, life: impl Fn(u64, usize) -> String) {
        let first: u64 = self.seed.unwrap_or_else(rand::random);
        for number in 0..self.lives {
            let seed = first.wrapping_add(number);
            let Self { lives, rounds, .. } = self;
            println!(
                "life {} of {lives}: sidenote-torture {name} --seed {seed} --rounds {rounds}",
                number + 1
            );
            println!("  {}", life(seed, *rounds));
        }
    }
}

fn kill(seed: u64, rounds: usize, power: bool) -> String {
    let tally = crash::run(crash::Plan { seed, rounds, power }, &mut |line| println!("  {line}"));
    tally.to_string()
}

fn main() -> ExitCode {
    let Arguments { ordeal, program } = Arguments::parse();
    if let Some(program) = program {
        if !program.is_file() {
            eprintln!(
                "sidenote-torture: {} is no file; build the server and name its program",
                program.display()
            );
            return ExitCode::from(2);
        }
        server::use_program(program);
    }
    match ordeal {
        Ordeal::Crash(repeats) => repeats.live("crash", |seed, rounds| kill(seed, rounds, false)),
        Ordeal::Power(repeats) => repeats.live("power", |seed, rounds| kill(seed, rounds, true)),
        Ordeal::Linear(repeats) => repeats.live("linear", |seed, rounds| {
            let plan = linear::Plan { seed, rounds, power: false };
            linear::run(plan, &mut |line| println!("  {line}")).to_string()
        }),
        Ordeal::LinearPower(repeats) => repeats.live("linear-power", |seed, rounds| {
            let plan = linear::Plan { seed, rounds, power: true };
            linear::run(plan, &mut |line| println!("  {line}")).to_string()
        }),
        Ordeal::LinearNodes(linear) => linear.live(),
        Ordeal::Neighbours(Neighbours { repeats, previous }) => {
            repeats.live(&format!("neighbours --previous {}", previous.display()), |seed, rounds| {
                let plan = linear::neighbours::Plan { seed, rounds, previous: previous.clone() };
                let tally = linear::neighbours::run(&plan, &mut |line| println!("  {line}"));
                tally.map_or_else(|| "skipped".to_owned(), |tally| tally.to_string())
            });
        }
    }
    ExitCode::SUCCESS
}
