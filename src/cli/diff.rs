//! `diff`.

use super::output::Output;
use super::paths::{self, JsonPath};
use super::session::Session;
use super::{problems, words};
use clap::Args;
use raidtape::engine::diff::{DiffDirOptions, DiffKind, DiffOptions, DiffReport, diff, diff_dir};
use raidtape::engine::repository::Access;
use raidtape::engine::{EngineError, Exit};
use raidtape::model::run_spec::RunSpec;
use serde::Serialize;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Compare two runs, or a run with a directory
#[derive(Debug, Args)]
#[command(after_help = "\
Each line is a letter and a path: + is there, - is not there any more, M another content,
U other metadata, T another kind of file. A RUN is a number, `latest`, `latest~N` or
`@DATE`; what is none is a directory, as is `./7`.

The top itself is `./`. The last line counts, and says how many bytes of files are new and
how many gone: of one with another content, all it has now and all it had.

A DIR that is the root of one source means that source, unless PATH or --source say another.
It is compared by kind, size, time, mode and owner, with what PATH holds in the run. Files
of equal size are read where their time is another, with --content always. Paths are then
relative to it. Extended attributes are not compared.

Examples:
  raidtape diff latest~1 latest
  raidtape diff 3 7 photos/2026
  raidtape diff latest /home/me
  raidtape diff 7 /tmp/photos photos --content")]
pub struct DiffArgs {
    /// The run before
    #[arg(value_name = "RUN")]
    from: RunSpec,
    /// The run after, or a directory
    #[arg(value_name = "RUN|DIR")]
    to: OsString,
    /// Only what lies there in the source
    path: Option<OsString>,
    /// Which source, where neither the runs nor PATH tell: its name, or host:name
    #[arg(long)]
    source: Option<String>,
    /// The runs may be of two sources: paths inside them are compared
    #[arg(long)]
    across: bool,
    /// Read every file of the directory that has the size which it had
    #[arg(long)]
    content: bool,
}

/// Compares them.
pub fn run(session: &mut Session, args: &DiffArgs) -> anyhow::Result<Exit> {
    let repository = session.open(Access::Read)?;
    let path = args.path.as_ref().map(|path| path.as_bytes().to_vec()).unwrap_or_default();
    let (run, source) = (args.from.clone(), args.source.clone());
    let out = &mut session.out;
    let mut each = |kind: DiffKind, path: &[u8], is_dir: bool| print(out, (kind, path, is_dir));
    let report = match args.to.to_str().and_then(|to| to.parse().ok()) {
        Some(_) if args.content => {
            let sentence = "--content is for directories: the content of runs is compared by its hash anyway";
            return Err(EngineError::Usage(sentence.to_owned()).into());
        }
        Some(to) => diff(&repository, &DiffOptions { from: run, to, path, source, across: args.across }, &mut each)?,
        None => {
            let dir = PathBuf::from(&args.to);
            check_dir(&dir)?;
            diff_dir(&repository, &DiffDirOptions { run, dir, path, source, content: args.content }, &mut each)?
        }
    };
    if out.is_json {
        #[derive(Serialize)]
        struct Summary<'a> {
            #[serde(flatten)]
            report: &'a DiffReport,
            problems: Vec<problems::JsonProblem<'a>>,
        }
        out.document("summary", &Summary { report: &report, problems: problems::json(&report.problems) });
    } else {
        say(out, &report);
        problems::print(&report.problems, session.global.verbose);
    }
    Ok(if report.problems.is_empty() { Exit::Done } else { Exit::SomeUnread })
}

/// What is no run is to be a directory; of one that cannot be looked at the walk tells more.
fn check_dir(dir: &Path) -> Result<(), EngineError> {
    let is_none = match std::fs::metadata(dir) {
        Ok(found) => !found.is_dir(),
        Err(error) => matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
    };
    if !is_none {
        return Ok(());
    }
    let named = "a run is a number, `latest`, `latest~N` or `@DATE`";
    Err(EngineError::Usage(format!("{} is neither a run nor a directory; {named}", dir.display())))
}

fn print(out: &mut Output, (kind, path, is_dir): (DiffKind, &[u8], bool)) {
    #[derive(Serialize)]
    struct Change {
        modifier: char,
        #[serde(flatten)]
        path: JsonPath,
    }
    if out.is_json {
        return out.document("change", &Change { modifier: kind.letter(), path: path.into() });
    }
    // The root is `./`.
    out.line_now(&format!("{} {}{}", kind.letter(), paths::words(path), if is_dir { "/" } else { "" }));
}

fn say(out: &mut Output, report: &DiffReport) {
    let count = words::count;
    out.say(&format!(
        "added {}, removed {}, content {}, metadata {}, kind {}; {} new, {} gone",
        count(report.added),
        count(report.removed),
        count(report.content),
        count(report.metadata),
        count(report.kind),
        words::size(report.bytes_added),
        words::size(report.bytes_removed)
    ));
}
