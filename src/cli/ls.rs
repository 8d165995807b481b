//! `ls`.

use super::output::Output;
use super::paths::{self, JsonPath};
use super::session::Session;
use super::{values, words};
use clap::Args;
use raidtape::engine::ls::{LsEntry, LsOptions, LsSort, ls};
use raidtape::engine::repository::Access;
use raidtape::engine::{EngineError, Exit};
use raidtape::format::sidecar::base64;
use raidtape::model::entry::EntryKind;
use raidtape::model::run_spec::RunSpec;
use serde::Serialize;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// List what a directory held as of a run
#[derive(Debug, Args)]
#[command(after_help = "\
PATH is relative to the source's root, or absolute below it; without it, the root.
RUN: is a number, `latest`, `latest~N` or `@DATE`; a path that begins so is `./7:name`.
-l shows mode, owner, group, size and last change, with -v also the time of birth.

Examples:
  raidtape ls
  raidtape ls -lR latest~1:photos/2026
  raidtape ls -lR --sort size photos | head
  raidtape ls /home/me/photos --json | jq -r .path")]
pub struct LsArgs {
    /// A directory or a file of the source, as of a run
    #[arg(value_name = "[RUN:]PATH")]
    path: Option<OsString>,
    /// As of this run: a number, `latest`, `latest~N` or `@DATE` [default: the newest of the source]
    #[arg(long)]
    run: Option<RunSpec>,
    /// Which source, where several fit: its name, or host:name
    #[arg(long)]
    source: Option<String>,
    /// Also kind, mode, owner, size and time of the last change
    #[arg(short)]
    long: bool,
    /// Also all below it
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Largest (`size`) or newest (`time`) first, or by `name`; with -R over all that is listed
    #[arg(long, value_name = "ORDER", value_parser = values::ls_sort(), hide_possible_values = true)]
    sort: Option<LsSort>,
    /// The other way round
    #[arg(short, long)]
    reverse: bool,
}

/// Lists it.
pub fn run(session: &mut Session, args: &LsArgs) -> anyhow::Result<Exit> {
    let repository = session.open(Access::Read)?;
    let given = args.path.as_ref().map(|path| path.as_bytes()).unwrap_or_default();
    let (run, path) = match RunSpec::before_path(given) {
        Some((run, path)) => (Some(run), path),
        None => (None, given),
    };
    if run.is_some() && args.run.is_some() {
        let sentence = "the run is named twice, before the path and by --run; a path that begins so is `./7:name`";
        return Err(EngineError::Usage(sentence.to_owned()).into());
    }
    let options = LsOptions {
        path: path.to_vec(),
        run: run.or_else(|| args.run.clone()),
        source: args.source.clone(),
        recursive: args.recursive,
        sort: args.sort,
        reverse: args.reverse,
    };
    let shown = Shown { long: args.long, birth: session.global.verbose };
    let out = &mut session.out;
    let report = ls(&repository, &options, &mut |entry| print(out, &entry, shown))?;
    if out.is_json {
        out.document("summary", &report);
    }
    Ok(Exit::Done)
}

#[derive(Serialize)]
struct Node<'a> {
    #[serde(flatten)]
    path: JsonPath,
    kind: &'a str,
    mode: u32,
    uid: u32,
    gid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    size: u64,
    mtime_ns: i64,
    btime_ns: Option<i64>,
    file_hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link_target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link_target_b64: Option<String>,
    inconsistent: bool,
    first_run: i64,
}

impl<'a> From<&'a LsEntry> for Node<'a> {
    fn from(entry: &'a LsEntry) -> Self {
        let target = entry.link_target.as_deref();
        Self {
            path: entry.path.as_slice().into(),
            kind: entry.kind.word(),
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            user: (!entry.user.is_empty()).then(|| String::from_utf8_lossy(&entry.user).into_owned()),
            group: (!entry.group.is_empty()).then(|| String::from_utf8_lossy(&entry.group).into_owned()),
            size: entry.size,
            mtime_ns: entry.mtime_ns,
            btime_ns: entry.btime_ns,
            file_hash: entry.file_hash.map(|hash| hash.to_string()),
            link_target: target.map(|target| String::from_utf8_lossy(target).into_owned()),
            link_target_b64: target.filter(|target| std::str::from_utf8(target).is_err()).map(base64),
            inconsistent: entry.inconsistent,
            first_run: entry.first_run.0,
        }
    }
}

/// What is shown beside the path.
#[derive(Debug, Clone, Copy)]
struct Shown {
    long: bool,
    birth: bool,
}

fn print(out: &mut Output, entry: &LsEntry, shown: Shown) {
    if out.is_json {
        return out.document("node", &Node::from(entry));
    }
    let mut name = paths::words(&entry.path);
    if entry.kind == EntryKind::Dir {
        name.push('/');
    }
    if !shown.long {
        return out.line(&name);
    }
    if let Some(target) = &entry.link_target {
        name.push_str(&format!(" -> {}", paths::words(target)));
    }
    let size = if entry.kind == EntryKind::File { words::size(entry.size) } else { "-".to_owned() };
    let mark = if entry.inconsistent { " (changed while it was read)" } else { "" };
    let who = |name: &[u8], number: u32| if name.is_empty() { number.to_string() } else { paths::words(name) };
    let born = entry.btime_ns.map_or_else(|| "-".to_owned(), words::minute);
    let born = if shown.birth { format!("{born:>16} ") } else { String::new() };
    out.line(&format!(
        "{} {:<8} {:<8} {size:>10} {} {born}{name}{mark}",
        mode_words(entry),
        who(&entry.user, entry.uid),
        who(&entry.group, entry.gid),
        words::minute(entry.mtime_ns),
    ));
}

/// As `ls -l` has it: `-rwxr-xr-x`.
fn mode_words(entry: &LsEntry) -> String {
    let kind = match entry.kind {
        EntryKind::File => '-',
        EntryKind::Dir => 'd',
        EntryKind::Symlink => 'l',
        EntryKind::Fifo => 'p',
        EntryKind::Socket => 's',
        EntryKind::CharDevice => 'c',
        EntryKind::BlockDevice => 'b',
    };
    let mut text = String::from(kind);
    // Each class: its three bits, and the special bit that shows in place of x.
    for (shift, special, sign) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = entry.mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & 1 != 0, entry.mode & special != 0) {
            (true, false) => 'x',
            (false, false) => '-',
            (true, true) => sign,
            (false, true) => sign.to_ascii_uppercase(),
        });
    }
    text
}
