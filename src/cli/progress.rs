//! Shows how far a verb is: a bar on a terminal, a plain line now and then elsewhere, nothing when asked for quiet.
//! The verb's threads only add to two counters; one thread of our own looks at them and draws.

use super::output::{json_line, stderr_line};
use super::rate::Rate;
use super::screen::Screen;
use super::signals;
use super::words;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use raidtape::engine::Observer;
use raidtape::engine::observer::{Expected, Phase};
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two looks at the counters.
const TICK: Duration = Duration::from_millis(125);
/// Between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// A phase shorter than this shows no bar: nothing flickers by.
const SHOW_AFTER: Duration = Duration::from_millis(400);
/// The same for a command that looks around: it is to say something within 200 ms.
const SHOW_SOON_AFTER: Duration = Duration::from_millis(120);

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Bar,
    Lines,
    Nothing,
}

/// What the user asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProgressOptions {
    /// Neither bar nor lines.
    pub is_off: bool,
    /// Warnings as JSON, and no plain lines between them.
    pub is_json: bool,
}

/// Watches a verb for the user.
pub struct Progress {
    shared: Arc<Shared>,
    drawer: Option<JoinHandle<()>>,
}

struct Shared {
    form: Form,
    is_json: bool,
    show_after: Duration,
    items: AtomicU64,
    bytes: AtomicU64,
    stage: Mutex<Stage>,
    wake: Condvar,
    bar: ProgressBar,
}

struct Stage {
    phase: Option<Phase>,
    expected: Expected,
    began: Instant,
    rate: Rate,
    last_line: Instant,
    is_over: bool,
}

impl Progress {
    /// Takes over SIGINT and SIGTERM and starts to watch.
    pub fn start(options: ProgressOptions) -> Self {
        if let Err(error) = signals::install() {
            stderr_line(&format!("raidtape: warning: an interrupt will end this at once: {error}"));
        }
        let form = match options {
            ProgressOptions { is_off: true, .. } => Form::Nothing,
            _ if std::io::stderr().is_terminal() => Form::Bar,
            ProgressOptions { is_json: true, .. } => Form::Nothing,
            _ => Form::Lines,
        };
        Self::watch(form, options.is_json, SHOW_AFTER)
    }

    /// Watches a command that looks around: shows a bar soon, on a terminal alone, and signals end it as they end any
    /// program.
    pub fn start_looking(options: ProgressOptions) -> Self {
        let is_shown = !options.is_off && std::io::stderr().is_terminal();
        Self::watch(if is_shown { Form::Bar } else { Form::Nothing }, options.is_json, SHOW_SOON_AFTER)
    }

    fn watch(form: Form, is_json: bool, show_after: Duration) -> Self {
        let now = Instant::now();
        let stage = Stage {
            phase: None,
            expected: Expected::default(),
            began: now,
            rate: Rate::new(now),
            last_line: now,
            is_over: false,
        };
        let shared = Arc::new(Shared {
            form,
            is_json,
            show_after,
            items: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            stage: Mutex::new(stage),
            wake: Condvar::new(),
            bar: ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()),
        });
        let drawer = (form != Form::Nothing).then(|| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name("progress".into()).spawn(move || draw_until_over(&shared)).ok()
        });
        Self { shared, drawer: drawer.flatten() }
    }

    /// Takes the bar away, so that results can be printed.
    pub fn finish(self) {
        drop(self);
    }

    /// Takes the bar away for good: the first result is to be printed.
    pub fn end_drawing(&self) {
        let mut stage = self.shared.stage();
        if !stage.is_over {
            stage.is_over = true;
            self.shared.bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.shared.stage().is_over = true;
        self.shared.wake.notify_all();
        if let Some(drawer) = self.drawer.take() {
            let _ = drawer.join();
        }
        self.shared.bar.finish_and_clear();
    }
}

impl Observer for Progress {
    fn begin(&self, phase: Phase, expected: Expected) {
        let mut stage = self.shared.stage();
        let now = Instant::now();
        self.shared.items.store(0, Ordering::Relaxed);
        self.shared.bytes.store(0, Ordering::Relaxed);
        let is_over = stage.is_over;
        *stage = Stage { phase: Some(phase), expected, began: now, rate: Rate::new(now), last_line: now, is_over };
    }

