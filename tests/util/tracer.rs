//! A tracer: runs the program stopped at every system call, in all its threads, with one count over the whole process.
//! It notes the calls on paths below one directory, lets any of them fail, or ends the process before or after it.
//!
//! Only for x86_64, where the numbers and registers of this file are right.

use super::bench::Said;
use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{IoSliceMut, Read, Seek, SeekFrom};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

/// One call, begun and maybe ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Which of all noted calls it is, from 0.
    pub number: usize,
    pub name: &'static str,
    /// What it is about, relative to the directory.
    pub path: PathBuf,
    /// Where a rename or link leads.
    pub to: Option<PathBuf>,
    /// Whether it opens a file that it may have to make.
    pub creates: bool,
    /// Whether it renames without replacing.
    pub keeps: bool,
    /// The instants of its begin and its end, among those of all calls.
    pub begun: usize,
    pub ended: Option<usize>,
    /// What it returned; an error is negative.
    pub result: i64,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Passes,
    Fails(Errno),
    /// The process dies in its place.
    DiesBefore,
    /// It is the last that the process does.
    DiesAfter,
    /// It goes on, and the process gets a signal.
    Meets(Signal),
    /// It never returns; the process gets one signal and, when it has handled that, the other.
    Hangs([Signal; 2]),
}

/// What a traced command said, and what it called.
pub struct Traced {
    pub said: Said,
    pub calls: Vec<Call>,
    /// The calls that met a fate.
    pub met: Vec<Call>,
}

impl Call {
    /// Whether it changes what lies on a disk.
    pub fn changes(&self) -> bool {
        self.creates || !matches!(self.name, "openat" | "openat2" | "pread64" | "read" | "getdents64" | "fsync")
    }

    /// In words, for messages.
    pub fn told(&self) -> String {
        let to = self.to.as_ref().map(|to| format!(" -> {}", to.display())).unwrap_or_default();
        format!("{} {}{to}", self.name, self.path.display())
    }
}

/// Whether processes can be traced here.
pub fn can_trace() -> bool {
    let traced = std::panic::catch_unwind(|| trace(&Command::new("/bin/true"), Path::new("/"), &mut |_| Fate::Passes));
    super::needs::has("the right to trace processes", traced.is_ok())
}

/// Runs `command`, asking `fate` at each call on something below `root`.
pub fn trace(command: &Command, root: &Path, fate: &mut (dyn FnMut(&Call) -> Fate + Send)) -> Traced {
    // A thread of its own: whoever traces may wait for its own children only, never for another test's.
    std::thread::scope(|scope| scope.spawn(|| trace_here(command, root, fate)).join().expect("a tracer that lives"))
}

fn trace_here(command: &Command, root: &Path, fate: &mut (dyn FnMut(&Call) -> Fate + Send)) -> Traced {
    let [mut out, mut err] = [(); 2].map(|()| tempfile::tempfile().expect("a file for words"));
    let mut stopped = Command::new("/bin/sh");
    stopped.args(["-c", "kill -STOP $$; exec \"$0\" \"$@\""]).arg(command.get_program()).args(command.get_args());
    stopped.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    stopped.current_dir(command.get_current_dir().unwrap_or(Path::new("/")));
    stopped.stdin(Stdio::null()).stdout(dup(&out)).stderr(dup(&err));
    let leader = Pid::from_raw(stopped.spawn().expect("a shell").id() as i32);
    let mut tracer = Tracer {
        leader,
        root,
        fate,
        open: HashMap::new(),
        calls: Vec::new(),
        met: Vec::new(),
        clock: 0,
        second_signal: None,
    };
    let code = tracer.run();
    let said = Said { code, out: text(&mut out), err: text(&mut err) };
    Traced { said, calls: tracer.calls, met: tracer.met }
}

fn dup(file: &File) -> Stdio {
    file.try_clone().expect("a descriptor").into()
}

fn text(file: &mut File) -> String {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_string(&mut text)).expect("words are UTF-8");
    text
}

struct Tracer<'a> {
    leader: Pid,
    root: &'a Path,
    fate: &'a mut (dyn FnMut(&Call) -> Fate + Send),
    /// Per thread the noted call that it is in, and what becomes of that.
    open: HashMap<Pid, (usize, Fate)>,
    calls: Vec<Call>,
    met: Vec<Call>,
    clock: usize,
    /// What comes when the signal before it is handled.
    second_signal: Option<Signal>,
}

