//! A job as a service and a timer of systemd, and as a line of cron.

use super::job::{Job, JobArgs};
use super::{Text, Written, not_written};
use crate::cli::quote;
use crate::cli::session::Session;
use clap::Args;
use raidtape::engine::EngineError;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Print a service and a timer that back up every night
#[derive(Debug, Args)]
#[command(after_help = "\
A run in which some files could not be read (exit code 3) counts as failed: that is
to be seen. Of several steps by arguments, each is run when the one before succeeded;
a profile goes on with the check. --catalog and --volume stand before `generate`.

Examples:
  raidtape generate systemd --dir /etc/systemd/system --profile home
  systemctl daemon-reload; systemctl enable --now raidtape-home.timer
  raidtape generate systemd --user --dir ~/.config/systemd/user -- /home/me -x
  raidtape --catalog /var/lib/raidtape/backup.cat generate systemd -- / -x")]
pub struct SystemdArgs {
    /// For the manager of a user, not of the system
    #[arg(long)]
    user: bool,
    /// Write `raidtape-NAME.service` and `raidtape-NAME.timer` here, in place of printing them
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// When, as systemd.time(7) has it
    #[arg(long, value_name = "WHEN", default_value = "daily")]
    on_calendar: String,
    #[command(flatten)]
    job: JobArgs,
}

/// Print a line for cron that backs up every night
#[derive(Debug, Args)]
#[command(after_help = "\
Quiet on success: cron sends mail only when there is something to read.

Examples:
  raidtape generate cron --profile home > /etc/cron.d/raidtape-home
  raidtape generate cron --user --at 23:30 -- /home/me -x | crontab -")]
pub struct CronArgs {
    /// For a user's own crontab, not for /etc/cron.d
    #[arg(long)]
    user: bool,
    /// When, each day
    #[arg(long, value_name = "HH:MM", default_value = "02:30", value_parser = time_of_day)]
    at: (u8, u8),
    #[command(flatten)]
    job: JobArgs,
}

impl SystemdArgs {
    /// Whether the units are printed.
    pub fn is_for_stdout(&self) -> bool {
        self.dir.is_none()
    }
}

/// Prints the units, or writes them.
pub fn systemd(session: &mut Session, args: &SystemdArgs) -> Result<(), EngineError> {
    if args.on_calendar.chars().any(char::is_control) {
        return Err(EngineError::Usage("--on-calendar takes one line".to_owned()));
    }
    let job = Job::new(session, &args.job)?;
    let unit = |ending: &str, text| Text { name: format!("raidtape-{}.{ending}", job.name), text };
    let units = [unit("service", service(&job, args.user)), unit("timer", timer(&job, &args.on_calendar))];
    match &args.dir {
        Some(dir) => write_units(session, dir, units, args.user),
        None => {
            for mut unit in units {
                if !session.out.is_json {
                    unit.text.insert_str(0, &format!("# {}\n", unit.name));
                    unit.text.push('\n');
                }
                unit.print(session);
            }
            Ok(())
        }
    }
}

fn service(job: &Job, is_user: bool) -> String {
    let mut text = format!("[Unit]\nDescription={}\n", job.description.replace('%', "%%"));
    text.push_str("# To be told of failures: OnFailure=a-unit-that-sends-mail@%n.service\n\n[Service]\nType=oneshot\n");
    for step in &job.steps {
        let (program, rest) =
            step.split_first().map_or((String::new(), &[][..]), |(program, rest)| (quote::systemd_path(program), rest));
        let words = rest.iter().map(|word| quote::systemd(word));
        let line: Vec<String> = std::iter::once(program).chain(words).collect();
        let _ = writeln!(text, "ExecStart={}", line.join(" "));
    }
    // Exit code 3, some files could not be read, is no success: SuccessExitStatus stays as it is.
    text.push_str("Nice=10\nIOSchedulingClass=idle\nUMask=0077\n");
    if !is_user {
        // Nothing that makes a mount namespace or takes capabilities away: all is to be read as it is, and what a
        // command mounts before the backup is to be there after it.
        text.push_str(
            "LockPersonality=yes\nNoNewPrivileges=yes\nRestrictRealtime=yes\nSystemCallArchitectures=native\n",
        );
    }
    text
}

fn timer(job: &Job, when: &str) -> String {
    format!(
        "[Unit]\nDescription={}, timer\n\n[Timer]\nOnCalendar={}\nPersistent=true\nRandomizedDelaySec=30min\n\n\
         [Install]\nWantedBy=timers.target\n",
        job.description.replace('%', "%%"),
        when.replace('%', "%%")
    )
}

/// Writes what is not there yet; both or none.
fn write_units(session: &mut Session, dir: &Path, units: [Text; 2], is_user: bool) -> Result<(), EngineError> {
    if let Some(taken) = units.iter().map(|unit| dir.join(&unit.name)).find(|path| path.symlink_metadata().is_ok()) {
        return Err(EngineError::Usage(format!(
            "{} is there already; remove it first, or choose another --name",
            taken.display()
        )));
    }
    std::fs::create_dir_all(dir).map_err(|error| not_written(dir, &error))?;
    let mut files = Vec::with_capacity(units.len());
    for unit in &units {
        let path = dir.join(&unit.name);
        let made = OpenOptions::new().write(true).create_new(true).open(&path);
        made.and_then(|mut file| file.write_all(unit.text.as_bytes())).map_err(|error| not_written(&path, &error))?;
        files.push(path.display().to_string());
    }
    if session.out.is_json {
        session.out.document("summary", &Written { files });
        return Ok(());
    }
    files.iter().for_each(|file| session.out.say(&format!("Wrote {file}")));
    let systemctl = if is_user { "systemctl --user" } else { "systemctl" };
    session.out.say(&format!("Next: `{systemctl} daemon-reload; {systemctl} enable --now {}`", units[1].name));
    Ok(())
}

/// Prints the line.
pub fn cron(session: &mut Session, args: &CronArgs) -> Result<(), EngineError> {
    let job = Job::new(session, &args.job)?;
    let is_odd = |word: &OsString| word.to_str().is_none_or(|text| text.chars().any(char::is_control));
    if let Some(odd) = job.steps.iter().flatten().find(|word| is_odd(word)) {
        return Err(EngineError::Usage(format!(
            "{} cannot stand in a crontab; write it into a profile, or use systemd",
            quote::shell(odd)
        )));
    }
    let line = job.steps.iter().map(|step| quote::shell_line(step)).collect::<Vec<_>>().join(" && ");
    let (hour, minute) = args.at;
    let who = if args.user { "" } else { "root  " };
    // cron ends the command at a `%` and gives the rest to it as input.
    let line = line.replace('%', "\\%");
    let text = format!("# {}\n{minute} {hour} * * *  {who}{line}\n", job.description);
    Text { name: format!("raidtape-{}", job.name), text }.print(session);
    Ok(())
}

/// `02:30`.
fn time_of_day(text: &str) -> Result<(u8, u8), String> {
    let found = text.split_once(':').and_then(|(hour, minute)| Some((hour.parse().ok()?, minute.parse().ok()?)));
    found.filter(|(hour, minute)| *hour < 24 && *minute < 60).ok_or_else(|| "a time is like `02:30`".to_owned())
}
