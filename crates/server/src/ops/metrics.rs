//! Figures in the text format `OpenMetrics`, which Prometheus reads.
//!
//! Requests are counted as they end. What the store and the caches count themselves is asked for when
//! somebody scrapes, so that their hot paths know nothing of metrics. Each server has its own registry;
//! nothing is global to the process.

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use sidenote_store::ClusterStatistics;

/// The content type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The figures of one server.
pub struct Metrics {
    requests: Family<Request, Counter>,
    seconds: Family<Command, Histogram, fn() -> Histogram>,
    registry: Registry,
}

/// What parts of the server count themselves, as of one moment. Numbers that count events begin at 0 when
/// the server starts and never fall.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    /// The store.
    pub store: StoreStatistics,
    /// Every cache, each name once.
    pub caches: Vec<CacheStatistics>,
    /// Connections that are open now.
    pub connections: u64,
    /// Long connections that are logged in now.
    pub logins: u64,
    /// Each app that has webhooks.
    pub webhooks: Vec<WebhookStatistics>,
    /// What nodes tell each other; `None` where there is one.
    pub cluster: Option<ClusterStatistics>,
}

/// What the webhooks of an app count.
#[derive(Clone, Debug, Default)]
pub struct WebhookStatistics {
    /// The app.
    pub app: u32,
    /// Events that the receiver was told.
    pub told: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Events that became dead letters.
    pub given_up: u64,
    /// Dead letters that were forgotten because there were too many.
    pub lost: u64,
    /// Questions before something happened.
    pub asked: u64,
    /// Those without an answer that makes sense.
    pub unasked: u64,
    /// From events to their receiver's answers, all added up, in seconds.
    pub delay_seconds: f64,
    /// Conversations with something to tell.
    pub conversations: u64,
    /// Age of the oldest event that is to be told, in seconds.
    pub oldest_seconds: u64,
    /// Whether the receiver failed lately.
    pub failing: bool,
}

/// What a store counts.
#[derive(Clone, Debug, Default)]
pub struct StoreStatistics {
    /// How many commands the batches held.
    pub batch_commands: Distribution,
    /// How long it took to make a batch durable, in seconds.
    pub sync_seconds: Distribution,
    /// Commands that wait for the writer now.
    pub queued_commands: u64,
    /// Size of the files, in bytes.
    pub stored_bytes: u64,
    /// Whether it takes writes.
    pub ready: bool,
    /// Times that the database was asked.
    pub round_trips: u64,
    /// Statements that it was asked with.
    pub statements: u64,
}

/// What a cache counts.
#[derive(Clone, Debug)]
pub struct CacheStatistics {
    /// Which cache, such as `signatures`.
    pub name: &'static str,
    /// Questions that it answered.
    pub hits: u64,
    /// Questions that it could not answer.
    pub misses: u64,
}

/// How often which values were seen.
#[derive(Clone, Debug, Default)]
pub struct Distribution {
    /// Upper bounds in ascending order, each with the number of values above the bound before it.
    pub buckets: Vec<(f64, u64)>,
    /// Values above the last bound.
    pub above: u64,
    /// All values added up.
    pub sum: f64,
}

impl Metrics {
    /// No requests yet. `statistics` is called for each scrape and must not block.
    pub fn new(statistics: impl Fn() -> Statistics + Send + Sync + 'static) -> Self {
        let requests = Family::default();
        let seconds = Family::new_with_constructor((|| Histogram::new(LATENCIES)) as fn() -> Histogram);
        let mut registry = Registry::with_prefix("sidenote");
        registry.register("requests", "Requests by command and error code", requests.clone());
        registry.register_with_unit(
            "request",
            "Time from the head of a request to its answer",
            Unit::Seconds,
            seconds.clone(),
        );
        registry.register_collector(Box::new(Scrape(Box::new(statistics))));
        Self { requests, seconds, registry }
    }

    /// Counts a request that was answered with `code` after `took`. There is a time series for each pair of
    /// command and code, so `command` must be one of ours and never what a caller made up.
    pub fn request(&self, command: &'static str, code: u32, took: Duration) {
        self.command(command).request(code, took);
    }