impl Tracer<'_> {
    /// Until the process is gone; its exit code.
    fn run(&mut self) -> i32 {
        waitpid(self.leader, Some(WaitPidFlag::WUNTRACED)).expect("a shell that stops");
        let follow = Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_TRACEFORK | Options::PTRACE_O_TRACEVFORK;
        let marks = Options::PTRACE_O_TRACEEXEC | Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL;
        ptrace::seize(self.leader, follow | marks).expect("the right to trace");
        kill(self.leader, Signal::SIGCONT).expect("a process");
        loop {
            match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) {
                Ok(WaitStatus::Exited(pid, code)) if pid == self.leader => return code,
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == self.leader => return -(signal as i32),
                Ok(WaitStatus::PtraceSyscall(pid)) => {
                    // A thread that was killed meanwhile has no registers any more.
                    let _ = self.at_call(pid);
                    if !matches!(self.open.get(&pid), Some((_, Fate::Hangs(_)))) {
                        let _ = ptrace::syscall(pid, None);
                    }
                }
                Ok(WaitStatus::PtraceEvent(pid, ..)) => drop(ptrace::syscall(pid, None)),
                Ok(WaitStatus::Stopped(pid, signal)) => drop(ptrace::syscall(pid, signal)),
                Ok(_) | Err(Errno::EINTR) => {}
                failed @ Err(_) => drop(failed.expect("the traced process can be waited for")),
            }
        }
    }

    fn at_call(&mut self, pid: Pid) -> nix::Result<()> {
        if ptrace::syscall_info(pid)?.op == libc::PTRACE_SYSCALL_INFO_ENTRY {
            self.at_entry(pid)
        } else if let Some((number, fate)) = self.open.remove(&pid) {
            self.at_exit(pid, number, fate)
        } else {
            Ok(())
        }
    }

    fn at_entry(&mut self, pid: Pid) -> nix::Result<()> {
        let mut regs = ptrace::getregs(pid)?;
        if regs.orig_rax == libc::SYS_rt_sigreturn as u64 {
            return self.second_signal.take().map_or(Ok(()), |signal| kill(self.leader, signal));
        }
        let args = [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8];
        let Some((name, shape)) = noted(regs.orig_rax as i64) else { return Ok(()) };
        let Some((path, to)) = self.paths(pid, shape, args) else { return Ok(()) };
        let flags = match name {
            "openat" => args[2],
            "openat2" => word(pid, args[2])?,
            "open" => args[1],
            _ => 0,
        };
        let creates = flags & libc::O_CREAT as u64 != 0;
        let keeps = name == "linkat" || (name == "renameat2" && args[4] & u64::from(libc::RENAME_NOREPLACE) != 0);
        let (number, begun) = (self.calls.len(), self.clock);
        let call = Call { number, name, path, to, creates, keeps, begun, ended: None, result: 0 };
        self.clock += 1;
        let fate = (self.fate)(&call);
        if fate != Fate::Passes {
            self.met.push(call.clone());
        }
        self.calls.push(call);
        self.open.insert(pid, (number, fate));
        if matches!(fate, Fate::Fails(_) | Fate::DiesBefore) {
            // No such call: the kernel does nothing and returns to the exit.
            regs.orig_rax = u64::MAX;
            ptrace::setregs(pid, regs)?;
        }
        match fate {
            Fate::DiesBefore => kill(self.leader, Signal::SIGKILL),
            Fate::Meets(signal) => kill(self.leader, signal),
            Fate::Hangs([signal, second]) => {
                self.second_signal = Some(second);
                kill(self.leader, signal)
            }
            _ => Ok(()),
        }
    }

    fn at_exit(&mut self, pid: Pid, number: usize, fate: Fate) -> nix::Result<()> {
        let mut regs = ptrace::getregs(pid)?;
        match fate {
            Fate::Fails(errno) => {
                regs.rax = (-i64::from(errno as i32)) as u64;
                ptrace::setregs(pid, regs)?;
            }
            Fate::DiesAfter => kill(self.leader, Signal::SIGKILL)?,
            _ => {}
        }
        self.calls[number].result = regs.rax as i64;
        self.calls[number].ended = Some(self.clock);
        self.clock += 1;
        Ok(())
    }

    /// The one or two paths of a call, if the first lies below the directory.
    fn paths(&self, pid: Pid, shape: Shape, args: [u64; 5]) -> Option<(PathBuf, Option<PathBuf>)> {
        let at = |dir: u64, name: u64| Some(resolved(&of_descriptor(pid, dir as i32)?, &string(pid, name).ok()?));
        let here = libc::AT_FDCWD as u64;
        let (path, to) = match shape {
            Shape::Fd => (of_descriptor(pid, args[0] as i32)?, None),
            Shape::Path => (at(here, args[0])?, None),
            Shape::At => (at(args[0], args[1])?, None),
            Shape::Paths => (at(here, args[0])?, Some(at(here, args[1])?)),
            Shape::Ats => (at(args[0], args[1])?, Some(at(args[2], args[3])?)),
        };
        let below = |path: &Path| path.strip_prefix(self.root).map(Path::to_path_buf).ok();
        Some((below(&path)?, to.map(|to| below(&to).unwrap_or(to))))
    }
}

