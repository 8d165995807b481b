//! What is made of the facts: one sentence a check, and how bad each is.

use super::{Check, Severity, SourceStatus, StatusOptions, StatusReport};
use crate::engine::volumes::{VolumeStanding, VolumeSummary};
use std::time::Duration;

/// Fills in the checks, the worst of them and the sentence.
pub(super) fn judge(report: &mut StatusReport, options: &StatusOptions) {
    let mut checks = Vec::new();
    for source in &report.sources {
        of_source(source, options, &mut checks);
    }
    of_bytes(report, options, &mut checks);
    for volume in &report.volumes {
        of_volume(volume, &mut checks);
    }
    if report.sources.is_empty() {
        checks.push(critical("run", "nothing was ever backed up; `raidtape backup DIR` does it".to_owned()));
    }
    if !report.volumes.iter().any(|volume| volume.state == VolumeStanding::Active) {
        checks.push(critical("volume", "no volume is here that can take a block".to_owned()));
    }
    of_space(report, options, &mut checks);
    // Stable: what is alike stays in the order in which it was looked at.
    checks.sort_by_key(|check| std::cmp::Reverse(check.severity));
    report.state = checks.iter().map(|check| check.severity).max().unwrap_or(Severity::Ok);
    report.checks = checks;
    report.sentence = sentence(report);
}

fn ok(what: &'static str, text: String) -> Check {
    Check { severity: Severity::Ok, what, text }
}

fn warning(what: &'static str, text: String) -> Check {
    Check { severity: Severity::Warning, what, text }
}

fn critical(what: &'static str, text: String) -> Check {
    Check { severity: Severity::Critical, what, text }
}

fn of_source(source: &SourceStatus, options: &StatusOptions, checks: &mut Vec<Check>) {
    let name = &source.source;
    match (source.last_good, source.age_s) {
        (Some(run), Some(age_s)) => {
            let age = Duration::from_secs(age_s.max(0).cast_unsigned());
            let text = format!("{name}: run {run} began {} ago", age_words(age));
            let limit = age_words(options.max_run_age);
            checks.push(if age_s < 0 {
                warning("run", format!("{name}: run {run} began in the future; a clock was wrong"))
            } else if age > options.max_run_age {
                critical("run", format!("{text}, more than {limit}"))
            } else if age > options.late_run_age() {
                warning("run", format!("{text}; it may be {limit} old"))
            } else {
                ok("run", text)
            });
            if source.problems > 0 {
                let files = plural(source.problems, "file");
                checks.push(warning("problems", format!("{name}: run {run} could not read {files} as it should")));
            }
        }
        _ => checks.push(critical("run", format!("{name}: there is no complete run"))),
    }
    if let Some(unfinished) = source.unfinished {
        let run = unfinished.run;
        checks.push(if unfinished.is_running {
            ok("unfinished", format!("{name}: run {run} is under way"))
        } else {
            warning("unfinished", format!("{name}: run {run} was not finished; the next backup goes on from there"))
        });
    }
}

fn of_bytes(report: &StatusReport, options: &StatusOptions, checks: &mut Vec<Check>) {
    let bad = report.blocks_damaged;
    if bad > 0 {
        let blocks = plural(bad, "block");
        let next = "`raidtape validate` names the files, the next backup heals what its source still has";
        checks.push(critical("damage", format!("{blocks} damaged or missing; {next}")));
    }
    let copies = report.bad_copies();
    if copies > 0 {
        let text = plural(copies, "block");
        let text = format!(
            "{text} damaged or missing on one volume and sound on another; `raidtape validate --repair` heals that"
        );
        checks.push(warning("damage", text));
    }
    of_redundancy(report, checks);
    let (all, never, due) = report.verification_bytes();
    if all == 0 {
        return;
    }
    let limit = age_words(options.max_verify_age);
    let never = if never > 0 { format!("; {} never verified", percent(never, all)) } else { String::new() };
    checks.push(if due > 0 {
        let share = percent(due, all);
        let next = format!("`raidtape validate --max-age {}` does it", age_option(options.max_verify_age));
        warning("verification", format!("{share} of the bytes not verified within {limit}; {next}{never}"))
    } else {
        ok("verification", format!("all bytes were verified or written within {limit}{never}"))
    });
}