    /// The figures of one command, for whoever counts many requests of it.
    pub fn command(&self, command: &'static str) -> CommandMetrics {
        let (requests, seconds) = (self.requests.clone(), self.seconds.clone());
        CommandMetrics { command, requests, seconds, succeeded: OnceLock::new(), latency: OnceLock::new() }
    }

    /// The figures of this moment.
    pub fn text(&self) -> String {
        let mut figures = String::new();
        text::encode(&mut figures, &self.registry).expect("a string takes whatever is written to it");
        figures
    }
}

/// The figures of one command. Time series appear with the first request that is counted in them; those of every
/// success are looked up then and not again, which spares each request two look-ups by name under a lock.
pub struct CommandMetrics {
    command: &'static str,
    requests: Family<Request, Counter>,
    seconds: Family<Command, Histogram, fn() -> Histogram>,
    succeeded: OnceLock<Counter>,
    latency: OnceLock<Histogram>,
}

impl CommandMetrics {
    /// See [`Metrics::request`].
    pub fn request(&self, code: u32, took: Duration) {
        let command = self.command;
        let counter = || self.requests.get_or_create_owned(&Request { command, code });
        if code == 0 {
            self.succeeded.get_or_init(counter).inc();
        } else {
            counter().inc();
        }
        let latency = self.latency.get_or_init(|| self.seconds.get_or_create_owned(&Command { command }));
        latency.observe(took.as_secs_f64());
    }
}

/// Upper bounds of latency in seconds. A pull from memory takes less than the first; whoever waits longer
/// than the last has given up.
const LATENCIES: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    command: &'static str,
    code: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Command {
    command: &'static str,
}

/// Asks for the statistics and writes them down.
struct Scrape(Box<dyn Fn() -> Statistics + Send + Sync>);

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrape")
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Statistics { store, caches, connections, logins, webhooks, cluster } = (self.0)();
        let encoder = &mut encoder;
        let mut distributions = [
            ("store_batch_commands", "Commands in one durable batch", None, store.batch_commands),
            ("store_sync", "Time to make a batch durable", Some(&Unit::Seconds), store.sync_seconds),
        ];
        for (name, help, unit, distribution) in &mut distributions {
            let metric = encoder.encode_descriptor(name, help, *unit, MetricType::Histogram)?;
            distribution.encode(metric)?;
        }
        let gauges = [
            ("store_queued_commands", "Commands that wait for the writer", None, store.queued_commands),
            ("store_size", "Size of the files of the store", Some(&Unit::Bytes), store.stored_bytes),
            ("store_ready", "Whether the store takes writes", None, store.ready.into()),
            ("connections", "Open connections", None, connections),
            ("long_connection_logins", "Long connections that are logged in", None, logins),
        ];
        for (name, help, unit, value) in gauges {
            encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?.encode_gauge(&value)?;
        }
        for (name, help, count) in [
            ("store_round_trips", "Times that the database was asked", store.round_trips),
            ("store_statements", "Statements that the database was asked with", store.statements),
        ] {
            encoder
                .encode_descriptor(name, help, None, MetricType::Counter)?
                .encode_counter::<NoLabelSet, _, f64>(&count, None)?;
        }
        let mut hits = encoder.encode_descriptor(
            "cache_hits",
            "Questions that a cache answered",
            None,
            MetricType::Counter,
        )?;
        for cache in &caches {
            hits.encode_family(&[("cache", cache.name)])?
                .encode_counter::<NoLabelSet, _, f64>(&cache.hits, None)?;
        }
        let mut misses = encoder.encode_descriptor(
            "cache_misses",
            "Questions that a cache could not answer",
            None,
            MetricType::Counter,
        )?;
        for cache in &caches {
            misses
                .encode_family(&[("cache", cache.name)])?
                .encode_counter::<NoLabelSet, _, f64>(&cache.misses, None)?;
        }
        encode_cluster(encoder, cluster)?;
        encode_webhooks(encoder, &webhooks)
    }
}

