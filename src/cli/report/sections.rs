//! What each section shows: figures of the report made into charts and tables.

use super::super::{paths, words};
use super::chart::{self, Words};
use super::html::{escape, figure, section, table};
use raidtape::engine::report::{Filling, RepositoryReport};
use raidtape::engine::stats::RunGrowth;
use raidtape::engine::volumes::VolumeSummary;

/// Runs in charts and in the table of changes.
const RUNS_SHOWN: usize = 60;
const CHANGES_SHOWN: usize = 15;
/// How far the dashed line goes.
const AHEAD_DAYS: i64 = 30;
const DAY_NS: i64 = 86_400_000_000_000;

fn last<T>(all: &[T], count: usize) -> &[T] {
    &all[all.len().saturating_sub(count)..]
}

fn columns(class: &str, body: &str) -> String {
    format!("<div class=\"{class}\">{body}</div>")
}

/// Read, new and stored by run.
pub fn runs(report: &RepositoryReport) -> String {
    let shown = last(&report.stats.runs, RUNS_SHOWN);
    let Some(newest) = shown.last() else {
        return section("Runs", "There is no complete run yet.", "");
    };
    type Series = (&'static str, &'static str, &'static str, fn(&RunGrowth) -> u64);
    let series: [Series; 3] = [
        ("Read", "Read from the source", "read", |run| run.counts.bytes_read),
        ("New", "New, in no run before", "new", |run| run.counts.bytes_new),
        ("Stored", "Stored on volumes, compressed", "stored", |run| run.counts.bytes_stored),
    ];
    let charts = series.map(|(name, caption, class, value)| {
        let values: Vec<(String, u64)> = shown.iter().map(|run| (format!("run {}", run.run), value(run))).collect();
        let description = format!(
            "A bar for each of {}; the newest, run {}, has {}.",
            words::plural(values.len() as u64, "run"),
            newest.run,
            words::size(value(newest))
        );
        let svg = chart::bars(&values, class, &Words { title: caption, description });
        let rows: Vec<Vec<String>> = values.into_iter().map(|(run, value)| vec![run, words::size(value)]).collect();
        figure(caption, &svg, (&["Run", name], &rows))
    });
    section(
        "Runs",
        "Each bar is a complete run, the newest on the right; each chart has a scale of its own.",
        &columns("three", &charts.concat()),
    )
}

/// How full each volume is, how it filled and where that leads.
pub fn volumes(report: &RepositoryReport) -> String {
    let status = &report.status;
    let total = status.volumes.len() as u64;
    // What all active volumes get together, shared as if each got the same.
    let active = status.volumes.iter().filter(|volume| volume.room().is_some_and(|room| room > 0)).count();
    let per_day = status.forecast.map_or(0.0, |forecast| forecast.bytes_per_day.max(0.0));
    let each = status.volumes.iter().map(|volume| {
        let filling = report.fillings.iter().find(|filling| filling.volume == volume.uuid);
        let state = match volume.room() {
            Some(room) => format!("{}, {} free above the reserve", volume.state.word(), words::size(room)),
            None => volume.state.word().to_owned(),
        };
        let mut html = format!("<div><h3>{}</h3><p class=\"soft\">{}</p>", escape(&volume.name), escape(&state));
        html.push_str(&fullness(volume));
        if let Some(filling) = filling.filter(|filling| !filling.points.is_empty()) {
            let grows = volume.room().is_some_and(|room| room > 0) && active > 0;
            html.push_str(&growth(volume, filling, (status.now_ns, if grows { per_day / count(active) } else { 0.0 })));
        }
        html.push_str("</div>");
        html
    });
    let lead = format!(
        "{}. The line is what lies on each; dashed, where it will be in {AHEAD_DAYS} days if growth goes on and spreads evenly.",
        words::plural(total, "volume")
    );
    section("Volumes", &lead, &columns("three", &each.collect::<String>()))
}

#[expect(clippy::cast_precision_loss, reason = "few volumes")]
fn count(number: usize) -> f64 {
    number.max(1) as f64
}

fn fullness(volume: &VolumeSummary) -> String {
    let (Some(size), Some(free)) = (volume.size, volume.free) else { return String::new() };
    let other = size.saturating_sub(free).saturating_sub(volume.stored);
    let parts = [("stored", volume.stored), ("other", other), ("none", free)];
    let description = format!(
        "{} of blocks, {} of other things, {} free of {}",
        words::size(volume.stored),
        words::size(other),
        words::size(free),
        words::size(size)
    );
    let key = |class: &str, text: String| format!("<span><i class=\"key {class}\"></i>{}</span>", escape(&text));
    format!(
        "{}<div class=\"keys\">{}{}{}</div>",
        chart::shares(&parts, &Words { title: "How full the disk is", description }),
        key("stored", format!("blocks {}", words::size(volume.stored))),
        key("other", format!("other {}", words::size(other))),
        key("none", format!("free {} of {}", words::size(free), words::size(size)))
    )
}

fn growth(volume: &VolumeSummary, filling: &Filling, (now_ns, per_day): (i64, f64)) -> String {
    let mut points = filling.points.clone();
    points.sort_unstable();
    let newest = points.last().copied().unwrap_or_default();
    points.push((now_ns.max(newest.0), newest.1));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "not negative, and a cast to an integer stops at its highest number"
    )]
    let more = (per_day * AHEAD_DAYS as f64) as u64;
    let ahead =
        (more > 0).then(|| (now_ns.max(newest.0).saturating_add(AHEAD_DAYS * DAY_NS), newest.1.saturating_add(more)));
    let mut description = format!("{} now", words::size(newest.1));
    if let Some((_, bytes)) = ahead {
        description.push_str(&format!(", about {} in {AHEAD_DAYS} days", words::size(bytes)));
    }
    let title = format!("Bytes of blocks on {} over time", volume.name);
    let svg = chart::line(&points, ahead, &Words { title: &title, description: description.clone() });
    let rows: Vec<Vec<String>> = last(&filling.points, RUNS_SHOWN)
        .iter()
        .map(|(at_ns, bytes)| vec![words::minute(*at_ns), words::size(*bytes)])
        .collect();
    figure(&description, &svg, (&["Run began", "Blocks"], &rows))
}

