//! What came of a restore, in words and as JSON.

use super::output::{one_line, stderr_line};
use super::paths::{self, JsonPath};
use super::problems;
use super::session::Session;
use super::words;
use raidtape::engine::Exit;
use raidtape::engine::restore::{RefusedName, RestoreReport};
use serde::Serialize;
use serde_json::Value;

/// Names of a kind that are shown, unless asked for all.
const SHOWN_MAX: usize = 20;

/// Prints what came of a restore, and returns the exit code for it.
pub fn tell(session: &mut Session, report: &RestoreReport) -> anyhow::Result<Exit> {
    if session.out.is_json {
        let document = json(report)?;
        session.out.document("summary", &document);
        return Ok(report.exit());
    }
    if !session.global.quiet {
        let deed = if report.dry_run { "would restore" } else { "restored" };
        report.names.iter().for_each(|path| session.out.line(&format!("{deed} {}", paths::words(path))));
        let deed = if report.dry_run { "would delete" } else { "deleted" };
        report.deleted_names.iter().for_each(|path| session.out.line(&format!("{deed} {}", paths::words(path))));
    }
    session.out.say(&tally(report));
    warn(session, report);
    problems::print(&report.problems, session.global.verbose);
    if !report.volumes_wanted.is_empty() {
        let volumes = one_line(&report.volumes_wanted.join(", "));
        session.warn(&format!("mount {volumes}, or pass --volume DIR, and give the same command again for the rest"));
    }
    if !report.problems.is_empty() {
        let missing = words::plural(report.problems.len() as u64, "problem");
        session.out.line(&format!("Not complete: {missing}"));
    }
    Ok(report.exit())
}

#[derive(Serialize)]
struct JsonRefused<'a> {
    #[serde(flatten)]
    path: JsonPath,
    refused: &'a [&'static str],
}

#[derive(Serialize)]
struct JsonLeft {
    #[serde(flatten)]
    path: JsonPath,
    why: &'static str,
}

fn json(report: &RestoreReport) -> serde_json::Result<Value> {
    let mut document = serde_json::to_value(report)?;
    document["problems"] = serde_json::to_value(problems::json(&report.problems))?;
    let paths_of = |names: &[Vec<u8>]| {
        serde_json::to_value(names.iter().map(|path| JsonPath::from(path.as_slice())).collect::<Vec<_>>())
    };
    for (key, names) in [("paths", &report.names), ("deleted_paths", &report.deleted_names)] {
        if !names.is_empty() {
            document[key] = paths_of(names)?;
        }
    }
    let left = report.left.iter().map(|left| JsonLeft { path: JsonPath::from(left.path.as_slice()), why: left.why });
    document["delete_left"] = report.left.len().into();
    if !report.left.is_empty() {
        document["left_paths"] = serde_json::to_value(left.collect::<Vec<_>>())?;
    }
    if !report.refused_names.is_empty() {
        let each = |name: &'_ RefusedName| JsonPath::from(name.path.as_slice());
        let names = report.refused_names.iter().map(|name| JsonRefused { path: each(name), refused: &name.kinds });
        document["refused_paths"] = serde_json::to_value(names.collect::<Vec<_>>())?;
    }
    Ok(document)
}

fn warn(session: &Session, report: &RestoreReport) {
    if report.nothing_fits {
        session.warn(&format!(
            "nothing was restored: nothing there in run {} fits --include; `raidtape ls -R` shows what there is",
            report.run
        ));
    }
    if report.read_elsewhere > 0 {
        session.warn(&format!(
            "{} came from another copy, or from parity: the first was away or damaged; `raidtape validate` says which, \
             `validate --repair` heals what is damaged",
            words::plural(report.read_elsewhere, "segment")
        ));
    }
    let refused = &report.refused;
    for (count, what, why) in [
        (refused.owner, "owner or group", "root may do more"),
        (refused.mode, "mode", "root may do more"),
        (refused.times, "time", "root may do more, or another file system"),
        (refused.attributes, "attributes or ACL", "root may do more, or another file system"),
        (refused.flags, "flags", "root may do more, or another file system"),
    ] {
        if count > 0 {
            session.warn(&format!("{what} of {} could not be set; {why}", words::plural(count, "name")));
        }
    }
    warn_refused(session, report);
    warn_left(session, report);
    if report.too_short > 0 {
        let names = words::plural(report.too_short, "name");
        session.warn(&format!("{names} had nothing left once components were taken off, and stayed out"));
    }
    let shown = if session.global.verbose { usize::MAX } else { SHOWN_MAX };
    for path in report.inconsistent.iter().take(shown) {
        session.warn(&format!("{path} changed while it was backed up: its parts may not fit together"));
    }
    let more = report.inconsistent.len().saturating_sub(shown);
    if more > 0 {
        session.warn(&format!("… and {} more; -v lists them all", words::count(more as u64)));
    }
}

/// What was not deleted although the run does not have it.
fn warn_left(session: &Session, report: &RestoreReport) {
    if report.delete_skipped {
        session.warn("nothing is deleted, because not everything can be restored; see to that and restore again");
    }
    let shown = if session.global.verbose { usize::MAX } else { SHOWN_MAX };
    for left in report.left.iter().take(shown) {
        let path = if left.path.is_empty() { ".".to_owned() } else { paths::words(&left.path) };
        session.warn(&format!("{path} is left: {}", left.why));
    }
    let more = report.left.len().saturating_sub(shown);
    if more > 0 {
        session.warn(&format!("… and {} more are left; -v lists them all", words::count(more as u64)));
    }
}

/// The names of which something was refused.
fn warn_refused(session: &Session, report: &RestoreReport) {
    if !report.strict && !session.global.verbose {
        return;
    }
    for RefusedName { path, kinds } in &report.refused_names {
        stderr_line(&format!("raidtape: {}: not set: {}", paths::words(path), kinds.join(", ")));
    }
    let more = report.metadata_refused.saturating_sub(report.refused_names.len() as u64);
    if more > 0 {
        stderr_line(&format!("raidtape: … and {} more; -v lists them all", words::count(more)));
    }
}

fn tally(report: &RestoreReport) -> String {
    let deed = if report.dry_run { "Would restore" } else { "Restored" };
    let mut text = format!("{deed} {} ({})", words::plural(report.files, "file"), words::size(report.bytes));
    for (number, noun) in [
        (report.dirs, "folder"),
        (report.symlinks, "symlink"),
        (report.hardlinks, "hard link"),
        (report.specials, "special file"),
    ] {
        if number > 0 {
            text.push_str(&format!(", {}", words::plural(number, noun)));
        }
    }
    text.push_str(&format!(" from run {} of {} to {}", report.run, one_line(&report.source), one_line(&report.dest)));
    if !report.dry_run {
        text.push_str(&format!(" in {}", words::duration(report.duration_s)));
    }
    if report.skipped_existing > 0 {
        text.push_str(&format!("; {} left as they were", words::plural(report.skipped_existing, "name")));
    }
    if report.metadata_set > 0 {
        text.push_str(&format!(", metadata alone set on {}", words::count(report.metadata_set)));
    }
    if report.deleted > 0 {
        let deed = if report.dry_run { "would be deleted" } else { "deleted" };
        text.push_str(&format!("; {} {deed}", words::plural(report.deleted, "name")));
    }
    text
}