    fn advance(&self, items: u64, bytes: u64) {
        self.shared.items.fetch_add(items, Ordering::Relaxed);
        self.shared.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn warn(&self, text: &str) {
        self.shared.bar.suspend(|| warn(self.shared.is_json, text));
    }

    fn is_cancelled(&self) -> bool {
        signals::is_caught()
    }
}

/// A warning on stderr, in the form that the user asked for.
pub fn warn(is_json: bool, text: &str) {
    #[derive(serde::Serialize)]
    struct Warning<'a> {
        warning: &'a str,
    }
    let line = match json_line("warning", &Warning { warning: text }) {
        Ok(line) if is_json => line,
        _ => format!("raidtape: warning: {}", super::output::one_line(text)),
    };
    stderr_line(&line);
}

impl Shared {
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn draw_until_over(shared: &Shared) {
    let mut stage = shared.stage();
    while !stage.is_over {
        stage =
            shared.wake.wait_timeout(stage, TICK.min(shared.show_after / 4)).unwrap_or_else(PoisonError::into_inner).0;
        if stage.is_over {
            return;
        }
        let Some(phase) = stage.phase else { continue };
        let now = Instant::now();
        let done = Done { items: shared.items.load(Ordering::Relaxed), bytes: shared.bytes.load(Ordering::Relaxed) };
        let progress = done.progress(stage.expected);
        stage.rate.note(now, progress);
        if now - stage.began < shared.show_after {
            continue;
        }
        if shared.form == Form::Bar {
            draw_bar(&shared.bar, (phase, &stage), done);
        } else if now - stage.last_line >= LINE_EVERY {
            stage.last_line = now;
            stderr_line(&format!("raidtape: {}: {}", title(phase), facts(phase, &stage, done).join(", ")));
        }
    }
}

/// What was counted.
#[derive(Debug, Clone, Copy)]
struct Done {
    items: u64,
    bytes: u64,
}

impl Done {
    /// What the rate and the bar go by: bytes, or items where no bytes are expected.
    fn progress(self, expected: Expected) -> u64 {
        if counts_items(expected) { self.items } else { self.bytes }
    }
}

fn counts_items(expected: Expected) -> bool {
    expected.bytes.is_none_or(|bytes| bytes == 0) && expected.items.is_some()
}

fn draw_bar(bar: &ProgressBar, (phase, stage): (Phase, &Stage), done: Done) {
    let total = if counts_items(stage.expected) { stage.expected.items } else { stage.expected.bytes };
    let template = if total.is_some() { "{prefix} {wide_bar} {msg}" } else { "{prefix} {spinner} {wide_msg}" };
    if bar.is_hidden() {
        bar.set_draw_target(ProgressDrawTarget::term_like_with_hz(Box::new(Screen), 10));
    }
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    let position = done.progress(stage.expected);
    if let Some(total) = total {
        bar.set_length(total.max(position));
    }
    bar.set_prefix(title(phase));
    bar.set_message(facts(phase, stage, done).join("  "));
    bar.set_position(position);
    bar.tick();
}

fn title(phase: Phase) -> &'static str {
    match phase {
        _ if signals::is_caught() => "Stopping",
        Phase::Backup => "Backing up",
        Phase::Finish => "Finishing",
        Phase::Restore => "Restoring",
        Phase::Validate => "Validating",
        Phase::Rebuild => "Rebuilding",
        Phase::Genmeta => "Sidecars",
        Phase::Protect => "Copying",
        Phase::Search => "Searching",
        Phase::Report => "Gathering",
    }
}

/// Bytes, items, rate and time left, as far as known.
fn facts(phase: Phase, stage: &Stage, done: Done) -> Vec<String> {
    let noun = match phase {
        Phase::Backup | Phase::Restore => "file",
        Phase::Validate | Phase::Genmeta | Phase::Protect => "block",
        Phase::Finish | Phase::Rebuild => "manifest",
        Phase::Search => "place",
        Phase::Report => "part",
    };
    let mut facts = Vec::with_capacity(4);
    if done.bytes > 0 || !counts_items(stage.expected) {
        facts.push(match stage.expected.bytes {
            Some(total) if total > 0 => format!("{}/{}", words::size(done.bytes), words::size(total.max(done.bytes))),
            _ => words::size(done.bytes),
        });
    }
    facts.push(match stage.expected.items {
        Some(total) if counts_items(stage.expected) => {
            format!("{}/{}", words::count(done.items), words::plural(total.max(done.items), noun))
        }
        _ => words::plural(done.items, noun),
    });
    let per_second = stage.rate.per_second();
    if !counts_items(stage.expected) {
        facts.push(format!("{}/s", words::size(per_second)));
    }
    let total = if counts_items(stage.expected) { stage.expected.items } else { stage.expected.bytes };
    let left = total.map(|total| total.saturating_sub(done.progress(stage.expected)));
    if let Some(left) = left.filter(|_| per_second > 0) {
        facts.push(format!("ETA {}", words::clock(left / per_second)));
    }
    facts
}
