//! The page as a whole: headline, cards, and the sections in their order. One file with everything in it: no script, no
//! font, no picture from elsewhere.

use super::super::words;
use super::html::{escape, section};
use super::sections;
use raidtape::engine::report::RepositoryReport;
use raidtape::engine::stats::paths;
use raidtape::engine::status::Severity;

const STYLE: &str = include_str!("style.css");

/// The page.
pub fn page(report: &RepositoryReport) -> String {
    let status = &report.status;
    let headline = match status.state {
        Severity::Ok => "Everything is as it should be",
        Severity::Warning => "Something wants to be seen to",
        Severity::Critical => "Something is wrong",
    };
    let class = class(status.state);
    let now = words::minute(status.now_ns);
    let body = [
        format!(
            "<header class=\"{class}\"><div class=\"state\">{}</div><h1>{headline}</h1><p class=\"soft\">{}</p></header>",
            status.state.word(),
            escape(&status.sentence)
        ),
        cards(report),
        section("How things stand", "What was looked at, the worst first.", &checks(report)),
        sections::runs(report),
        sections::volumes(report),
        sections::verification(report),
        sections::directories(report),
        sections::changes(report),
        format!("<footer>Repository {} as its catalog knew it at {now}.</footer>", escape(&report.repository)),
    ];
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <title>{} – backup report, {now}</title><style>{STYLE}</style></head><body><main>{}</main></body></html>\n",
        status.state.word(),
        body.join("\n")
    )
}

/// The class of a state.
fn class(state: Severity) -> &'static str {
    match state {
        Severity::Ok => "ok",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

fn cards(report: &RepositoryReport) -> String {
    let stats = &report.stats;
    let newest = report.stats.runs.last();
    let restore = stats.sources.iter().fold(0_u64, |sum, source| sum.saturating_add(source.restore_bytes));
    let times = |ratio: Option<f64>| ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.1} ×"));
    let days = report.status.forecast.and_then(|forecast| forecast.days_left);
    let all = [
        (
            newest.map_or_else(|| "none yet".to_owned(), |run| format!("run {}", run.run)),
            newest.map_or_else(
                || "newest run".to_owned(),
                |run| {
                    format!("newest, {}, {}", words::minute(run.started_ns), words::plural(paths(&run.counts), "path"))
                },
            ),
        ),
        (
            words::size(restore),
            format!("the newest runs restore to, {}", words::plural(stats.sources.len() as u64, "source")),
        ),
        (words::size(stats.stored.copy_bytes), format!("stored in {}", words::plural(stats.stored.blocks, "block"))),
        (
            times(stats.dedup_ratio()),
            format!(
                "by deduplication of {}, and {} by compression",
                words::plural(stats.runs_total, "run"),
                times(stats.compression_ratio())
            ),
        ),
        match days {
            Some(days) if days <= 3650.0 => (format!("{days:.0} days"), "of space left at this rate".to_owned()),
            Some(_) => ("10 years +".to_owned(), "of space left at this rate".to_owned()),
            None => ("–".to_owned(), "no forecast yet: too few runs, or no growth".to_owned()),
        },
    ];
    let cards = all.iter().map(|(figure, text)| {
        format!("<div class=\"card\"><b>{}</b><span>{}</span></div>", escape(figure), escape(text))
    });
    format!("<div class=\"cards\">{}</div>", cards.collect::<String>())
}

fn checks(report: &RepositoryReport) -> String {
    let lines = report.status.checks.iter().map(|check| {
        format!(
            "<li class=\"{}\"><b>{}</b><span>{}</span></li>",
            class(check.severity),
            check.severity.word(),
            escape(&check.text)
        )
    });
    format!("<ul class=\"checks\">{}</ul>", lines.collect::<String>())
}
