//! The page that `status --prometheus` writes, in the text format of Prometheus: the facts as gauges.

use raidtape::engine::status::{Severity, SourceStatus, StatusReport};
use raidtape::engine::volumes::{VolumeStanding, VolumeSummary};
use std::fmt::Write;

/// Help and type once for each name, then a line for each labelled value.
struct Page {
    text: String,
}

impl Page {
    fn gauge(&mut self, name: &str, help: &str, values: &[(String, String)]) {
        if values.is_empty() {
            return;
        }
        // Writing into a string does not fail.
        let _ = writeln!(self.text, "# HELP raidtape_{name} {help}\n# TYPE raidtape_{name} gauge");
        for (labels, value) in values {
            let _ = writeln!(self.text, "raidtape_{name}{labels} {value}");
        }
    }

    fn plain(&mut self, name: &str, help: &str, value: &impl ToString) {
        self.gauge(name, help, &[(String::new(), value.to_string())]);
    }

    fn of_sources(&mut self, name: &str, help: &str, (report, value): (&StatusReport, SourceValue)) {
        let values =
            report.sources.iter().filter_map(|source| Some((labels(&[("source", &source.source)]), value(source)?)));
        self.gauge(name, help, &values.collect::<Vec<_>>());
    }

    fn of_volumes(&mut self, name: &str, help: &str, (report, value): (&StatusReport, VolumeValue)) {
        let values =
            report.volumes.iter().filter_map(|volume| Some((labels(&[("volume", &volume.name)]), value(volume)?)));
        self.gauge(name, help, &values.collect::<Vec<_>>());
    }
}

type SourceValue = fn(&SourceStatus) -> Option<String>;
type VolumeValue = fn(&VolumeSummary) -> Option<String>;

/// The page; without a report one that says that there was none.
pub fn page(report: Option<&StatusReport>, now_ns: i64) -> String {
    let mut page = Page { text: String::new() };
    let state = report.map_or(3, |report| match report.state {
        Severity::Ok => 0,
        Severity::Warning => 1,
        Severity::Critical => 2,
    });
    page.plain("status", "0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN", &state);
    page.plain("status_timestamp_seconds", "When this was looked at", &seconds(now_ns));
    if let Some(report) = report {
        runs(&mut page, report);
        let lacking = report.blocks_under_protected;
        page.plain("under_protected_blocks", "Blocks less protected than the redundancy wants", &lacking);
        volumes(&mut page, report);
        if let Some(forecast) = &report.forecast {
            page.plain("growth_bytes_per_day", "Bytes that the last runs stored in a day", &forecast.bytes_per_day);
            if let Some(days) = forecast.days_left {
                page.plain(
                    "space_left_seconds",
                    "Time until the active volumes are full at that rate",
                    &(days * 86_400.0).round(),
                );
            }
        }
    }
    page.text
}

fn runs(page: &mut Page, report: &StatusReport) {
    page.of_sources(
        "last_good_run",
        "Number of the newest complete run",
        (report, |source| source.last_good.map(|run| run.to_string())),
    );
    page.of_sources(
        "last_good_run_timestamp_seconds",
        "When the newest complete run began",
        (report, |source| source.last_good_ns.map(seconds)),
    );
    page.of_sources(
        "last_good_run_problems",
        "Files that the newest complete run could not read as it should",
        (report, |source| Some(source.problems.to_string())),
    );
    page.of_sources(
        "last_good_run_bytes",
        "Bytes that restoring the newest complete run gives",
        (report, |source| Some(source.bytes.to_string())),
    );
    page.of_sources(
        "last_good_run_stored_bytes",
        "Bytes that the newest complete run added to volumes",
        (report, |source| Some(source.bytes_stored.to_string())),
    );
    page.of_sources(
        "unfinished_run",
        "1 when a newer run is not complete and not under way",
        (report, |source| Some(u8::from(source.unfinished.is_some_and(|run| !run.is_running)).to_string())),
    );
}

fn volumes(page: &mut Page, report: &StatusReport) {
    let states = [
        VolumeStanding::Active,
        VolumeStanding::Sealed,
        VolumeStanding::Readonly,
        VolumeStanding::Lost,
        VolumeStanding::Offline,
    ];
    let values = report.volumes.iter().flat_map(|volume| {
        states.map(|state| {
            let labels = labels(&[("volume", &volume.name), ("state", state.word())]);
            (labels, u8::from(volume.state == state).to_string())
        })
    });
    page.gauge("volume_state", "1 for the state that a volume is in", &values.collect::<Vec<_>>());
    page.of_volumes("volume_blocks", "Blocks on a volume", (report, |volume| Some(volume.blocks.to_string())));
    page.of_volumes("volume_stored_bytes", "Bytes of them", (report, |volume| Some(volume.stored.to_string())));
    page.of_volumes(
        "volume_free_bytes",
        "Bytes free on the file system of a volume",
        (report, |volume| volume.free.map(|bytes| bytes.to_string())),
    );
    page.of_volumes(
        "volume_reserve_bytes",
        "Bytes that a volume keeps free",
        (report, |volume| volume.reserve.map(|bytes| bytes.to_string())),
    );
    page.of_volumes(
        "volume_damaged_blocks",
        "Blocks that are damaged or missing",
        (report, |volume| Some(volume.verification.bad_blocks.to_string())),
    );
    page.of_volumes(
        "volume_unverified_bytes",
        "Bytes neither verified nor written within the time that they may",
        (report, |volume| Some(volume.verification.due_bytes.to_string())),
    );
    page.of_volumes(
        "volume_never_verified_bytes",
        "Bytes that were never verified",
        (report, |volume| Some(volume.verification.never_bytes.to_string())),
    );
    page.of_volumes(
        "volume_oldest_verification_timestamp_seconds",
        "When the block was verified whose verification is the longest ago",
        (report, |volume| volume.verification.oldest_ns.map(seconds)),
    );
}

/// `{name="value",...}` with what ends a value escaped.
fn labels(all: &[(&str, &str)]) -> String {
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<String> = all.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    format!("{{{}}}", pairs.join(","))
}

fn seconds(at_ns: i64) -> String {
    (at_ns / 1_000_000_000).to_string()
}
