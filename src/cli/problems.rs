//! Files that were not read or not written as they should be: the first of them as words, all of them as JSON.

use super::output::stderr_line;
use super::paths::{self, JsonPath};
use super::words;
use raidtape::model::problem::{Problem, ProblemOp};
use serde::Serialize;

/// So many are shown unless asked for all.
const SHOWN_MAX: usize = 20;

/// A problem for JSON.
#[derive(Debug, Serialize)]
pub struct JsonProblem<'a> {
    #[serde(flatten)]
    path: JsonPath,
    op: ProblemOp,
    errno: Option<i32>,
    error: &'a str,
}

/// All problems for JSON.
pub fn json(problems: &[Problem]) -> Vec<JsonProblem<'_>> {
    let each = |problem: &'_ Problem| -> JsonPath { problem.path.as_slice().into() };
    problems
        .iter()
        .map(|problem| JsonProblem { path: each(problem), op: problem.op, errno: problem.errno, error: &problem.text })
        .collect()
}

/// Prints them on stderr, the first ones or all.
pub fn print(problems: &[Problem], is_all: bool) {
    let shown = if is_all { problems.len() } else { SHOWN_MAX.min(problems.len()) };
    for problem in &problems[..shown] {
        stderr_line(&format!("raidtape: {}: {}", paths::words(&problem.path), super::output::one_line(&problem.text)));
    }
    let more = problems.len() - shown;
    if more > 0 {
        stderr_line(&format!("raidtape: … and {} more; -v lists them all", words::count(more as u64)));
    }
}
