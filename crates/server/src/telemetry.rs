//! Where log lines go: to standard error, for people or as JSON.

use std::io::{self, IsTerminal as _};

use tracing::{Dispatch, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Log, LogFormat};

/// Why logging cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter does not parse.
    #[error("log.level: {0}; write a level such as \"info\" or \"info,sidenote_server=debug\"")]
    Level(#[from] tracing_subscriber::filter::ParseError),
    /// Something in this process logs already.
    #[error("logging has been set up already: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Sets up logging for the whole process, once, panics included.
pub fn init(log: &Log) -> Result<(), TelemetryError> {
    subscriber(log, io::stderr, io::stderr().is_terminal())?.try_init()?;
    // A panic becomes a log line like any other, so that it is not lost where lines are collected as JSON.
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("a panic without a message");
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, "panic: {message}");
    }));
    Ok(())
}

fn subscriber<W>(log: &Log, writer: W, coloured: bool) -> Result<Dispatch, TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::builder().parse(&log.level)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    Ok(match log.format {
        LogFormat::Human => dispatch(builder.with_ansi(coloured).finish()),
        LogFormat::Json => dispatch(builder.json().flatten_event(true).finish()),
    })
}

fn dispatch(subscriber: impl Subscriber + Send + Sync) -> Dispatch {
    Dispatch::new(subscriber)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written when something is logged at two levels inside a span.
    fn logged(format: LogFormat, level: &str) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = Log { format, level: level.to_owned() };
        let subscriber = subscriber(&log, move || writer.clone(), false).unwrap();
        tracing::dispatcher::with_default(&subscriber, || {
            let _span = tracing::info_span!("request", id = "r-1").entered();
            tracing::info!(code = 23_001, "refused");
            tracing::debug!("details");
        });
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn people_get_lines_and_programs_get_json() {
        let human = logged(LogFormat::Human, "info");
        assert!(
            human.contains("INFO request{id=\"r-1\"}: ") && human.contains("refused code=23001"),
            "{human}"
        );
        assert_eq!(human.lines().count(), 1);

        let json: serde_json::Value = serde_json::from_str(&logged(LogFormat::Json, "info")).unwrap();
        assert_eq!(
            (&json["level"], &json["message"], &json["code"]),
            (&"INFO".into(), &"refused".into(), &23_001.into())
        );
        assert_eq!(json["span"]["id"], "r-1");
    }

    #[test]
    fn the_filter_says_what_is_written() {
        assert_eq!(logged(LogFormat::Human, "debug").lines().count(), 2);
        assert_eq!(logged(LogFormat::Human, "error"), "");
        assert_eq!(logged(LogFormat::Human, "error,sidenote_server=debug").lines().count(), 2);
    }

    #[test]
    fn a_filter_that_does_not_parse_is_refused() {
        let log = Log { format: LogFormat::Human, level: "a=b=c".to_owned() };
        assert!(matches!(subscriber(&log, io::sink, false), Err(TelemetryError::Level(_))));
    }
}
