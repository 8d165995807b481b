//! `volumes --lost`: what would be gone without some volumes, a file version a line, as they are found.

use super::output::{Output, one_line};
use super::paths::{self, JsonPath};
use super::session::Session;
use super::words;
use raidtape::engine::volumes::{LossReport, LostVersion, lost_without};
use raidtape::engine::{Exit, Repository};
use serde::Serialize;

/// Lists them.
pub fn run(session: &mut Session, repository: &Repository, names: &[String]) -> anyhow::Result<Exit> {
    let out = &mut session.out;
    let report = lost_without(repository, names, &mut |version| print(out, version))?;
    if out.is_json {
        out.document("summary", &report);
    } else {
        out.say(&sentence(&report));
    }
    Ok(Exit::Done)
}

fn print(out: &mut Output, version: &LostVersion) {
    #[derive(Serialize)]
    struct Line<'a> {
        source: &'a str,
        #[serde(flatten)]
        path: JsonPath,
        size: u64,
        first_run: i64,
        last_run: Option<i64>,
    }
    if out.is_json {
        return out.document(
            "lost",
            &Line {
                source: &version.source,
                path: version.path.as_slice().into(),
                size: version.size,
                first_run: version.first_run.0,
                last_run: version.last_run.map(|run| run.0),
            },
        );
    }
    let runs = match version.last_run {
        None => format!("{}-", version.first_run),
        Some(last) if last == version.first_run => last.to_string(),
        Some(last) => format!("{}-{last}", version.first_run),
    };
    out.line(&format!("{}  {}  {}", one_line(&version.source), runs, paths::words(&version.path)));
}

fn sentence(report: &LossReport) -> String {
    let names: Vec<String> = report.volumes.iter().map(|name| one_line(name)).collect();
    format!(
        "Without {}: {} gone, {} of them in the newest runs ({})",
        names.join(", "),
        words::plural(report.file_versions, "file version"),
        words::count(report.in_newest_runs),
        words::size(report.newest_bytes)
    )
}