/// All of it is there also where a server is alone, so that a dashboard need not know; but whether there is a connection to
/// NATS is said only where one is configured, so that an alarm need not know.
fn encode_cluster(encoder: &mut DescriptorEncoder<'_>, cluster: Option<ClusterStatistics>) -> fmt::Result {
    let it = cluster.unwrap_or_default();
    for (name, help, count) in [
        ("cluster_published", "Messages sent to other nodes", it.published),
        ("cluster_unpublished", "Commits that other nodes were not told of", it.unpublished),
        ("cluster_heard", "Messages from other nodes", it.heard),
        ("cluster_refused", "Messages from other nodes that made no sense", it.refused),
        ("cluster_looks", "Times that the tables were looked at for what was not heard of", it.looks),
        ("cluster_failed_looks", "Of those, the ones that failed", it.failed_looks),
        ("cluster_found", "Conversations of which something new was found then", it.found),
    ] {
        encoder
            .encode_descriptor(name, help, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, f64>(&count, None)?;
    }
    // A server that is alone does all there is to do.
    let (leads, nodes) = cluster.map_or((true, 1), |it| (it.leads, it.nodes));
    let connected = it.connected.map(|connected| {
        ("cluster_nats_connected", "Whether this node is connected to NATS", u64::from(connected))
    });
    let gauges = [
        ("cluster_leads", "Whether this node does the background work", u64::from(leads)),
        ("cluster_nodes", "Nodes that live, as far as this one knows", nodes),
    ];
    for (name, help, value) in gauges.into_iter().chain(connected) {
        encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)?;
    }
    Ok(())
}

fn encode_webhooks(encoder: &mut DescriptorEncoder<'_>, webhooks: &[WebhookStatistics]) -> fmt::Result {
    type Count = fn(&WebhookStatistics) -> u64;
    let counters: [(&str, &str, Count); 6] = [
        ("webhook_events", "Events that were told", |it| it.told),
        ("webhook_failures", "Requests of webhooks that failed", |it| it.failed),
        ("webhook_given_up", "Events that became dead letters", |it| it.given_up),
        ("webhook_lost", "Dead letters that were dropped for newer ones", |it| it.lost),
        ("webhook_questions", "Questions before something happened", |it| it.asked),
        ("webhook_unanswered", "Questions without an answer", |it| it.unasked),
    ];
    for (name, help, count) in counters {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for of_app in webhooks {
            metric
                .encode_family(&[("app", of_app.app)])?
                .encode_counter::<NoLabelSet, _, f64>(&count(of_app), None)?;
        }
    }
    let help = "Time from events to their receiver's answers, added up";
    let unit = Some(&Unit::Seconds);
    let mut metric = encoder.encode_descriptor("webhook_delay", help, unit, MetricType::Counter)?;
    for of_app in webhooks {
        metric
            .encode_family(&[("app", of_app.app)])?
            .encode_counter::<NoLabelSet, _, f64>(&of_app.delay_seconds, None)?;
    }
    let gauges: [(&str, &str, Option<&Unit>, Count); 3] = [
        ("webhook_conversations", "Conversations with events to tell", None, |it| it.conversations),
        ("webhook_oldest", "Age of the oldest event to tell", unit, |it| it.oldest_seconds),
        ("webhook_failing", "Whether the receiver failed lately", None, |it| it.failing.into()),
    ];
    for (name, help, unit, value) in gauges {
        let mut metric = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        for of_app in webhooks {
            metric.encode_family(&[("app", of_app.app)])?.encode_gauge(&value(of_app))?;
        }
    }
    Ok(())
}

