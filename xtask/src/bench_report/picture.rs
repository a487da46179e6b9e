//! A case as a picture: an SVG written by hand, since a few bars need no library.

use std::fmt::Write as _;

use super::records::{Idle, float};
use super::rows::{PRODUCT, Row, Spread};

const WIDTH: f64 = 860.0;
/// Where bars begin and where the longest ends.
const LEFT: f64 = 190.0;
const RIGHT: f64 = 700.0;
const BAR: f64 = 18.0;
const STEP: f64 = 26.0;

/// Draws the rows of one case: rates with their spread, then latencies, then the course of long runs, then what idle
/// connections cost.
pub(super) fn draw(title: &str, rows: &[&Row], idle: &[&Idle]) -> String {
    let mut body = String::new();
    let mut y = 34.0;
    text(&mut body, 16.0, 24.0, "start", "bold", title);
    for (load, what, heading) in [
        ("closed", "connections", "requests a second, as fast as it goes"),
        ("half", "connections", "p99 in ms at half of the product's rate"),
        ("push", "receivers", "median in ms from the acknowledgement to the push"),
        ("sent", "receivers", "median in ms from the request to the push"),
        ("fanout", "receivers", "pushes a second, as many as go"),
    ] {
        for connections in lengths(rows, load) {
            let of_this: Vec<_> = rows
                .iter()
                .copied()
                .filter(|row| row.load == load && row.connections == connections)
                .collect();
            y += 22.0;
            text(&mut body, 16.0, y, "start", "normal", &format!("{connections} {what}: {heading}"));
            y = draw_bars(&mut body, y + 10.0, &row_bars(load, &of_this));
        }
    }
    for row in rows.iter().filter(|row| row.load == "sustained") {
        y += 22.0;
        let heading =
            format!("{} connections: requests in each second of {}", row.connections, row.per_second.len());
        text(&mut body, 16.0, y, "start", "normal", &heading);
        y = course(&mut body, y + 12.0, &row.per_second);
    }
    if let Some(first) = idle.first() {
        y += 22.0;
        let heading = format!("{} idle connections: KiB for each", first.connections);
        text(&mut body, 16.0, y, "start", "normal", &heading);
        y = draw_bars(&mut body, y + 10.0, &idle_bars(idle));
    }
    let height = y + 16.0;
    let title = escaped(title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\" role=\"img\">\n<title>{title}</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{body}</svg>\n"
    )
}

/// The numbers of connections under a load, in the order of the rows.
fn lengths(rows: &[&Row], load: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for row in rows.iter().filter(|row| row.load == load) {
        if !found.contains(&row.connections) {
            found.push(row.connections);
        }
    }
    found
}

/// A bar.
struct Bar<'a> {
    name: &'a str,
    value: Spread,
    label: String,
    /// Whether it is the one to look at.
    stands_out: bool,
}

/// What the rows under one load are drawn by: rates as they are, latencies in milliseconds.
fn row_bars<'a>(load: &str, rows: &[&'a Row]) -> Vec<Bar<'a>> {
    let is_rate = matches!(load, "closed" | "fanout");
    let has_product = rows.iter().any(|row| row.server == PRODUCT);
    let bar = |row: &&'a Row| {
        let value = match load {
            _ if is_rate => row.requests_per_second,
            "half" => in_ms(row.p99_us),
            _ => in_ms(row.p50_us),
        };
        let label = if is_rate { format!("{:.0}", value.median) } else { format!("{:.2}", value.median) };
        let ratio = row.of_baseline.filter(|_| is_rate);
        let label = ratio.map_or(label.clone(), |ratio| format!("{label}  (x {:.2})", ratio.median));
        // Where the product stands beside itself, the one that is compared is the one to look at.
        let stands_out = row.server == PRODUCT || (!has_product && row.of_baseline.is_some());
        Bar { name: &row.server, value, label, stands_out }
    };
    rows.iter().map(bar).collect()
}

fn in_ms(Spread { median, min, max }: Spread) -> Spread {
    Spread { median: median / 1e3, min: min / 1e3, max: max / 1e3 }
}

/// KiB for each connection. There is one run, and no spread.
fn idle_bars<'a>(idle: &[&'a Idle]) -> Vec<Bar<'a>> {
    let bar = |idle: &&'a Idle| {
        let each = idle.each(idle.connected_kib);
        let value = Spread { median: each, min: each, max: each };
        Bar { name: &idle.server, value, label: format!("{each:.1}"), stands_out: idle.server == PRODUCT }
    };
    idle.iter().map(bar).collect()
}

