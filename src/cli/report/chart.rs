//! Charts as inline SVG: bars, lines, shares. Each has a title and a description for those who do not see it; colours are
//! classes of the page's style.

use super::super::words;
use super::html::escape;

/// About as many pixels as a column of the page has, so that letters keep their size.
const WIDTH: f64 = 320.0;
/// Above the bars, for the largest value; below, for what they stand for.
const TOP: f64 = 18.0;
const BOTTOM: f64 = 18.0;
/// Width of a letter.
const LETTER: f64 = 7.0;

/// What a chart is called and what it shows, in words.
pub struct Words<'a> {
    pub title: &'a str,
    pub description: String,
}

fn svg(height: f64, words: &Words<'_>, body: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\"><title>{}</title><desc>{}</desc>{body}</svg>",
        escape(words.title),
        escape(&words.description)
    )
}

#[expect(clippy::cast_precision_loss, reason = "a place in a picture")]
fn float(number: u64) -> f64 {
    number as f64
}

/// A bar for each value, the first and last with their label below, the largest with its size above.
pub fn bars(values: &[(String, u64)], class: &str, chart: &Words<'_>) -> String {
    let (height, plot) = (110.0, 110.0 - TOP - BOTTOM);
    let max = values.iter().map(|(_, value)| *value).max().unwrap_or(0);
    // Few bars stay bars and do not become walls.
    let slot = WIDTH / float(values.len().max(12) as u64);
    let bar = slot * 0.72;
    let base = height - BOTTOM;
    let mut body = format!("<line class=\"axis\" x1=\"0\" x2=\"{WIDTH}\" y1=\"{base}\" y2=\"{base}\"/>");
    for (index, (label, value)) in values.iter().enumerate() {
        let x = slot * float(index as u64) + (slot - bar) / 2.0;
        let tall = if max == 0 { 0.0 } else { plot * float(*value) / float(max) };
        // What is there is seen, however small.
        let tall = if *value > 0 { tall.max(1.5) } else { 0.0 };
        body.push_str(&format!(
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{bar:.1}\" height=\"{tall:.1}\" rx=\"1.5\"><title>{}: {}</title></rect>",
            base - tall,
            escape(label),
            words::size(*value)
        ));
    }
    let peak = values.iter().position(|(_, value)| *value == max && max > 0);
    if let Some(at) = peak {
        let x = slot * float(at as u64) + slot / 2.0;
        body.push_str(&text(x, TOP - 6.0, &words::size(max)));
    }
    let last = values.len().saturating_sub(1);
    // Two labels need room beside each other; then the newest tells more.
    let wide = values.first().map_or(0.0, |(label, _)| label.chars().fold(LETTER, |wide, _| wide + LETTER));
    for at in if slot * float(last as u64) < wide { vec![last] } else { vec![0, last] } {
        if let Some((label, _)) = values.get(at) {
            body.push_str(&text(slot * float(at as u64) + slot / 2.0, height - 4.0, label));
        }
    }
    svg(height, chart, &body)
}

/// Centred at `x`, but never over the edge.
fn text(x: f64, y: f64, label: &str) -> String {
    // As wide as a letter of this size is at most.
    let half = label.chars().fold(0.0, |wide, _| wide + LETTER / 2.0);
    let (anchor, x) = match x {
        x if x < half => ("start", 0.0),
        x if x > WIDTH - half => ("end", WIDTH),
        x => ("middle", x),
    };
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", escape(label))
}