/// How much of each volume was verified, and when.
pub fn verification(report: &RepositoryReport) -> String {
    let each = report.status.volumes.iter().filter(|volume| volume.verification.bytes > 0).map(|volume| {
        let found = &volume.verification;
        let day = |at_ns: i64| words::minute(at_ns).chars().take(10).collect::<String>();
        let when = match (found.oldest_ns, found.newest_ns) {
            (Some(oldest), Some(newest)) if day(oldest) == day(newest) => format!("on {}", day(oldest)),
            (Some(oldest), Some(newest)) => format!("between {} and {}", day(oldest), day(newest)),
            _ => "never yet".to_owned(),
        };
        let done = found.bytes.saturating_sub(found.never_bytes);
        let description =
            format!("{} verified {when}, {} never", words::size(done), words::size(found.never_bytes));
        let parts = [("good", done), ("warn", found.never_bytes)];
        let svg = chart::shares(&parts, &Words { title: "How much was verified", description });
        let bad = match found.bad_blocks {
            0 => String::new(),
            bad => format!("<p class=\"critical-text\">{} damaged or missing</p>", words::plural(bad, "block")),
        };
        format!(
            "<div><h3>{}</h3><p class=\"soft\">{}</p>{svg}<div class=\"keys\"><span><i class=\"key good\"></i>verified {}</span>\
             <span><i class=\"key warn\"></i>never {}</span><span>due now {}</span></div>{bad}</div>",
            escape(&volume.name),
            escape(&format!("Verified {when}")),
            words::size(done),
            words::size(found.never_bytes),
            words::size(found.due_bytes)
        )
    });
    let body = each.collect::<String>();
    section("Verification", "When the blocks were last read and found sound.", &columns("three", &body))
}

/// Where the newest runs grew.
pub fn directories(report: &RepositoryReport) -> String {
    let each = report.grown.iter().filter(|grown| !grown.dirs.is_empty()).map(|grown| {
        let max = grown.dirs.iter().map(|dir| dir.bytes).max().unwrap_or(1).max(1);
        let bars = grown.dirs.iter().map(|dir| {
            let share = u128::from(dir.bytes) * 100 / u128::from(max);
            format!(
                "<div class=\"bar\"><span>{}</span><span>{} · {}</span><i><u style=\"width:{share}%\"></u></i></div>",
                escape(&paths::words(&dir.path)),
                words::size(dir.bytes),
                words::plural(dir.files, "file")
            )
        });
        let title = format!("{}, run {}", grown.source, grown.run);
        format!("<div><h3>{}</h3>{}</div>", escape(&title), bars.collect::<String>())
    });
    let body = each.collect::<String>();
    let lead = if body.is_empty() {
        "The newest runs brought no new bytes."
    } else {
        "Sizes of new files and of those with another content, by the folder in which they lie, before deduplication."
    };
    let left_out = report.stats.sources.len().saturating_sub(report.grown.len()) as u64;
    let more = match left_out {
        0 => String::new(),
        left_out => {
            format!("<p class=\"soft\">{} with older runs not shown.</p>", words::plural(left_out, "source"))
        }
    };
    section("Where it grew", lead, &(columns("two", &body) + &more))
}

/// What the last runs changed.
pub fn changes(report: &RepositoryReport) -> String {
    let rows: Vec<Vec<String>> = last(&report.stats.runs, CHANGES_SHOWN)
        .iter()
        .rev()
        .map(|run| {
            let counts = &run.counts;
            let numbers = [counts.added, counts.modified, counts.metadata, counts.deleted, counts.problems];
            let mut row = vec![format!("{} · {}", run.run, words::minute(run.started_ns))];
            row.extend(numbers.map(words::count));
            row.push(words::size(counts.bytes_total));
            row.push(run.source.clone());
            row
        })
        .collect();
    let header = ["Run", "Added", "Modified", "Metadata", "Deleted", "Problems", "Total", "Source"];
    section("What the last runs changed", "Paths, against the run before of the same source.", &table(&header, &rows))
}