/// Bars with a line from the smallest to the largest run. Returns where the next thing may begin.
fn draw_bars(body: &mut String, top: f64, bars: &[Bar<'_>]) -> f64 {
    let most = bars.iter().map(|bar| bar.value.max).fold(f64::MIN_POSITIVE, f64::max);
    let x = |value: f64| LEFT + (RIGHT - LEFT) * value / most;
    let mut y = top;
    for bar in bars {
        let Spread { median, min, max } = bar.value;
        let colour = if bar.stands_out { "#1f6feb" } else { "#9aa4b2" };
        text(body, LEFT - 8.0, y + 13.5, "end", "normal", bar.name);
        put(
            body,
            &format!(
                "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>",
                x(median) - LEFT
            ),
        );
        let middle = y + BAR / 2.0;
        put(
            body,
            &format!(
                "<path d=\"M{:.1} {middle}H{:.1}M{:.1} {}v8M{:.1} {}v8\" stroke=\"#24292f\" fill=\"none\"/>",
                x(min),
                x(max),
                x(min),
                middle - 4.0,
                x(max),
                middle - 4.0
            ),
        );
        text(body, x(max) + 8.0, y + 13.5, "start", "normal", &bar.label);
        y += STEP;
    }
    y
}

/// A line through the seconds of a long run.
fn course(body: &mut String, top: f64, per_second: &[u64]) -> f64 {
    const HEIGHT: f64 = 120.0;
    let most = per_second.iter().copied().max().unwrap_or(0).max(1);
    let bottom = top + HEIGHT;
    put(body, &format!("<path d=\"M{LEFT} {top}V{bottom}H{RIGHT}\" stroke=\"#24292f\" fill=\"none\"/>"));
    text(body, LEFT - 8.0, top + 10.0, "end", "normal", &most.to_string());
    text(body, LEFT - 8.0, bottom, "end", "normal", "0");
    let steps = float(per_second.len().saturating_sub(1).max(1) as u64);
    let mut points = String::new();
    for (second, count) in (0_u64..).zip(per_second) {
        let x = LEFT + (RIGHT - LEFT) * float(second) / steps;
        let y = bottom - HEIGHT * float(*count) / float(most);
        write!(points, "{x:.1},{y:.1} ").expect("memory takes all text");
    }
    put(
        body,
        &format!(
            "<polyline points=\"{}\" stroke=\"#1f6feb\" stroke-width=\"1.5\" fill=\"none\"/>",
            points.trim_end()
        ),
    );
    bottom + 8.0
}

fn text(body: &mut String, x: f64, y: f64, anchor: &str, weight: &str, content: &str) {
    let content = escaped(content);
    put(
        body,
        &format!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-weight=\"{weight}\" fill=\"#24292f\">{content}</text>"
        ),
    );
}

fn put(body: &mut String, element: &str) {
    writeln!(body, "{element}").expect("memory takes all text");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{CASE, idle_line, report, run_line};
    use super::*;

    fn picture(lines: &[String]) -> String {
        let report = report(&[&[CASE.to_owned()], lines].concat()).unwrap();
        draw(
            "a <title> & more",
            &report.rows.iter().collect::<Vec<_>>(),
            &report.idle.iter().collect::<Vec<_>>(),
        )
    }

    #[test]
    fn the_longest_bar_is_that_of_the_highest_rate() {
        let svg = picture(&[run_line("closed", 1, PRODUCT, 50, 0), run_line("closed", 1, "bare", 100, 0)]);
        let widths: Vec<_> = svg
            .lines()
            .filter(|line| line.starts_with("<rect x"))
            .map(|line| line.split("width=\"").nth(1).unwrap().split('"').next().unwrap())
            .collect();
        assert_eq!(widths, ["255.0", "510.0"]);
        assert!(svg.contains("25  (x 0.50)") && svg.contains(">bare</text>"), "{svg}");
    }

    #[test]
    fn pushes_are_drawn_by_their_median_and_idle_connections_by_their_memory() {
        let svg = picture(&[
            run_line("push", 1, PRODUCT, 50, 0),
            run_line("fanout", 1, PRODUCT, 50, 0),
            idle_line(PRODUCT, 0),
            idle_line("bare", 0),
        ]);
        assert!(svg.contains("64 receivers: median in ms from the acknowledgement"), "{svg}");
        assert!(svg.contains(">0.50</text>") && svg.contains("64 receivers: pushes a second"), "{svg}");
        assert!(svg.contains("1000 idle connections: KiB for each") && svg.contains(">8.5</text>"), "{svg}");
    }

    #[test]
    fn titles_are_escaped() {
        let svg = picture(&[run_line("half", 1, PRODUCT, 50, 0)]);
        assert!(svg.contains("<title>a &lt;title&gt; &amp; more</title>"), "{svg}");
        assert!(svg.contains("p99 in ms"), "{svg}");
    }

    #[test]
    fn a_long_run_is_a_line_with_a_point_for_each_second() {
        let svg = picture(&[run_line("sustained", 1, PRODUCT, 50, 0)]);
        assert!(svg.contains("points=\"190.0,"), "{svg}");
        assert!(svg.contains("700.0,"), "{svg}");
    }
}
