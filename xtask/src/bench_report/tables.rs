//! The report as Markdown.

use std::fmt::Write as _;

use super::Report;
use super::records::{Cost, float};
use super::rows::{Row, Spread};

impl Report {
    /// All tables, those without rows left out.
    pub(super) fn tables(&self) -> String {
        let machine = &self.machine;
        let mut text = format!("{} cores, {}, kernel {}\n", machine.cores, machine.cpu, machine.kernel);
        let setting = |name: &str| self.settings.get(name).map_or("unknown".to_owned(), ToString::to_string);
        line(
            &mut text,
            &format!(
                "disk: 8 KiB are appended and synced in {} us (p99 {}), 4 KiB read past the cache in {} us (p99 {})\n",
                setting("sync_p50_us"),
                setting("sync_p99_us"),
                setting("read_p50_us"),
                setting("read_p99_us")
            ),
        );
        self.table(&mut text, "closed", "As fast as it goes", CLOSED, closed);
        self.table(&mut text, "half", "At half of the product's rate", HALF, half);
        self.table(&mut text, "sustained", "For long", SUSTAINED, sustained);
        self.table(&mut text, "push", "From the acknowledgement of a set to its push", PUSH, push);
        self.table(&mut text, "sent", "From the request to the push", PUSH, push);
        self.table(&mut text, "fanout", "Pushes, as many as go", FANOUT, fanout);
        self.costs(&mut text);
        self.idle(&mut text);
        self.storage(&mut text);
        self.looked_into(&mut text);
        text
    }

    fn table(&self, text: &mut String, load: &str, title: &str, head: &str, cells: fn(&Row) -> String) {
        let mut rows = self.rows.iter().filter(|row| row.load == load).peekable();
        if rows.peek().is_none() {
            return;
        }
        line(text, &format!("{title}:\n\n{head}"));
        line(text, &format!("|{}", " --- |".repeat(head.matches('|').count() - 1)));
        for row in rows {
            line(text, &cells(row));
        }
        line(text, "");
    }

    fn costs(&self, text: &mut String) {
        if self.costs.is_empty() {
            return;
        }
        line(
            text,
            "What a request costs the database (medians):\n\n| case | connections | server | round trips | statements | requests of a transaction | WAL bytes |",
        );
        line(text, "| --- | --- | --- | --- | --- | --- | --- |");
        let mut told: Vec<(&str, &str, u32)> = Vec::new();
        for cost in &self.costs {
            let name = (cost.case.as_str(), cost.server.as_str(), cost.connections);
            if told.contains(&name) {
                continue;
            }
            told.push(name);
            let its = || self.costs.iter().filter(|it| (&*it.case, &*it.server, it.connections) == name);
            let median = |value: fn(&Cost) -> f64| Spread::of(its().map(value).collect()).median;
            let each = |count: u64, cost: &Cost| float(count) / float(cost.requests);
            let trips =
                its().filter_map(|it| it.round_trips.map(|trips| each(trips, it))).collect::<Vec<_>>();
            let trips =
                if trips.is_empty() { String::new() } else { format!("{:.3}", Spread::of(trips).median) };
            let shared = median(|it| match it.transactions {
                0 => 0.0,
                count => float(it.requests) / float(count),
            });
            let shared = if shared > 0.0 { format!("{shared:.2}") } else { String::new() };
            line(
                text,
                &format!(
                    "| {} | {} | {} | {trips} | {:.2} | {shared} | {:.0} |",
                    cost.case,
                    cost.connections,
                    cost.server,
                    median(|it| float(it.statements) / float(it.requests)),
                    median(|it| float(it.wal_bytes) / float(it.requests)),
                ),
            );
        }
        line(text, "");
    }

    fn idle(&self, text: &mut String) {
        if self.idle.is_empty() {
            return;
        }
        line(
            text,
            "Idle connections:\n\n| server | connections | opened in s | KiB each | KiB each after a push | RSS MiB | failed |",
        );
        line(text, "| --- | --- | --- | --- | --- | --- | --- |");
        for idle in &self.idle {
            line(
                text,
                &format!(
                    "| {} | {} | {:.1} | {:.1} | {:.1} | {} | {} |",
                    idle.server,
                    idle.connections,
                    idle.opened_ms / 1e3,
                    idle.each(idle.connected_kib),
                    idle.each(idle.told_kib),
                    idle.told_kib / 1024,
                    idle.failures,
                ),
            );
        }
        line(text, "");
    }

