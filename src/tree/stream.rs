//! What flows in once and lies in no tree: standard input, or what a command writes to its output. A thread of its own
//! reads it, so that whoever takes the bytes can stop while none come; so many wait to be taken and no more.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use super::dir::Dir;
use super::error::TreeError;
use super::stat::stamp_clock_ns;
use crate::model::entry::{EntryKind, Stat};

/// Bytes that are read at once.
const PART_LEN: usize = 1 << 20;
/// Parts that wait to be taken at most.
const PARTS_MAX: usize = 4;

/// A stream, being read. A command that has not ended is killed with this value.
pub struct Stream {
    parts: Receiver<io::Result<Vec<u8>>>,
    part: Vec<u8>,
    taken: usize,
    command: Option<(Child, String)>,
}

impl Stream {
    /// This process's standard input. Can be read once.
    pub fn of_stdin() -> Result<Self, TreeError> {
        Self::begin(io::stdin(), None)
    }

    /// Starts a command, without input, whose errors go where this process's go.
    ///
    /// # Errors
    /// `CommandNotStarted`.
    pub fn of_command((program, args): (&OsString, &[OsString])) -> Result<Self, TreeError> {
        let words: Vec<String> = std::iter::once(program).chain(args).map(|word| word.display().to_string()).collect();
        let command = words.join(" ");
        let started = Command::new(program).args(args).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = started.map_err(|source| TreeError::CommandNotStarted { command: command.clone(), source })?;
        let Some(output) = child.stdout.take() else {
            let source = io::Error::other("it has no output");
            return Err(TreeError::CommandNotStarted { command, source });
        };
        Self::begin(output, Some((child, command)))
    }

    fn begin(from: impl Read + Send + 'static, command: Option<(Child, String)>) -> Result<Self, TreeError> {
        let (sender, parts) = sync_channel(PARTS_MAX);
        let stream = Self { parts, part: Vec::new(), taken: 0, command };
        let begun = std::thread::Builder::new().name("stream".to_owned()).spawn(move || pump(from, &sender));
        match begun {
            // It ends with the stream, or with the process when nothing comes any more.
            Ok(_) => Ok(stream),
            Err(source) => Err(TreeError::StreamUnreadable { source }),
        }
    }

    /// The next bytes, as many as are there; 0 at the end. `None`: none came within this time.
    pub fn read(&mut self, into: &mut [u8], within: Duration) -> io::Result<Option<usize>> {
        if self.taken == self.part.len() {
            self.part = match self.parts.recv_timeout(within) {
                Ok(part) => part?,
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => return Err(io::Error::other("who reads it has died")),
            };
            self.taken = 0;
        }
        let rest = &self.part[self.taken..];
        let n = rest.len().min(into.len());
        into[..n].copy_from_slice(&rest[..n]);
        self.taken += n;
        Ok(Some(n))
    }

    /// Whether all ended well, to be asked behind the last byte; false while the command still runs.
    ///
    /// # Errors
    /// `CommandFailed`: what it wrote may not be all.
    pub fn has_ended(&mut self) -> Result<bool, TreeError> {
        let Some((child, command)) = &mut self.command else { return Ok(true) };
        let status = child.try_wait().map_err(|source| TreeError::StreamUnreadable { source })?;
        match status {
            None => Ok(false),
            Some(status) if status.success() => Ok(true),
            Some(status) => Err(TreeError::CommandFailed { command: command.clone(), how: ending(status) }),
        }
    }

    /// Stands where the directory of a file is asked for; nothing of the stream is opened through it.
    pub fn place() -> Result<Dir, TreeError> {
        Dir::open_root(Path::new("/"), 0)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.command {
            // One that has ended cannot be killed, which is as well.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn pump(mut from: impl Read, to: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut part = vec![0; PART_LEN];
        let read = loop {
            match from.read(&mut part) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                answer => break answer,
            }
        };
        let is_last = !matches!(read, Ok(1..));
        let sent = to.send(read.map(|n| {
            part.truncate(n);
            part
        }));
        if is_last || sent.is_err() {
            return;
        }
    }
}

fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".to_owned(),
    }
}

/// What a name that a stream is kept under says of itself: it is the caller's alone, and of now.
pub fn stat_of_stream(kind: EntryKind) -> Stat {
    let now_ns = stamp_clock_ns();
    Stat {
        kind,
        mode: if kind == EntryKind::Dir { 0o700 } else { 0o600 },
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        size: 0,
        mtime_ns: now_ns,
        ctime_ns: now_ns,
        btime_ns: None,
        dev: 0,
        ino: 0,
        nlink: 1,
        rdev: 0,
        allocated: 0,
        taken_ns: now_ns,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_shell(script: &str) -> Stream {
        Stream::of_command((&"sh".into(), &["-c".into(), script.into()])).unwrap()
    }

    fn read_all(stream: &mut Stream) -> Vec<u8> {
        let mut all = Vec::new();
        let mut buffer = vec![0; 70_000];
        loop {
            match stream.read(&mut buffer, Duration::from_secs(60)).unwrap() {
                Some(0) => return all,
                Some(n) => all.extend_from_slice(&buffer[..n]),
                None => panic!("nothing came"),
            }
        }
    }

    fn end(stream: &mut Stream) -> Result<(), TreeError> {
        while !stream.has_ended()? {
            std::thread::yield_now();
        }
        Ok(())
    }

    #[test]
    fn all_that_a_command_writes_comes_in_order_and_its_end_is_known() {
        let mut stream = of_shell("seq 1 400000");
        let all = read_all(&mut stream);
        assert_eq!(all.split(|byte| *byte == b'\n').count(), 400_001);
        assert!(all.starts_with(b"1\n2\n") && all.ends_with(b"\n400000\n"));
        end(&mut stream).unwrap();
        for (script, how) in [("echo x; exit 3", "exit status 3"), ("kill -9 $$", "signal 9")] {
            let mut stream = of_shell(script);
            read_all(&mut stream);
            let error = end(&mut stream).unwrap_err().to_string();
            assert!(error.contains(how) && error.contains(script), "{error}");
        }
        assert!(Stream::of_command((&"/nowhere/at/all".into(), &[])).is_err());
    }

    #[test]
    fn a_command_that_says_nothing_can_be_left_and_is_killed() {
        let mut stream = of_shell("exec sleep 1000");
        assert_eq!(stream.read(&mut [0; 8], Duration::from_millis(1)).unwrap(), None);
        assert!(!stream.has_ended().unwrap());
        drop(stream);
    }
}
