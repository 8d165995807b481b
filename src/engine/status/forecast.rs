//! When the volumes will be full, if they go on filling as they did: a straight line through what the last runs stored.

use crate::catalog::runs::Run;

const DAY_NS: f64 = 86_400e9;
/// Runs of the last thirty days are looked at, or the last ten, whichever are more.
const WINDOW_DAYS: f64 = 30.0;
const RUNS_MIN: usize = 10;
/// Less says nothing about a trend.
const POINTS_MIN: usize = 3;
const SPAN_DAYS_MIN: f64 = 1.0;

/// How fast the volumes fill.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Forecast {
    /// Runs that it rests on.
    pub runs: u64,
    /// Days that these span.
    pub days: f64,
    /// Bytes stored in a day.
    pub bytes_per_day: f64,
    /// Bytes that all active volumes here can take together above their reserves.
    pub room: u64,
    /// Days until these are full; `None` when nothing grows.
    pub days_left: Option<f64>,
}

/// Fits a line (least squares) to the sum of what `complete` runs stored, by time. The first run of a source is a
/// beginning and not a growth: it is left out. `None` without three runs that span a day.
pub fn forecast(complete: &[Run], room: u64) -> Option<Forecast> {
    let mut later: Vec<&Run> = complete.iter().filter(|run| run.prev.is_some()).collect();
    later.sort_by_key(|run| run.started_ns);
    let newest_ns = later.last()?.started_ns;
    let in_window = later.iter().filter(|run| days_between(run.started_ns, newest_ns) <= WINDOW_DAYS).count();
    let taken = &later[later.len() - in_window.max(RUNS_MIN.min(later.len()))..];
    let first_ns = taken.first()?.started_ns;
    let mut sum = 0_u64;
    let points: Vec<(f64, f64)> = taken
        .iter()
        .map(|run| {
            sum = sum.saturating_add(run.counts.bytes_stored);
            (days_between(first_ns, run.started_ns), float(sum))
        })
        .collect();
    let days = points.last()?.0;
    if points.len() < POINTS_MIN || days < SPAN_DAYS_MIN {
        return None;
    }
    let bytes_per_day = slope(&points);
    let days_left = (bytes_per_day >= 1.0).then(|| float(room) / bytes_per_day);
    Some(Forecast { runs: points.len() as u64, days, bytes_per_day, room, days_left })
}

#[expect(clippy::cast_precision_loss, reason = "a forecast is no exact number")]
fn float(bytes: u64) -> f64 {
    bytes as f64
}

#[expect(clippy::cast_precision_loss, reason = "days are told with one digit")]
fn days_between(from_ns: i64, to_ns: i64) -> f64 {
    to_ns.saturating_sub(from_ns) as f64 / DAY_NS
}

fn slope(points: &[(f64, f64)]) -> f64 {
    let count = float(points.len() as u64);
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
    let covariance: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let variance: f64 = points.iter().map(|(x, _)| (x - mean_x) * (x - mean_x)).sum();
    if variance > 0.0 { covariance / variance } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::runs::RunState;
    use crate::format::manifest::RunCounts;
    use crate::model::ids::{RunSeq, RunUuid, SourceId};
    use crate::model::run_marks::RunMarks;

    fn run(day: i64, bytes_stored: u64, prev: Option<i64>) -> Run {
        Run {
            seq: RunSeq(day + 1),
            uuid: RunUuid([0; 16]),
            source: SourceId(1),
            state: RunState::Complete,
            prev: prev.map(RunSeq),
            started_ns: day * 86_400_000_000_000,
            ended_ns: None,
            digest: None,
            manifest: None,
            counts: RunCounts { bytes_stored, ..RunCounts::default() },
            marks: RunMarks::default(),
        }
    }

    #[test]
    fn what_grows_evenly_is_full_when_the_room_is_used_up() {
        let mut runs = vec![run(0, 1 << 40, None)];
        runs.extend((1..=40).map(|day| run(day, 100, Some(day))));
        let found = forecast(&runs, 1000).unwrap();
        assert_eq!((found.runs, found.days.round()), (31, 30.0));
        assert!((found.bytes_per_day - 100.0).abs() < 1e-6 && (found.days_left.unwrap() - 10.0).abs() < 1e-6);
    }

    #[test]
    fn rare_runs_count_all_the_same_and_few_say_nothing() {
        let weekly: Vec<Run> = (0..12).map(|week| run(week * 7, 700, Some(1))).collect();
        let found = forecast(&weekly, 0).unwrap();
        assert_eq!((found.runs, found.bytes_per_day.round(), found.days_left), (10, 100.0, Some(0.0)));
        assert_eq!(forecast(&weekly[..2], 1), None);
        assert_eq!(forecast(&[], 1), None);
        let idle: Vec<Run> = (0..5).map(|day| run(day, 0, Some(1))).collect();
        assert_eq!(forecast(&idle, 1).unwrap().days_left, None);
        let at_once: Vec<Run> = (0..5).map(|_| run(3, 9, Some(1))).collect();
        assert_eq!(forecast(&at_once, 1), None);
    }
}
