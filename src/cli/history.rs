//! `history`.

use super::paths::{self, JsonPath};
use super::session::Session;
use super::table::{self, Align};
use super::words;
use clap::Args;
use raidtape::engine::Exit;
use raidtape::engine::history::{Aspect, HistoryOptions, HistoryReport, HistoryVersion, history};
use raidtape::engine::repository::Access;
use raidtape::model::entry::EntryKind;
use raidtape::model::ids::RunSeq;
use raidtape::model::version::{EndReason, Object, Owner};
use serde::Serialize;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// Digits of a hash that `-v` shows: enough for `find --hash`, and for a line.
const HASH_DIGITS: usize = 16;

/// List every version that one path had
#[derive(Debug, Args)]
#[command(after_help = "\
PATH is relative to the source's root, or absolute below it; it need not be there any
more. RUNS are those that saw a version: `3-5`, and `7-` for the one that is there now.

Examples:
  raidtape history letters/to-anna.odt
  raidtape history /home/me/letters/to-anna.odt -v      (the hash's first 16 digits)
  raidtape dump letters/to-anna.odt --run 3 > old.odt")]
pub struct HistoryArgs {
    /// Path inside the source, or absolute below its root
    path: OsString,
    /// Which source, where several fit: its name, or host:name
    #[arg(long)]
    source: Option<String>,
}

/// Lists them.
pub fn run(session: &mut Session, args: &HistoryArgs) -> anyhow::Result<Exit> {
    let repository = session.open(Access::Read)?;
    let options = HistoryOptions { path: args.path.as_bytes().to_vec(), source: args.source.clone() };
    let report = history(&repository, &options)?;
    if session.out.is_json {
        session.out.document("history", &Document::from(&report));
        return Ok(Exit::Done);
    }
    let has_hash = session.global.verbose;
    let mut header = vec![("RUNS", Align::Left), ("SEEN", Align::Left), ("SIZE", Align::Right)];
    header.push(("LAST CHANGE", Align::Left));
    if has_hash {
        header.push(("HASH", Align::Left));
    }
    header.push(("WHAT", Align::Flow));
    let mut rows = Vec::new();
    for version in &report.versions {
        rows.push(row(version, has_hash));
        rows.extend(gap(version, header.len()));
    }
    table::print(&mut session.out, &header, rows);
    Ok(Exit::Done)
}

fn row(version: &HistoryVersion, has_hash: bool) -> Vec<String> {
    let size = if version.version.kind == EntryKind::File { words::size(version.version.size) } else { "-".to_owned() };
    let seen = version.first_seen_ns.map_or_else(|| "?".to_owned(), words::minute);
    let mut cells = vec![words::run_range(version.first_run, version.last_run), seen, size];
    cells.push(words::minute(version.version.mtime_ns));
    if has_hash {
        let shown = |hash: String| hash.chars().take(HASH_DIGITS).collect();
        cells.push(version.file_hash().map_or_else(|| "-".to_owned(), |hash| shown(hash.to_string())));
    }
    cells.push(what(version));
    cells
}

/// The line about the time in which the path was not there.
fn gap(version: &HistoryVersion, columns: usize) -> Option<Vec<String>> {
    let why = match version.ended? {
        EndReason::Modified => return None,
        EndReason::Deleted => "deleted",
        EndReason::Excluded => "no longer selected",
    };
    let mut cells = vec![String::new(); columns];
    cells[0] = version.gone_in_run.map_or_else(|| "?".to_owned(), |run| run.to_string());
    cells[columns - 1] = why.to_owned();
    Some(cells)
}

fn what(version: &HistoryVersion) -> String {
    let now = &version.version;
    let from_to =
        |before: String, now: String| if before == now { String::new() } else { format!(" {before} -> {now}") };
    let words = version.changed.iter().map(|aspect| match (aspect, &version.before) {
        (Aspect::Added, _) => format!("{} {:04o} {}", now.kind.word(), now.mode, owner(&now.owner)),
        (Aspect::Kind, _) => format!("now {} {:04o} {}", now.kind.word(), now.mode, owner(&now.owner)),
        (Aspect::Content, _) => "content".to_owned(),
        (Aspect::Target, _) => "target".to_owned(),
        (Aspect::Device, _) => "device".to_owned(),
        (Aspect::Time, _) => "time".to_owned(),
        (Aspect::Attributes, _) => "attributes".to_owned(),
        (Aspect::HardLinks, _) => "hard links".to_owned(),
        (Aspect::Mode, before) => {
            let before = before.as_ref().map_or(now.mode, |(mode, _)| *mode);
            format!("mode{}", from_to(format!("{before:04o}"), format!("{:04o}", now.mode)))
        }
        (Aspect::Owner, before) => {
            let before = before.as_ref().map_or(&now.owner, |(_, owner)| owner);
            format!("owner{}", from_to(owner(before), owner(&now.owner)))
        }
    });
    let mut text = words.collect::<Vec<_>>().join(", ");
    if let Object::Target(target) = &now.object {
        text.push_str(&format!(" -> {}", paths::words(target)));
    }
    if now.inconsistent {
        text.push_str(" (changed while it was read)");
    }
    text
}

fn owner(owner: &Owner) -> String {
    let word = |name: &[u8], id: u32| if name.is_empty() { id.to_string() } else { paths::words(name) };
    format!("{}:{}", word(&owner.user, owner.uid), word(&owner.group, owner.gid))
}

#[derive(Serialize)]
struct Document<'a> {
    source: &'a str,
    #[serde(flatten)]
    path: JsonPath,
    versions: Vec<JsonVersion<'a>>,
}

#[derive(Serialize)]
struct JsonVersion<'a> {
    first_run: RunSeq,
    last_run: Option<RunSeq>,
    first_seen_ns: Option<i64>,
    ended: Option<EndReason>,
    gone_in_run: Option<RunSeq>,
    kind: &'a str,
    size: u64,
    mtime_ns: i64,
    btime_ns: Option<i64>,
    mode: u32,
    uid: u32,
    gid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    file_hash: Option<String>,
    inconsistent: bool,
    changed: &'a [Aspect],
}

impl<'a> From<&'a HistoryReport> for Document<'a> {
    fn from(report: &'a HistoryReport) -> Self {
        let versions = report.versions.iter().map(JsonVersion::from).collect();
        Self { source: &report.source, path: report.path.as_slice().into(), versions }
    }
}

impl<'a> From<&'a HistoryVersion> for JsonVersion<'a> {
    fn from(found: &'a HistoryVersion) -> Self {
        let version = &found.version;
        let name = |name: &[u8]| (!name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned());
        Self {
            first_run: found.first_run,
            last_run: found.last_run,
            first_seen_ns: found.first_seen_ns,
            ended: found.ended,
            gone_in_run: found.gone_in_run,
            kind: version.kind.word(),
            size: version.size,
            mtime_ns: version.mtime_ns,
            btime_ns: version.btime_ns,
            mode: version.mode,
            uid: version.owner.uid,
            gid: version.owner.gid,
            user: name(&version.owner.user),
            group: name(&version.owner.group),
            file_hash: found.file_hash().map(|hash| hash.to_string()),
            inconsistent: version.inconsistent,
            changed: &found.changed,
        }
    }
}
