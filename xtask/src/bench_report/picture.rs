//! A case as a picture: an SVG written by hand, since a few bars need no library.

use std::fmt::Write as _;

use super::records::float;
use super::rows::{PRODUCT, Row, Spread};

const WIDTH: f64 = 860.0;
/// Where bars begin and where the longest ends.
const LEFT: f64 = 190.0;
const RIGHT: f64 = 700.0;
const BAR: f64 = 18.0;
const STEP: f64 = 26.0;

/// Draws the rows of one case: rates with their spread, then latencies at half load, then the course of long runs.
pub(super) fn draw(title: &str, rows: &[&Row]) -> String {
    let mut body = String::new();
    let mut y = 34.0;
    text(&mut body, 16.0, 24.0, "start", "bold", title);
    for (load, heading) in [
        ("closed", "requests a second, as fast as it goes"),
        ("half", "p99 in ms at half of the product's rate"),
    ] {
        for connections in lengths(rows, load) {
            let of_this: Vec<_> = rows
                .iter()
                .copied()
                .filter(|row| row.load == load && row.connections == connections)
                .collect();
            y += 22.0;
            text(&mut body, 16.0, y, "start", "normal", &format!("{connections} connections: {heading}"));
            y = bars(&mut body, y + 10.0, load, &of_this);
        }
    }
    for row in rows.iter().filter(|row| row.load == "sustained") {
        y += 22.0;
        let heading =
            format!("{} connections: requests in each second of {}", row.connections, row.per_second.len());
        text(&mut body, 16.0, y, "start", "normal", &heading);
        y = course(&mut body, y + 12.0, &row.per_second);
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

/// One bar for each server, with a line from the smallest to the largest run. Returns where the next thing may begin.
fn bars(body: &mut String, top: f64, load: &str, rows: &[&Row]) -> f64 {
    let value = |row: &Row| {
        let Spread { median, min, max } = row.requests_per_second;
        if load == "closed" {
            return Spread { median, min, max };
        }
        let Spread { median, min, max } = row.p99_us;
        Spread { median: median / 1e3, min: min / 1e3, max: max / 1e3 }
    };
    let most = rows.iter().map(|row| value(row).max).fold(f64::MIN_POSITIVE, f64::max);
    let x = |value: f64| LEFT + (RIGHT - LEFT) * value / most;
    let has_product = rows.iter().any(|row| row.server == PRODUCT);
    let mut y = top;
    for row in rows {
        let Spread { median, min, max } = value(row);
        // Where the product stands beside itself, the one that is compared is the one to look at.
        let stands_out = row.server == PRODUCT || (!has_product && row.of_baseline.is_some());
        let colour = if stands_out { "#1f6feb" } else { "#9aa4b2" };
        text(body, LEFT - 8.0, y + 13.5, "end", "normal", &row.server);
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
        let label = if load == "closed" { format!("{median:.0}") } else { format!("{median:.2}") };
        let ratio = row.of_baseline.filter(|_| load == "closed");
        let label = ratio.map_or(label.clone(), |ratio| format!("{label}  (x {:.2})", ratio.median));
        text(body, x(max) + 8.0, y + 13.5, "start", "normal", &label);
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
    use super::super::tests::{CASE, report, run_line};
    use super::*;

    fn picture(lines: &[String]) -> String {
        let report = report(&[&[CASE.to_owned()], lines].concat()).unwrap();
        draw("a <title> & more", &report.rows.iter().collect::<Vec<_>>())
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