    fn storage(&self, text: &mut String) {
        if self.fills.is_empty() {
            return;
        }
        line(
            text,
            "Many messages:\n\n| stored | added a second | store MB | opened after stop, ms | after kill -9, ms |",
        );
        line(text, "| --- | --- | --- | --- | --- |");
        for fill in &self.fills {
            let opened = |after: &str| {
                let mut of_this =
                    self.reopenings.iter().filter(|it| it.stored == fill.stored && it.after == after);
                of_this.next().map_or(String::new(), |it| format!("{:.0}", it.ms))
            };
            let rate = float(fill.messages) / fill.seconds.max(1e-9);
            let (megabytes, stop, kill) = (fill.bytes / 1_000_000, opened("stop"), opened("kill"));
            line(text, &format!("| {} | {rate:.0} | {megabytes} | {stop} | {kill} |", fill.stored));
        }
        line(text, "");
    }

    fn looked_into(&self, text: &mut String) {
        let answers: u64 = self.verification.iter().map(|verify| verify.answers).sum();
        // Rows of the load "sent" are about the pushes of those of "push".
        let timed = self.rows.iter().filter(|row| row.load != "sent").map(|row| row.requests).sum::<u64>();
        let failures = self.failures();
        line(
            text,
            &format!(
                "{timed} timed and {answers} untimed answers were looked into; {failures} requests failed"
            ),
        );
        for verify in self.verification.iter().filter(|verify| verify.failures > 0) {
            let why = verify.first_failure.as_deref().unwrap_or("without a word");
            line(
                text,
                &format!(
                    "{} on {}: {} failed, the first: {why}",
                    verify.case, verify.server, verify.failures
                ),
            );
        }
    }
}

const CLOSED: &str = "| case | connections | server | requests/s (min-max) | p50 ms | p99 ms (min-max) | of baseline (min-max) | sidenote is | CPU s/1000 | client CPU s/1000 | RSS MiB | failed |";

fn closed(row: &Row) -> String {
    let ratio = row.of_baseline.map_or(String::new(), |it| with_range(it, 1.0, 2));
    let times = row.product_times.map_or(String::new(), |it| format!("x {:.2}", it.median));
    format!(
        "| {} | {} | {} | {} | {:.2} | {} | {ratio} | {times} | {:.3} | {:.3} | {} | {} |",
        row.case,
        row.connections,
        row.server,
        with_range(row.requests_per_second, 1.0, 0),
        row.p50_us.median / 1e3,
        with_range(row.p99_us, 1e3, 2),
        row.server_cpu_s_per_1000.median,
        row.client_cpu_s_per_1000.median,
        row.peak_rss_kib / 1024,
        row.failures,
    )
}

const HALF: &str = "| case | connections | server | asked/s | answered/s | p50 ms | p99 ms (min-max) | p99.9 ms | longest ms | failed |";

fn half(row: &Row) -> String {
    format!(
        "| {} | {} | {} | {:.0} | {:.0} | {:.2} | {} | {:.2} | {:.2} | {} |",
        row.case,
        row.connections,
        row.server,
        row.asked_per_second.unwrap_or(0.0),
        row.requests_per_second.median,
        row.p50_us.median / 1e3,
        with_range(row.p99_us, 1e3, 2),
        row.p999_us.median / 1e3,
        row.max_us.max / 1e3,
        row.failures,
    )
}

const SUSTAINED: &str = "| case | connections | server | requests/s | slowest second | p99 ms | p99.9 ms | longest answer ms | longest gap ms | RSS MiB | failed |";

fn sustained(row: &Row) -> String {
    // The last second may have begun just before the end, so it counts only if it is the only one.
    let whole = &row.per_second[..row.per_second.len().saturating_sub(1).max(1).min(row.per_second.len())];
    format!(
        "| {} | {} | {} | {:.0} | {} | {:.2} | {:.2} | {:.1} | {:.1} | {} | {} |",
        row.case,
        row.connections,
        row.server,
        row.requests_per_second.median,
        whole.iter().min().copied().unwrap_or(0),
        row.p99_us.median / 1e3,
        row.p999_us.median / 1e3,
        row.max_us.max / 1e3,
        row.longest_gap_us.max / 1e3,
        row.peak_rss_kib / 1024,
        row.failures,
    )
}

const PUSH: &str = "| case | receivers | server | pushes | p50 ms (min-max) | p99 ms (min-max) | p99.9 ms | longest ms | failed |";

fn push(row: &Row) -> String {
    format!(
        "| {} | {} | {} | {} | {} | {} | {:.2} | {:.2} | {} |",
        row.case,
        row.connections,
        row.server,
        row.requests,
        with_range(row.p50_us, 1e3, 2),
        with_range(row.p99_us, 1e3, 2),
        row.p999_us.median / 1e3,
        row.max_us.max / 1e3,
        row.failures,
    )
}

