//! Figures of one server in one case under one load: medians and spreads over its runs.

use anyhow::{Result, bail};
use serde::Serialize;

use super::records::{CaseTitle, Run, float};

/// The name of the product among the servers.
pub(super) const PRODUCT: &str = "sidenote";

/// Median, smallest and largest of some runs.
#[derive(Serialize, Clone, Copy, PartialEq, Debug)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

/// One server in one case under one load.
#[derive(Serialize)]
pub(super) struct Row {
    pub(super) case: String,
    pub(super) load: String,
    pub(super) connections: u32,
    pub(super) server: String,
    /// How many runs there were.
    pub(super) runs: usize,
    /// The rate that was asked for, in an open loop.
    pub(super) asked_per_second: Option<f64>,
    pub(super) requests_per_second: Spread,
    pub(super) p50_us: Spread,
    pub(super) p99_us: Spread,
    pub(super) p999_us: Spread,
    pub(super) max_us: Spread,
    pub(super) longest_gap_us: Spread,
    /// Requests a second as a share of the baseline's in the same turn.
    pub(super) of_baseline: Option<Spread>,
    /// How many times as many requests the product answered in the same turn.
    pub(super) product_times: Option<Spread>,
    /// Processor seconds for 1,000 requests.
    pub(super) server_cpu_s_per_1000: Spread,
    pub(super) client_cpu_s_per_1000: Spread,
    /// The most memory in any run.
    pub(super) peak_rss_kib: u64,
    pub(super) requests: u64,
    pub(super) failures: u64,
    /// Answers in each second of the last run.
    pub(super) per_second: Vec<u64>,
}

/// One row for each server of each case and load, in the order of their first runs. An error if the servers of a case
/// did not take turns all along.
pub(super) fn rows(runs: &[Run], cases: &[CaseTitle]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut known: Vec<(&str, &str, u32)> = Vec::new();
    for run in runs {
        let group = (run.case.as_str(), run.load.as_str(), run.connections);
        if known.contains(&group) {
            continue;
        }
        known.push(group);
        let Some(title) = cases.iter().find(|case| case.case == run.case) else {
            bail!("there are runs of the case {}, which was not announced", run.case);
        };
        let members: Vec<_> = runs
            .iter()
            .filter(|other| (other.case.as_str(), other.load.as_str(), other.connections) == group)
            .collect();
        rows.extend(group_rows(&members, &title.baseline)?);
    }
    Ok(rows)
}

/// The rows of the servers that took turns.
fn group_rows(runs: &[&Run], baseline: &str) -> Result<Vec<Row>> {
    let first = runs[0];
    let mut servers: Vec<&str> = Vec::new();
    for run in runs {
        if !servers.contains(&run.server.as_str()) {
            servers.push(&run.server);
        }
    }
    let of =
        |server: &str| -> Vec<&Run> { runs.iter().copied().filter(|run| run.server == server).collect() };
    let turns: Vec<u32> = of(servers[0]).iter().map(|run| run.pair).collect();
    for server in &servers {
        let its: Vec<u32> = of(server).iter().map(|run| run.pair).collect();
        if its != turns {
            bail!(
                "{} ({}) at {} connections: {} ran in the turns {its:?}, {} in {turns:?}",
                first.case,
                first.load,
                first.connections,
                server,
                servers[0]
            );
        }
    }
    // Runs of one server beside those of another in the same turn.
    let ratio = |ours: &str, theirs: &str| {
        let ratios =
            of(ours).into_iter().zip(of(theirs)).map(|(one, other)| one.per_second() / other.per_second());
        Spread::of(ratios.collect())
    };
    // Where messages come one by one and at leisure, their rate says nothing.
    let has = |server: &str| servers.contains(&server) && !matches!(first.load.as_str(), "push" | "sent");
    Ok(servers
        .iter()
        .map(|server| {
            let of_baseline = (has(baseline) && *server != baseline).then(|| ratio(server, baseline));
            let product_times = (has(PRODUCT) && *server != PRODUCT).then(|| ratio(PRODUCT, server));
            Row::of(&of(server), of_baseline, product_times)
        })
        .collect())
}

