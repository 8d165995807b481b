//! Running the steps and hooks of a profile: as processes of their own, one at a time.
//!
//! Each is a process and no call inside this one, so that it behaves as if it were typed: its exit code, its memory
//! limit, its locks and what a signal does to it are those of the command, and nothing of one step lives on in the
//! next. Each has a process group of its own, and gets every signal exactly once: from here, whether it came from a
//! terminal or from a service manager.

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

/// What is running, and what was asked for.
#[derive(Debug, Default)]
struct State {
    child: Option<Pid>,
    caught: Option<u8>,
}

/// Starts children and hands signals on to them.
#[derive(Debug)]
pub struct Children {
    state: Arc<Mutex<State>>,
}

impl Children {
    /// Takes over SIGINT and SIGTERM for the rest of the process.
    pub fn new() -> io::Result<Self> {
        let state = Arc::new(Mutex::new(State::default()));
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let of_thread = Arc::clone(&state);
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in signals.forever() {
                let (signal, code) = if signal == SIGTERM { (Signal::TERM, 143) } else { (Signal::INT, 130) };
                let mut state = of_thread.lock().unwrap_or_else(PoisonError::into_inner);
                state.caught.get_or_insert(code);
                if let Some(child) = state.child {
                    // One that is just ending needs no signal.
                    let _ = kill_process_group(child, signal);
                }
            }
        })?;
        Ok(Self { state })
    }

    /// The exit code for a signal that came.
    pub fn caught(&self) -> Option<u8> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).caught
    }

    /// Runs a step to its end; returns its exit code. After a signal none is started.
    pub fn run_step(&self, command: Command) -> io::Result<u8> {
        self.run(command, false)
    }

    /// The same for what must be run at the end, whatever happened before.
    pub fn run_hook(&self, command: Command) -> io::Result<u8> {
        self.run(command, true)
    }

    fn run(&self, mut command: Command, is_always: bool) -> io::Result<u8> {
        command.stdin(Stdio::null()).process_group(0);
        let (mut child, pid) = {
            // Held until the child is known, so that no signal falls between.
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(code) = state.caught.filter(|_| !is_always) {
                return Ok(code);
            }
            let child = command.spawn()?;
            let pid = Pid::from_child(&child);
            state.child = Some(pid);
            (child, pid)
        };
        // Not yet reaped while a signal may still go to it: its number is not another's.
        let until_ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(Errno::INTR) = waitid(WaitId::Pid(pid), until_ended) {}
        self.state.lock().unwrap_or_else(PoisonError::into_inner).child = None;
        let status = child.wait()?;
        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
        Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
    }
}