/// How a call names what it is about.
#[derive(Clone, Copy)]
enum Shape {
    Fd,
    Path,
    At,
    Paths,
    Ats,
}

/// The calls that count.
fn noted(number: i64) -> Option<(&'static str, Shape)> {
    Some(match number {
        libc::SYS_write => ("write", Shape::Fd),
        libc::SYS_writev => ("writev", Shape::Fd),
        libc::SYS_pwrite64 => ("pwrite64", Shape::Fd),
        libc::SYS_pwritev => ("pwritev", Shape::Fd),
        libc::SYS_read => ("read", Shape::Fd),
        libc::SYS_pread64 => ("pread64", Shape::Fd),
        libc::SYS_fsync => ("fsync", Shape::Fd),
        libc::SYS_fdatasync => ("fdatasync", Shape::Fd),
        libc::SYS_ftruncate => ("ftruncate", Shape::Fd),
        libc::SYS_fallocate => ("fallocate", Shape::Fd),
        libc::SYS_getdents64 => ("getdents64", Shape::Fd),
        libc::SYS_open => ("open", Shape::Path),
        libc::SYS_openat => ("openat", Shape::At),
        libc::SYS_openat2 => ("openat2", Shape::At),
        libc::SYS_mkdir => ("mkdir", Shape::Path),
        libc::SYS_mkdirat => ("mkdirat", Shape::At),
        libc::SYS_unlink => ("unlink", Shape::Path),
        libc::SYS_unlinkat => ("unlinkat", Shape::At),
        libc::SYS_rename => ("rename", Shape::Paths),
        libc::SYS_renameat => ("renameat", Shape::Ats),
        libc::SYS_renameat2 => ("renameat2", Shape::Ats),
        libc::SYS_link => ("link", Shape::Paths),
        libc::SYS_linkat => ("linkat", Shape::Ats),
        _ => return None,
    })
}

/// The file behind a descriptor, as the kernel names it.
fn of_descriptor(pid: Pid, fd: i32) -> Option<PathBuf> {
    let link = if fd == libc::AT_FDCWD { format!("/proc/{pid}/cwd") } else { format!("/proc/{pid}/fd/{fd}") };
    let path = std::fs::read_link(link).ok()?.into_os_string().into_vec();
    let path = path.strip_suffix(b" (deleted)").unwrap_or(&path);
    Some(PathBuf::from(OsStr::from_bytes(path)))
}

/// `name` seen from `dir`, without dots.
fn resolved(dir: &Path, name: &OsStr) -> PathBuf {
    let mut path = PathBuf::new();
    for part in dir.join(name).components() {
        match part {
            Component::ParentDir => drop(path.pop()),
            Component::CurDir => {}
            part => path.push(part),
        }
    }
    path
}

/// A string in the traced process, read page by page, because the next page may not be there.
fn string(pid: Pid, from: u64) -> nix::Result<OsString> {
    const PAGE: usize = 4096;
    let (mut bytes, mut at) = (Vec::new(), from as usize);
    loop {
        let mut piece = vec![0; PAGE - at % PAGE];
        peek(pid, at, &mut piece)?;
        if let Some(end) = piece.iter().position(|byte| *byte == 0) {
            bytes.extend(&piece[..end]);
            return Ok(OsString::from_vec(bytes));
        }
        at += piece.len();
        bytes.extend(piece);
    }
}

fn word(pid: Pid, from: u64) -> nix::Result<u64> {
    let mut bytes = [0; 8];
    peek(pid, from as usize, &mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

fn peek(pid: Pid, base: usize, into: &mut [u8]) -> nix::Result<()> {
    let len = into.len();
    let read = process_vm_readv(pid, &mut [IoSliceMut::new(into)], &[RemoteIoVec { base, len }])?;
    if read == len { Ok(()) } else { Err(Errno::EFAULT) }
}