impl Row {
    fn of(runs: &[&Run], of_baseline: Option<Spread>, product_times: Option<Spread>) -> Self {
        let spread = |value: fn(&Run) -> f64| Spread::of(runs.iter().map(|run| value(run)).collect());
        let per_1000 = |cpu_us: u64, run: &Run| float(cpu_us) / 1e3 / float(run.answers.max(1));
        let (first, last) = (runs[0], runs[runs.len() - 1]);
        Self {
            case: first.case.clone(),
            load: first.load.clone(),
            connections: first.connections,
            server: first.server.clone(),
            runs: runs.len(),
            asked_per_second: first.rate,
            requests_per_second: spread(Run::per_second),
            p50_us: spread(|run| float(run.p50_us)),
            p99_us: spread(|run| float(run.p99_us)),
            p999_us: spread(|run| float(run.p999_us)),
            max_us: spread(|run| float(run.max_us)),
            longest_gap_us: spread(|run| float(run.longest_gap_us)),
            of_baseline,
            product_times,
            server_cpu_s_per_1000: Spread::of(
                runs.iter().map(|run| per_1000(run.server_cpu_us, run)).collect(),
            ),
            client_cpu_s_per_1000: Spread::of(
                runs.iter().map(|run| per_1000(run.client_cpu_us, run)).collect(),
            ),
            peak_rss_kib: runs.iter().map(|run| run.peak_rss_kib).max().unwrap_or(0),
            requests: runs.iter().map(|run| run.requests).sum(),
            failures: runs.iter().map(|run| run.failures).sum(),
            per_second: last.per_second.clone(),
        }
    }
}

impl Spread {
    /// Of at least one value. The median of an even number is the mean of the middle two.
    pub(super) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => f64::midpoint(values[middle - 1], values[middle]),
            _ => values[middle],
        };
        Self { median, min: values[0], max: values[values.len() - 1] }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{CASE, report, run_line};
    use super::*;

    fn turns(turns: &[(u32, u64, u64)]) -> Vec<String> {
        let lines = turns.iter().flat_map(|(pair, ours, bare)| {
            [run_line("closed", *pair, PRODUCT, *ours, 0), run_line("closed", *pair, "bare", *bare, 0)]
        });
        std::iter::once(CASE.to_owned()).chain(lines).collect()
    }

    #[test]
    fn the_ratio_is_the_median_over_turns_and_not_the_ratio_of_medians() {
        let report = report(&turns(&[(1, 60, 100), (2, 40, 50), (3, 30, 60)])).unwrap();
        let [ours, bare] = report.rows.as_slice() else { panic!() };
        assert_eq!(ours.of_baseline, Some(Spread { median: 0.6, min: 0.5, max: 0.8 }));
        assert_eq!(ours.requests_per_second, Spread { median: 20.0, min: 15.0, max: 30.0 });
        assert_eq!((ours.runs, ours.requests, ours.peak_rss_kib), (3, 130, 2048));
        assert_eq!((bare.of_baseline, ours.product_times), (None, None));
        assert_eq!(bare.product_times, Some(Spread { median: 0.6, min: 0.5, max: 0.8 }));
    }

    #[test]
    fn processor_time_is_shared_among_all_answers() {
        let report = report(&turns(&[(1, 90, 100)])).unwrap();
        // 3,000 us for 100 answers, warm-up included.
        assert!((report.rows[0].server_cpu_s_per_1000.median - 0.03).abs() < 1e-12);
        assert!((report.rows[0].client_cpu_s_per_1000.median - 0.01).abs() < 1e-12);
    }

    #[test]
    fn pushes_at_leisure_have_no_ratio() {
        let lines = ["push", "sent"]
            .into_iter()
            .flat_map(|load| [run_line(load, 1, PRODUCT, 50, 0), run_line(load, 1, "bare", 100, 0)]);
        let report = report(&std::iter::once(CASE.to_owned()).chain(lines).collect::<Vec<_>>()).unwrap();
        assert_eq!(report.rows.len(), 4);
        assert!(report.rows.iter().all(|row| row.of_baseline.is_none() && row.product_times.is_none()));
    }

    #[test]
    fn loads_are_kept_apart() {
        let mut lines = turns(&[(1, 60, 100)]);
        lines.push(run_line("half", 1, PRODUCT, 30, 0));
        let report = report(&lines).unwrap();
        let seen: Vec<_> = report.rows.iter().map(|row| (row.load.as_str(), row.server.as_str())).collect();
        assert_eq!(seen, [("closed", PRODUCT), ("closed", "bare"), ("half", PRODUCT)]);
        assert_eq!(report.rows[2].of_baseline, None);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(Spread::of(vec![4.0, 1.0]), Spread { median: 2.5, min: 1.0, max: 4.0 });
    }

    #[test]
    fn servers_that_did_not_take_turns_are_refused() {
        let (ours, bare) =
            (|pair| run_line("closed", pair, PRODUCT, 9, 0), |pair| run_line("closed", pair, "bare", 9, 0));
        let case = CASE.to_owned();
        assert!(report(&[]).is_err());
        assert!(report(&[case.clone(), ours(1), bare(1), bare(2)]).is_err());
        assert!(report(&[case.clone(), ours(1), bare(2)]).is_err());
        assert!(report(&[ours(1), bare(1)]).is_err());
        assert!(report(&[case, ours(1), bare(1)]).is_ok());
    }
}