/// A rising line through `points` (time, bytes), with a dashed one on to `ahead` where there is a forecast.
pub fn line(points: &[(i64, u64)], ahead: Option<(i64, u64)>, chart: &Words<'_>) -> String {
    let (height, plot) = (110.0, 110.0 - TOP - BOTTOM);
    let all: Vec<(i64, u64)> = points.iter().copied().chain(ahead).collect();
    let (Some(first), Some(last)) = (all.first(), all.last()) else { return svg(height, chart, "") };
    let span = float(last.0.abs_diff(first.0).max(1));
    let max = float(all.iter().map(|(_, bytes)| *bytes).max().unwrap_or(1).max(1));
    let base = height - BOTTOM;
    let place = |(at_ns, bytes): (i64, u64)| {
        let x = WIDTH * float(at_ns.abs_diff(first.0)) / span;
        (x, base - plot * float(bytes) / max)
    };
    let mut path = String::new();
    let mut area = format!("0,{base} ");
    let mut end = place(*first);
    for point in points {
        let (x, y) = place(*point);
        // A step: between two runs nothing is stored.
        path.push_str(&format!("{x:.1},{:.1} {x:.1},{y:.1} ", end.1));
        area.push_str(&format!("{x:.1},{:.1} {x:.1},{y:.1} ", end.1));
        end = (x, y);
    }
    area.push_str(&format!("{:.1},{base}", end.0));
    let mut body = format!("<line class=\"axis\" x1=\"0\" x2=\"{WIDTH}\" y1=\"{base}\" y2=\"{base}\"/>");
    body.push_str(&format!("<polygon class=\"area\" points=\"{area}\"/><polyline class=\"line\" points=\"{path}\"/>"));
    if let Some(ahead) = ahead {
        let (x, y) = place(ahead);
        body.push_str(&format!(
            "<line class=\"ahead\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{x:.1}\" y2=\"{y:.1}\"/>",
            end.0, end.1
        ));
        body.push_str(&text(x, y - 6.0, &words::size(ahead.1)));
    } else if let Some(newest) = points.last() {
        body.push_str(&text(end.0, end.1 - 6.0, &words::size(newest.1)));
    }
    let day = |at_ns: i64| words::minute(at_ns).chars().take(10).collect::<String>();
    body.push_str(&text(0.0, height - 4.0, &day(first.0)));
    body.push_str(&text(WIDTH, height - 4.0, &day(last.0)));
    svg(height, chart, &body)
}

/// One bar cut into shares, with a class each.
pub fn shares(parts: &[(&str, u64)], chart: &Words<'_>) -> String {
    let height = 10.0;
    let whole = float(parts.iter().fold(0_u64, |sum, (_, part)| sum.saturating_add(*part)).max(1));
    let mut body = format!("<rect class=\"none\" x=\"0\" y=\"0\" width=\"{WIDTH}\" height=\"{height}\" rx=\"3\"/>");
    let mut x = 0.0;
    for (class, part) in parts {
        let wide = WIDTH * float(*part) / whole;
        body.push_str(&format!(
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"0\" width=\"{wide:.1}\" height=\"{height}\"/>"
        ));
        x += wide;
    }
    svg(height, chart, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_few_runs_do_not_lie_on_one_another() {
        for runs in 1..12 {
            let values: Vec<(String, u64)> = (1..=runs).map(|run| (format!("run {run}"), run)).collect();
            let chart = bars(&values, "read", &Words { title: "t", description: String::new() });
            let labels = chart.split("<text x=\"").skip(1).filter(|text| text.contains(">run "));
            let places: Vec<f64> = labels.map(|text| text.split('"').next().unwrap().parse().unwrap()).collect();
            assert!(!places.is_empty() && places.windows(2).all(|pair| pair[1] - pair[0] > 40.0), "{chart}");
        }
    }

    #[test]
    fn charts_of_nothing_and_of_anything_stay_inside_the_picture() {
        let words = || Words { title: "<t>", description: "d".to_owned() };
        let charts = [
            bars(&[], "read", &words()),
            bars(&[("1".into(), u64::MAX), ("2".into(), 0)], "read", &words()),
            line(&[], None, &words()),
            line(&[(i64::MIN, 0), (i64::MAX, u64::MAX)], None, &words()),
            line(&[(5, 7)], Some((9, 8)), &words()),
            shares(&[("a", u64::MAX), ("b", u64::MAX)], &words()),
            shares(&[("a", 0)], &words()),
        ];
        for chart in charts {
            assert!(!chart.contains("NaN") && !chart.contains("inf") && !chart.contains("=\"-"), "{chart}");
            assert!(chart.contains("<title>&lt;t&gt;</title><desc>d</desc>"), "{chart}");
        }
    }
}