const FANOUT: &str = "| case | receivers | server | pushes/s (min-max) | of baseline (min-max) | sidenote is | CPU s/1000 | client CPU s/1000 | RSS MiB | failed |";

fn fanout(row: &Row) -> String {
    let ratio = row.of_baseline.map_or(String::new(), |it| with_range(it, 1.0, 2));
    let times = row.product_times.map_or(String::new(), |it| format!("x {:.2}", it.median));
    format!(
        "| {} | {} | {} | {} | {ratio} | {times} | {:.4} | {:.4} | {} | {} |",
        row.case,
        row.connections,
        row.server,
        with_range(row.requests_per_second, 1.0, 0),
        row.server_cpu_s_per_1000.median,
        row.client_cpu_s_per_1000.median,
        row.peak_rss_kib / 1024,
        row.failures,
    )
}

/// "median (min-max)", each divided by `unit`.
fn with_range(spread: Spread, unit: f64, digits: usize) -> String {
    let Spread { median, min, max } = spread;
    format!("{:.digits$} ({:.digits$}-{:.digits$})", median / unit, min / unit, max / unit)
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("memory takes all text");
}

#[cfg(test)]
mod tests {
    use super::super::tests::{CASE, idle_line, report, run_line};

    #[test]
    fn each_load_has_its_table_and_what_was_not_measured_has_none() {
        let lines = [
            CASE.to_owned(),
            run_line("closed", 1, "sidenote", 50, 0),
            run_line("closed", 1, "bare", 100, 0),
            run_line("sustained", 1, "sidenote", 7, 0),
            r#"{"kind":"fill","stored":3000,"messages":2000,"seconds":2.0,"bytes":9000000}"#.to_owned(),
            r#"{"kind":"reopen","stored":3000,"after":"kill","ms":12.4}"#.to_owned(),
        ];
        let text = report(&lines).unwrap().tables();
        assert!(
            text.contains(
                "| set1 | 64 | sidenote | 25 (25-25) | 0.50 | 0.05 (0.05-0.05) | 0.50 (0.50-0.50) |  |"
            ),
            "{text}"
        );
        assert!(
            text.contains("| set1 | 64 | bare | 50 (50-50) | 0.50 | 0.10 (0.10-0.10) |  | x 0.50 |"),
            "{text}"
        );
        assert!(
            text.contains("| set1 | 64 | sidenote | 4 | 7 | 0.01 | 9.00 | 9.1 | 8.0 | 2 | 0 |"),
            "{text}"
        );
        assert!(text.contains("| 3000 | 1000 | 9 |  | 12 |"), "{text}");
        assert!(!text.contains("At half"), "{text}");
        assert!(
            text.ends_with("157 timed and 0 untimed answers were looked into; 0 requests failed\n"),
            "{text}"
        );
    }

    #[test]
    fn pushes_and_idle_connections_have_tables_of_their_own() {
        let lines = [
            CASE.to_owned(),
            run_line("push", 1, "sidenote", 50, 0),
            run_line("fanout", 1, "sidenote", 50, 0),
            run_line("fanout", 1, "bare", 100, 0),
            idle_line("sidenote", 0),
        ];
        let text = report(&lines).unwrap().tables();
        for row in [
            "| set1 | 64 | sidenote | 50 | 0.50 (0.50-0.50) | 0.05 (0.05-0.05) | 9.00 | 9.10 | 0 |",
            "| set1 | 64 | sidenote | 25 (25-25) | 0.50 (0.50-0.50) |  | 0.0500 | 0.0167 | 2 | 0 |",
            "| sidenote | 1000 | 1.2 | 8.5 | 10.0 | 14 | 0 |",
        ] {
            assert!(text.contains(row), "{row} is not in {text}");
        }
    }

    #[test]
    fn a_table_is_as_wide_as_its_head() {
        let text = report(&[
            CASE.to_owned(),
            run_line("half", 1, "sidenote", 50, 0),
            run_line("push", 1, "sidenote", 50, 0),
            run_line("fanout", 1, "sidenote", 50, 0),
            idle_line("sidenote", 0),
        ])
        .unwrap()
        .tables();
        let widths: Vec<_> =
            text.lines().filter(|line| line.starts_with('|')).map(|line| line.matches('|').count()).collect();
        assert_eq!(widths, [[11; 3], [10; 3], [11; 3], [8; 3]].concat());
    }
}
