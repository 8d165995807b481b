//! `profile run`: the steps one after the other, the hooks around them, and the exit code that comes of it.
//!
//! Who goes on after what, as a careful administrator would: after a run that was saved (0, 3, 6) the sidecars and the
//! check still make sense; when none was saved, a disk is full or a lock is taken, the next step would only hide the
//! first error behind its own. What the check finds stops nothing: the verdict of `status` comes after it.

use super::child::Children;
use super::file::{Hook, Profile, StepName};
use super::steps::Step;
use crate::cli::output::{stderr_for_child, stderr_line};
use crate::cli::session::Session;
use raidtape::engine::Exit;
use std::ffi::OsString;
use std::process::Command;

/// The first thing that went wrong.
#[derive(Debug, Clone)]
struct Failure {
    step: String,
    code: u8,
    error: String,
}

/// One run of one profile.
struct Running<'r> {
    session: &'r mut Session,
    children: Children,
    name: &'r str,
    failure: Option<Failure>,
}

#[derive(serde::Serialize)]
struct StepDone<'a> {
    profile: &'a str,
    step: &'a str,
    command: Vec<String>,
    exit_code: u8,
}

#[derive(serde::Serialize)]
struct Summary<'a> {
    profile: &'a str,
    steps_run: u64,
    exit_code: u8,
    failed_step: Option<&'a str>,
    error: Option<&'a str>,
}

/// Runs it; returns the exit code of the first step that failed, 1 when a hook did, else 0.
pub fn run(session: &mut Session, (name, profile): (&str, &Profile), steps: &[Step]) -> anyhow::Result<u8> {
    let mut running = Running { session, children: Children::new()?, name, failure: None };
    let hooks = &profile.hooks;
    let mut done = 0;
    if running.hook("run-before", &hooks.run_before, false) {
        for step in steps {
            done += 1;
            if !running.step(step) {
                break;
            }
        }
    }
    if running.failure.is_none() {
        running.hook("run-after", &hooks.run_after, false);
    }
    if running.failure.is_some() {
        running.hook("run-failed", &hooks.run_failed, true);
    }
    running.hook("run-finally", &hooks.run_finally, true);
    Ok(running.finish(done))
}

impl Running<'_> {
    /// Runs one step; whether the next one is to follow.
    fn step(&mut self, step: &Step) -> bool {
        self.session.out.say(&format!("[{}] {}", self.name, step.name));
        let mut command = command(&step.words);
        self.tell(&mut command, &step.name);
        let code = match self.children.run_step(command) {
            Ok(code) => code,
            Err(error) => {
                let program = step.words.first().map(|word| word.display().to_string()).unwrap_or_default();
                self.fail(&step.name, (Exit::Failed as u8, format!("{program} cannot be started: {error}")));
                return false;
            }
        };
        if self.session.out.is_json {
            let command = step.words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
            self.session
                .out
                .document("step", &StepDone { profile: self.name, step: &step.name, command, exit_code: code });
            self.session.out.flush();
        }
        if code != 0 {
            self.fail(
                &step.name,
                (own_code(step.kind, code), format!("exit code {code}: {}", meaning(step.kind, code))),
            );
        }
        self.children.caught().is_none() && goes_on(step.kind, code)
    }

    /// Runs a hook's commands up to the first that fails; whether none did.
    fn hook(&mut self, name: &str, hook: &Hook, is_always: bool) -> bool {
        for words in hook.commands() {
            let mut command = command(&words);
            self.tell(&mut command, name);
            // What it prints is no result of ours.
            command.stdout(stderr_for_child());
            let ran = if is_always { self.children.run_hook(command) } else { self.children.run_step(command) };
            let what = match ran {
                Ok(0) => continue,
                Ok(code) => format!("it ended with exit code {code}"),
                Err(error) => format!("{} cannot be started: {error}", words[0].display()),
            };
            let code = self.children.caught().unwrap_or(Exit::Failed as u8);
            self.fail(name, (code, what));
            return false;
        }
        true
    }

    /// What a child may know: of the first failure, where there is one.
    fn tell(&self, command: &mut Command, step: &str) {
        let failure = self.failure.as_ref();
        command.env("RAIDTAPE_PROFILE", self.name);
        command.env("RAIDTAPE_STEP", failure.map_or(step, |failure| &failure.step));
        command.env("RAIDTAPE_EXIT_CODE", failure.map_or(0, |failure| failure.code).to_string());
        command.env("RAIDTAPE_ERROR", failure.map_or("", |failure| &failure.error));
    }

    fn fail(&mut self, step: &str, (code, error): (u8, String)) {
        if !self.session.out.is_json {
            stderr_line(&format!("raidtape: profile {}: {step}: {error}", self.name));
        }
        self.failure.get_or_insert(Failure { step: step.to_owned(), code, error });
    }

    fn finish(self, steps_run: u64) -> u8 {
        let failure = self.failure.as_ref();
        let exit_code = failure.map_or(0, |failure| failure.code);
        if self.session.out.is_json {
            let (failed_step, error) = (failure.map(|f| f.step.as_str()), failure.map(|f| f.error.as_str()));
            let summary = Summary { profile: self.name, steps_run, exit_code, failed_step, error };
            self.session.out.document("profile_summary", &summary);
        } else if failure.is_none() {
            self.session.out.say(&format!("[{}] all done", self.name));
        }
        exit_code
    }
}