fn of_redundancy(report: &StatusReport, checks: &mut Vec<Check>) {
    let policy = report.redundancy;
    let check = match report.blocks_under_protected {
        0 if policy.copies() < 2 => return,
        0 => ok("redundancy", format!("any {} may be lost", plural(u64::from(policy.tolerance()), "volume"))),
        lacking => {
            let blocks = plural(lacking, "block");
            warning("redundancy", format!("{blocks} less protected than {policy} wants; `raidtape protect` does it"))
        }
    };
    checks.push(check);
}

fn of_volume(volume: &VolumeSummary, checks: &mut Vec<Check>) {
    let name = &volume.name;
    let held = plural(volume.blocks, "block");
    let check = match volume.state {
        VolumeStanding::Active => match volume.free {
            Some(_) => return,
            None => warning("volume", format!("volume {name} does not tell how full it is")),
        },
        VolumeStanding::Sealed => warning("volume", format!("volume {name} is full and takes no more blocks")),
        VolumeStanding::Readonly => {
            warning("volume", format!("volume {name} is rolled back or a copy; it is only read"))
        }
        // What was on it alone counts as damaged blocks.
        VolumeStanding::Lost => return,
        VolumeStanding::Offline => warning("volume", format!("volume {name} is not mounted; it holds {held}")),
    };
    checks.push(check);
}

fn of_space(report: &StatusReport, options: &StatusOptions, checks: &mut Vec<Check>) {
    let Some(days) = report.forecast.and_then(|forecast| forecast.days_left) else { return };
    let text = if days > 3650.0 {
        "space for more than ten years at this rate".to_owned()
    } else {
        format!("space for {days:.0} days at this rate")
    };
    checks.push(if days < days_of(options.space_critical) {
        critical("space", format!("{text}; add a volume with `raidtape add-volume DIR`"))
    } else if days < days_of(options.space_warning) {
        warning("space", format!("{text}; add a volume with `raidtape add-volume DIR`"))
    } else {
        ok("space", text)
    });
}

fn days_of(duration: Duration) -> f64 {
    duration.as_secs_f64() / 86_400.0
}

/// The worst check and how many more there are like it, or what there is.
fn sentence(report: &StatusReport) -> String {
    let bad = report.checks.iter().filter(|check| check.severity > Severity::Ok).count();
    match report.checks.first() {
        Some(worst) if bad > 0 => {
            let more = if bad > 1 { format!(" (and {} more)", bad - 1) } else { String::new() };
            format!("{}{more}", worst.text)
        }
        _ => {
            let newest = report.sources.iter().filter_map(|source| source.age_s).min().unwrap_or(0);
            let age = age_words(Duration::from_secs(newest.max(0).cast_unsigned()));
            let sources = plural(report.sources.len() as u64, "source");
            let volumes = plural(report.volumes.len() as u64, "volume");
            format!("{sources} on {volumes}, newest run {age} ago")
        }
    }
}

fn plural(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// `25 min`, `36 h`, `12 d`.
fn age_words(age: Duration) -> String {
    match age.as_secs() {
        s @ ..60 => format!("{s} s"),
        s @ ..7200 => format!("{} min", s / 60),
        s @ ..259_200 => format!("{} h", s / 3600),
        s => format!("{} d", s / 86_400),
    }
}

/// An age as options take it: `30d`, `36h`.
fn age_option(age: Duration) -> String {
    match age.as_secs() {
        s if s % 86_400 == 0 => format!("{}d", s / 86_400),
        s if s % 3600 == 0 => format!("{}h", s / 3600),
        s => format!("{s}s"),
    }
}

/// Rounded up, so that something never reads as nothing.
fn percent(part: u64, whole: u64) -> String {
    let share = u128::from(part) * 100;
    format!("{} %", share.div_ceil(u128::from(whole.max(1))))
}
