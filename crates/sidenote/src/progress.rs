//! How far long work has come: a bar on a terminal, now and then a line elsewhere. Both go to standard error.

use std::borrow::Cow;
use std::io::IsTerminal as _;

use bytesize::ByteSize;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sidenote_server::clock::{Clock as _, SystemClock};

/// How often a line is printed where there is no terminal, in milliseconds.
const LINE_EVERY_MILLIS: u64 = 10_000;

/// The clock is looked at once for so many steps.
const STEPS_PER_LOOK: u64 = 1024;

/// Work that takes a while.
pub(crate) struct Progress {
    what: Cow<'static, str>,
    bar: ProgressBar,
    is_terminal: bool,
    steps: u64,
    last_line: u64,
}

impl Progress {
    /// Begins `what`, which will take about `total` of what [`at`](Self::at) counts; 0: nobody knows.
    pub(crate) fn begin(what: impl Into<Cow<'static, str>>, total: u64) -> Self {
        let what = what.into();
        let is_terminal = std::io::stderr().is_terminal();
        let target = if is_terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target((total > 0).then_some(total), target);
        let template = if total > 0 {
            "{prefix} [{bar:30}] {percent}% {msg}, {eta} left"
        } else {
            "{spinner} {prefix} {msg}"
        };
        let style = ProgressStyle::with_template(template).expect("the two templates above are sound");
        bar.set_style(style.progress_chars("=> "));
        bar.set_prefix(what.clone());
        Self { what, bar, is_terminal, steps: 0, last_line: SystemClock.now_millis() }
    }

    /// One step further: `position` of the total, `rows` rows and `bytes` bytes so far.
    pub(crate) fn at(&mut self, position: u64, rows: u64, bytes: u64) {
        self.steps += 1;
        if !self.steps.is_multiple_of(STEPS_PER_LOOK) {
            return;
        }
        if self.is_terminal {
            // What is about right must not look as if it were done.
            let length = self.bar.length().unwrap_or(u64::MAX);
            self.bar.set_position(position.min(length.saturating_sub(1)));
            self.bar.set_message(so_far(rows, bytes));
            return;
        }
        let now = SystemClock.now_millis();
        if now.saturating_sub(self.last_line) >= LINE_EVERY_MILLIS {
            self.last_line = now;
            eprintln!("{}: {}", self.what, so_far(rows, bytes));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// So many rows and bytes, for people.
pub(crate) fn so_far(rows: u64, bytes: u64) -> String {
    format!("{}, {}", count(rows, "row", "rows"), ByteSize(bytes).display().iec())
}

/// So many of something, for people.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_told_as_one() {
        assert_eq!(so_far(0, 0), "0 rows, 0 B");
        assert_eq!(so_far(1, 1024), "1 row, 1.0 KiB");
        assert_eq!(so_far(2, 1024), "2 rows, 1.0 KiB");
    }
}