impl Distribution {
    fn encode(&mut self, mut metric: MetricEncoder<'_>) -> fmt::Result {
        self.buckets.push((f64::INFINITY, self.above));
        let count = self.buckets.iter().map(|(_, count)| count).sum();
        metric.encode_histogram::<NoLabelSet>(self.sum, count, &self.buckets, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statistics() -> Statistics {
        Statistics {
            store: StoreStatistics {
                batch_commands: Distribution { buckets: vec![(1.0, 4), (8.0, 2)], above: 1, sum: 40.0 },
                sync_seconds: Distribution { buckets: vec![(0.001, 7)], above: 0, sum: 0.0035 },
                queued_commands: 3,
                stored_bytes: 4096,
                ready: true,
                round_trips: 11,
                statements: 70,
            },
            caches: vec![
                CacheStatistics { name: "signatures", hits: 10, misses: 2 },
                CacheStatistics { name: "state", hits: 5, misses: 1 },
            ],
            connections: 9,
            logins: 8,
            webhooks: vec![WebhookStatistics {
                app: 7,
                told: 3,
                oldest_seconds: 12,
                ..WebhookStatistics::default()
            }],
            cluster: Some(ClusterStatistics {
                published: 21,
                failed_looks: 1,
                found: 2,
                connected: Some(true),
                nodes: 3,
                ..ClusterStatistics::default()
            }),
        }
    }

    #[test]
    fn requests_are_counted_by_command_and_code_and_timed_by_command() {
        let metrics = Metrics::new(Statistics::default);
        metrics.request("group_set_key_values", 0, Duration::from_micros(200));
        metrics.request("group_set_key_values", 0, Duration::from_millis(2));
        metrics.request("group_set_key_values", 10_004, Duration::from_mins(1));
        let text = metrics.text();
        for line in [
            "# TYPE sidenote_requests counter",
            "sidenote_requests_total{command=\"group_set_key_values\",code=\"0\"} 2",
            "sidenote_requests_total{command=\"group_set_key_values\",code=\"10004\"} 1",
            "# TYPE sidenote_request_seconds histogram",
            "sidenote_request_seconds_count{command=\"group_set_key_values\"} 3",
            "sidenote_request_seconds_bucket{le=\"0.0001\",command=\"group_set_key_values\"} 0",
            "sidenote_request_seconds_bucket{le=\"0.00025\",command=\"group_set_key_values\"} 1",
            "sidenote_request_seconds_bucket{le=\"5.0\",command=\"group_set_key_values\"} 2",
            "sidenote_request_seconds_bucket{le=\"+Inf\",command=\"group_set_key_values\"} 3",
        ] {
            assert!(text.lines().any(|written| written == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn statistics_are_asked_for_when_somebody_scrapes() {
        let metrics = Metrics::new(statistics);
        let text = metrics.text();
        for line in [
            "# TYPE sidenote_store_batch_commands histogram",
            "sidenote_store_batch_commands_sum 40.0",
            "sidenote_store_batch_commands_count 7",
            "sidenote_store_batch_commands_bucket{le=\"1.0\"} 4",
            "sidenote_store_batch_commands_bucket{le=\"8.0\"} 6",
            "sidenote_store_batch_commands_bucket{le=\"+Inf\"} 7",
            "# UNIT sidenote_store_sync_seconds seconds",
            "sidenote_store_sync_seconds_count 7",
            "sidenote_store_queued_commands 3",
            "sidenote_store_size_bytes 4096",
            "sidenote_store_ready 1",
            "sidenote_store_round_trips_total 11",
            "sidenote_store_statements_total 70",
            "sidenote_cluster_published_total 21",
            "sidenote_cluster_found_total 2",
            "sidenote_cluster_failed_looks_total 1",
            "sidenote_cluster_nats_connected 1",
            "sidenote_cluster_leads 0",
            "sidenote_cluster_nodes 3",
            "sidenote_connections 9",
            "sidenote_long_connection_logins 8",
            "sidenote_webhook_events_total{app=\"7\"} 3",
            "sidenote_webhook_oldest_seconds{app=\"7\"} 12",
            "sidenote_cache_hits_total{cache=\"signatures\"} 10",
            "sidenote_cache_misses_total{cache=\"state\"} 1",
            "# EOF",
        ] {
            assert!(text.lines().any(|written| written == line), "{line} is not in\n{text}");
        }
        // A second scrape asks again and does not add up.
        assert_eq!(metrics.text(), text);
    }

    #[test]
    fn two_servers_in_one_process_count_for_themselves() {
        let (one, other) = (Metrics::new(Statistics::default), Metrics::new(Statistics::default));
        one.request("account_import", 0, Duration::ZERO);
        assert!(one.text().contains("account_import"));
        assert!(!other.text().contains("account_import"));
    }
}