fn command(words: &[OsString]) -> Command {
    let mut command = Command::new(words.first().map_or("".as_ref(), OsString::as_os_str));
    command.args(words.iter().skip(1));
    command
}

/// Whether the next step makes sense after this code.
fn goes_on(kind: StepName, code: u8) -> bool {
    match kind {
        StepName::Backup | StepName::Genmeta => matches!(code, 0 | 3 | 4 | 6),
        StepName::Validate => matches!(code, 0 | 4 | 5),
        StepName::Status => true,
    }
}

/// The exit code of the profile for that of a step: `status` has codes of its own, which mean other things here.
fn own_code(kind: StepName, code: u8) -> u8 {
    match (kind, code) {
        (StepName::Status, 1 | 2) => Exit::Damage as u8,
        (StepName::Status, 3) => Exit::Failed as u8,
        _ => code,
    }
}

/// An exit code in words.
fn meaning(kind: StepName, code: u8) -> &'static str {
    match (kind, code) {
        (StepName::Status, 1..=3) => "`raidtape status` says what is to be looked at",
        (StepName::Backup, 1) => "failed, no run saved",
        (_, 2) => "the request makes no sense",
        (_, 3) => "run saved, but some source files could not be read",
        (_, 4) => "damage found",
        (_, 5) => "a volume is full or not here",
        (StepName::Backup, 6) => "run saved, but less protected than the redundancy wants",
        (_, 10) => "no such catalog",
        (_, 11) => "catalog or volume in use by another process",
        (_, 130 | 143) => "interrupted",
        _ => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_status_finds_has_a_code_that_means_nothing_else() {
        assert_eq!([1, 2, 3, 130].map(|code| own_code(StepName::Status, code)), [4, 4, 1, 130]);
        assert_eq!([1, 2, 3, 5].map(|code| own_code(StepName::Validate, code)), [1, 2, 3, 5]);
    }

    #[test]
    fn after_a_saved_run_the_steps_go_on_and_else_they_stop() {
        for code in [0, 3, 6] {
            assert!(goes_on(StepName::Backup, code));
        }
        for code in [1, 2, 5, 10, 11, 12, 130, 143] {
            assert!(!goes_on(StepName::Backup, code) && !goes_on(StepName::Genmeta, code), "{code}");
        }
        assert!(goes_on(StepName::Validate, 4) && goes_on(StepName::Validate, 5));
        assert!(!goes_on(StepName::Validate, 11) && !goes_on(StepName::Validate, 130));
    }
}
