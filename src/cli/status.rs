//! `status`: the one command with exit codes of its own, those of monitoring plugins.

use super::output::one_line;
use super::prometheus;
use super::session::Session;
use super::values;
use super::whole_file::{self, Readers};
use clap::Args;
use raidtape::engine::repository::Access;
use raidtape::engine::status::{Severity, StatusOptions, StatusReport, now_ns, status};
use raidtape::engine::volumes::VolumeSummary;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// How things could not even be looked at.
pub const UNKNOWN: u8 = 3;

/// Tell how things stand, in the manner of monitoring plugins
#[derive(Debug, Args)]
#[command(after_help = "\
The first line says OK, WARNING, CRITICAL or UNKNOWN, why, and figures behind a `|`; each
line after it is one thing that was looked at, the worst first.

CRITICAL  a source's newest complete run is older than --max-run-age, or there is none;
          blocks are damaged or missing; no volume can take a block; space for less than
          --space-critical at the rate of the last 30 days (or 10 runs, if more)
WARNING   a run older than three quarters of --max-run-age; a newer one that was not
          finished; files that it could not read; bytes neither verified nor written
          within --max-verify-age; a volume that is full, away, given up, or rolled back
          when the last backup looked; space for less than --space-warning
UNKNOWN   the catalog is not there or cannot be read, or the answer cannot be written

Exit codes of this command: 0 OK, 1 WARNING, 2 CRITICAL (or usage), 3 UNKNOWN.

Examples:
  raidtape status
  raidtape status --max-run-age 8d --max-verify-age 90d
  raidtape status -q --prometheus /var/lib/node_exporter/raidtape.prom")]
pub struct StatusArgs {
    /// How old the newest complete run of each source may be
    #[arg(long, value_name = "AGE", value_parser = values::age, default_value = "36h")]
    max_run_age: Duration,
    /// Within which time every block is to be verified
    #[arg(long, value_name = "AGE", value_parser = values::age, default_value = "30d")]
    max_verify_age: Duration,
    /// Warn when there is space for less than this
    #[arg(long, value_name = "AGE", value_parser = values::age, default_value = "30d")]
    space_warning: Duration,
    /// Critical when there is space for less than this
    #[arg(long, value_name = "AGE", value_parser = values::age, default_value = "7d")]
    space_critical: Duration,
    /// Also write the figures to a page for Prometheus' textfile collector
    #[arg(long, value_name = "FILE")]
    prometheus: Option<PathBuf>,
}

impl StatusArgs {
    /// Whether nothing is written but to stdout.
    pub fn is_for_stdout(&self) -> bool {
        self.prometheus.is_none()
    }
}

/// Tells it; returns the exit code.
pub fn run(session: &mut Session, args: &StatusArgs) -> u8 {
    let options = StatusOptions {
        max_run_age: args.max_run_age,
        max_verify_age: args.max_verify_age,
        space_warning: args.space_warning,
        space_critical: args.space_critical,
    };
    let now_ns = now_ns();
    let found = session.open(Access::Read).and_then(|repository| status(&repository, &options, now_ns));
    if let Some(path) = &args.prometheus {
        let page = prometheus::page(found.as_ref().ok(), now_ns);
        // The answer stays what it is; whoever watches the page sees that it grows old.
        if let Err(error) = whole_file::write(path, &page, Readers::All) {
            session.warn(&format!("{error:#}"));
        }
    }
    match found {
        Ok(report) => {
            print(session, &report, &options);
            match report.state {
                Severity::Ok => 0,
                Severity::Warning => 1,
                Severity::Critical => 2,
            }
        }
        Err(error) => {
            unknown(session, &error.to_string());
            UNKNOWN
        }
    }
}

fn unknown(session: &mut Session, sentence: &str) {
    #[derive(Serialize)]
    struct Unknown<'a> {
        state: &'a str,
        sentence: &'a str,
    }
    if session.out.is_json {
        session.out.document("status", &Unknown { state: "UNKNOWN", sentence });
    } else {
        session.out.line(&format!("UNKNOWN - {}", plugin_text(sentence)));
    }
}

fn print(session: &mut Session, report: &StatusReport, options: &StatusOptions) {
    if session.out.is_json {
        return session.out.document("status", report);
    }
    if session.global.quiet && report.state == Severity::Ok {
        return;
    }
    let figures = figures(report, options);
    session.out.line(&format!("{} - {} | {figures}", report.state.word(), plugin_text(&report.sentence)));
    for check in &report.checks {
        session.out.line(&format!("{:<8}  {}", check.severity.word(), plugin_text(&check.text)));
    }
}

/// What a plugin may print: one line without the sign that figures stand behind.
fn plugin_text(text: &str) -> String {
    one_line(text).replace('|', "/")
}

/// `'label'=value;warning;critical` with units, as the plugin guidelines have it.
fn figures(report: &StatusReport, options: &StatusOptions) -> String {
    let mut all = Vec::new();
    for source in &report.sources {
        if let Some(age_s) = source.age_s {
            let (late, limit) = (options.late_run_age().as_secs(), options.max_run_age.as_secs());
            all.push(format!("{}={age_s}s;{late};{limit}", label("age", &source.source)));
        }
    }
    for volume in &report.volumes {
        if let Some(room) = volume.room() {
            all.push(format!("{}={room}B", label("free", &volume.name)));
        }
    }
    let (bytes, never, due) = report.verification_bytes();
    all.push(format!("'unverified'={}%;0", percent(due, bytes)));
    all.push(format!("'never verified'={}%", percent(never, bytes)));
    all.push(format!("'damaged blocks'={};;0", report.blocks_damaged));
    all.push(format!("'under-protected blocks'={};0", report.blocks_under_protected));
    all.push(format!("'stored'={}B", report.volumes.iter().map(stored).fold(0, u64::saturating_add)));
    if let Some(days) = report.forecast.and_then(|forecast| forecast.days_left) {
        let days_of = |limit: Duration| limit.as_secs() / 86_400;
        let (low, too_low) = (days_of(options.space_warning), days_of(options.space_critical));
        all.push(format!("'days left'={days:.1};{low}:;{too_low}:"));
    }
    all.join(" ")
}

fn stored(volume: &VolumeSummary) -> u64 {
    volume.stored
}

/// Quoted; the two signs that may not stand in a label are left out.
fn label(what: &str, name: &str) -> String {
    format!("'{what} {}'", plugin_text(name).replace(['=', '\''], "_"))
}

#[expect(clippy::cast_precision_loss, reason = "a share is read to two digits")]
fn percent(part: u64, whole: u64) -> String {
    format!("{:.2}", if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 })
}
