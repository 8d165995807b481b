//! `find`.

use super::output::{Output, one_line};
use super::paths::{self, JsonPath};
use super::session::Session;
use super::{values, words};
use clap::Args;
use raidtape::engine::Exit;
use raidtape::engine::find::{FindOptions, Found, Holder, SizeTest, find};
use raidtape::engine::repository::Access;
use raidtape::model::entry::EntryKind;
use raidtape::model::hex_prefix::HexPrefix;
use raidtape::model::ids::RunSeq;
use raidtape::model::moment::Moment;
use raidtape::model::run_spec::RunSpec;
use serde::Serialize;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// Find files in all runs, by name or by what holds their bytes
#[derive(Debug, Args)]
#[command(after_help = "\
PATTERN is for the name, like '*.jpg'; with a slash in it, for the whole path inside the
source, where `**` stands for any directories. Every version is listed: the runs that saw
it (`3-5`, `7-` while it is there), size, last change, path. Several tests must all hold.

Examples:
  raidtape find -i '*.jpg' --size +10M
  raidtape find 'photos/**/IMG_*' --newer 2026-06-01 --older 2026-07-01
  raidtape find letter.txt --run latest~1 --source /home/me
  raidtape find --hash 3b5d0ff6
  raidtape find --block 0e9c5b24          (what needs this block)")]
#[command(override_usage = "raidtape find [OPTIONS] [PATTERN]")]
#[command(group = clap::ArgGroup::new("what").multiple(true).required(true))]
pub struct FindArgs {
    /// A glob for names; `*`, `?`, `[a-z]`, `**`
    #[arg(group = "what")]
    pattern: Option<OsString>,
    /// Letters of either case are the same
    #[arg(short, long, requires = "pattern")]
    ignore_case: bool,
    /// Files larger than `+SIZE`, smaller than `-SIZE`, or of SIZE, like +1G, -10k
    #[arg(long, group = "what", value_name = "±SIZE", allow_hyphen_values = true, value_parser = values::size_test)]
    size: Option<SizeTest>,
    /// Last changed then or later: `2026-09-01`, `2026-09-01 12:30`
    #[arg(long, group = "what", value_name = "DATE", value_parser = values::moment)]
    newer: Option<Moment>,
    /// Last changed before
    #[arg(long, group = "what", value_name = "DATE", value_parser = values::moment)]
    older: Option<Moment>,
    /// `f` files, `d` directories, `l` symlinks
    #[arg(long = "type", group = "what", value_name = "KIND", value_parser = values::kind)]
    kind: Option<EntryKind>,
    /// Files with this hash, or its first 8 digits or more
    #[arg(long, group = "what", group = "holder", value_name = "HEX")]
    hash: Option<HexPrefix>,
    /// Files with bytes in this chunk
    #[arg(long, group = "what", group = "holder", value_name = "ID")]
    chunk: Option<HexPrefix>,
    /// Files with bytes in this block, the name of a file under `chunks/`
    #[arg(long, group = "what", group = "holder", value_name = "ID")]
    block: Option<HexPrefix>,
    /// Files with bytes on this volume, by name or UUID
    #[arg(long, group = "what", group = "holder", value_name = "NAME")]
    on_volume: Option<String>,
    /// Only in this source: its name, or host:name
    #[arg(long)]
    source: Option<String>,
    /// As of this run: a number, `latest`, `latest~N` or `@DATE` [default: all runs]
    #[arg(long)]
    run: Option<RunSpec>,
}

/// Finds them.
pub fn run(session: &mut Session, args: &FindArgs) -> anyhow::Result<Exit> {
    let repository = session.open(Access::Read)?;
    let has_hash = session.out.is_json || session.global.verbose;
    let options = FindOptions {
        pattern: args.pattern.as_ref().map(|pattern| pattern.as_bytes().to_vec()),
        ignore_case: args.ignore_case,
        size: args.size,
        newer: args.newer,
        older: args.older,
        kind: args.kind,
        holder: holder(args),
        source: args.source.clone(),
        run: args.run.clone(),
        with_hashes: has_hash,
    };
    let has_sources = args.source.is_none()
        && raidtape::catalog::runs::sources(repository.catalog.conn()).is_ok_and(|sources| sources.len() > 1);
    let progress = session.progress_while_looking();
    let out = &mut session.out;
    let report = find(&repository, &options, &progress, &mut |found| {
        progress.end_drawing();
        print(out, &found, (has_sources, has_hash))
    })?;
    progress.finish();
    if out.is_json {
        out.document("summary", &report);
    }
    Ok(Exit::Done)
}

fn holder(args: &FindArgs) -> Option<Holder> {
    let hash = args.hash.map(Holder::Hash).or_else(|| args.chunk.map(Holder::Chunk));
    hash.or_else(|| args.block.map(Holder::Block)).or_else(|| args.on_volume.clone().map(Holder::Volume))
}

#[derive(Serialize)]
struct Version<'a> {
    #[serde(flatten)]
    path: JsonPath,
    source: &'a str,
    first_run: RunSeq,
    last_run: Option<RunSeq>,
    kind: &'a str,
    size: u64,
    mtime_ns: i64,
    mode: u32,
    file_hash: Option<String>,
    inconsistent: bool,
}

/// Prints one version; whether anybody still reads.
fn print(out: &mut Output, found: &Found, (has_source, has_hash): (bool, bool)) -> bool {
    let version = &found.version;
    let hash = found.file_hash.map(|hash| hash.to_string());
    if out.is_json {
        out.document(
            "version",
            &Version {
                path: found.path.as_slice().into(),
                source: &found.source,
                first_run: found.first_run,
                last_run: found.last_run,
                kind: version.kind.word(),
                size: version.size,
                mtime_ns: version.mtime_ns,
                mode: version.mode,
                file_hash: hash,
                inconsistent: version.inconsistent,
            },
        );
        return !out.is_closed();
    }
    let size = if version.kind == EntryKind::File { words::size(version.size) } else { "-".to_owned() };
    let mut path = paths::words(&found.path);
    if version.kind == EntryKind::Dir {
        path.push('/');
    }
    let hash = if has_hash { format!("{} ", hash.unwrap_or_else(|| "-".repeat(64))) } else { String::new() };
    let source = found.source.split_once(':').map_or(found.source.as_str(), |(_, name)| name);
    let source = if has_source { format!("{}: ", one_line(source)) } else { String::new() };
    let (runs, changed) = (words::run_range(found.first_run, found.last_run), words::minute(version.mtime_ns));
    out.line_now(&format!("{runs:<9} {size:>10} {changed} {hash}{source}{path}"));
    !out.is_closed()
}
