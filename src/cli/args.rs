//! The command line as a whole: options that every command takes, and the list of commands. Each command's own
//! options stand in its own file.

use super::{
    add_volume, backup, diff, dump, find, generate, genmeta, history, init, list_changes, ls, profile, protect,
    rebuild_catalog, remove_volume, replace_volume, restore, restore_folder, revert_to_run, set_redundancy, validate,
    values,
};
use clap::{Args, Parser, Subcommand};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

const AFTER_HELP: &str = "\
Files are cut into chunks, each chunk is stored once, and every run can be restored
whole, by folder or by file. The catalog says what is stored where; the disks alone
can bring it back. `raidtape COMMAND --help` has examples.

First backup, to one disk:
  raidtape --catalog backup.cat backup ~/photos --volume /mnt/disk1/raidtape

Every night from then on, and now and then:
  raidtape --catalog backup.cat backup ~/photos
  raidtape --catalog backup.cat validate

Exit codes:
  0   done
  1   failed, no run saved
  2   usage: the request makes no sense
  3   run saved, but some source files could not be read
  4   damage found, or a restore that is not complete
  5   no volume can take or give the data (full, offline)
  6   run saved, but less protected than the redundancy wants
  10  no such catalog
  11  catalog or volume in use by another process
  130, 143  interrupted (SIGINT, SIGTERM)
`status` has codes of its own, those of monitoring plugins.";

/// Back up directory trees to a set of ordinary disks
#[derive(Debug, Parser)]
#[command(name = "raidtape", version, after_help = AFTER_HELP, max_term_width = 90)]
#[command(subcommand_required = true, arg_required_else_help = true)]
#[command(disable_help_flag = true)]
pub struct Cli {
    /// For every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command; they stand before or behind its name.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// The catalog; else RAIDTAPE_CATALOG has it [default: ~/.local/share/raidtape/backup.cat]
    #[arg(long, value_name = "PATH", global = true, env = "RAIDTAPE_CATALOG", hide_env = true)]
    pub catalog: Option<PathBuf>,
    /// Where a volume is mounted now, if it moved; may be repeated
    #[arg(long = "volume", value_name = "DIR", global = true)]
    pub volumes: Vec<PathBuf>,
    /// Wait this long for a catalog or volume that another process has locked, like 5m
    #[arg(long, value_name = "TIME", global = true, value_parser = values::duration)]
    pub retry_lock: Option<Duration>,
    /// Run with this priority, from -20 to 19, as nice(1) counts
    #[arg(long, value_name = "N", global = true, value_parser = values::nice, allow_hyphen_values = true)]
    pub nice: Option<i32>,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Print nothing about success, and no progress
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Print more: all problems, identities
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Show no progress
    #[arg(long, global = true)]
    pub no_progress: bool,
    /// Print help
    #[arg(short, long, global = true, action = clap::ArgAction::HelpShort)]
    help: Option<bool>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    Init(init::InitArgs),
    AddVolume(add_volume::AddVolumeArgs),
    Backup(Box<backup::BackupArgs>),
    ListChanges(list_changes::ListChangesArgs),
    Validate(validate::ValidateArgs),
    Restore(restore::RestoreArgs),
    RestoreFolder(restore_folder::RestoreFolderArgs),
    RevertToRun(revert_to_run::RevertToRunArgs),
    Dump(dump::DumpArgs),
    RebuildCatalog(rebuild_catalog::RebuildCatalogArgs),
    Genmeta(genmeta::GenmetaArgs),
    Protect(protect::ProtectArgs),
    SetRedundancy(set_redundancy::SetRedundancyArgs),
    ReplaceVolume(replace_volume::ReplaceVolumeArgs),
    RemoveVolume(remove_volume::RemoveVolumeArgs),
    Runs(super::runs::RunsArgs),
    Volumes(super::volumes::VolumesArgs),
    Ls(ls::LsArgs),
    History(history::HistoryArgs),
    Find(Box<find::FindArgs>),
    Diff(diff::DiffArgs),
    Report(super::report::ReportArgs),
    Stats(super::stats::StatsArgs),
    Status(super::status::StatusArgs),
    Generate(generate::GenerateArgs),
    Profile(profile::ProfileArgs),
}

impl Cli {
    /// Parses `argv`. A `--volume` counts wherever it stands: clap alone would forget those before the command when
    /// there are some behind it.
    pub fn from_argv(argv: &[OsString]) -> Result<Self, clap::Error> {
        let mut cli = Self::try_parse_from(argv)?;
        let all = volumes_in(argv);
        if all.len() > cli.global.volumes.len() {
            cli.global.volumes = all;
        }
        Ok(cli)
    }
}

impl Global {
    /// The catalog, if it was given otherwise than by the environment: it then wins over what a profile says.
    pub fn catalog_by_option(&self) -> Option<&PathBuf> {
        let from_environment = std::env::var_os("RAIDTAPE_CATALOG").map(PathBuf::from);
        self.catalog.as_ref().filter(|catalog| Some(*catalog) != from_environment.as_ref())
    }

    /// Where the catalog is: as given, or at the place that the XDG base directories have for it.
    pub fn catalog_path(&self) -> Option<PathBuf> {
        if let Some(path) = &self.catalog {
            return Some(path.clone());
        }
        let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let data = absolute("XDG_DATA_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/share")))?;
        Some(data.join("raidtape/backup.cat"))
    }
}

/// The values of `--volume` in arguments that clap has accepted.
fn volumes_in(argv: &[OsString]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut rest = argv.iter().skip(1).take_while(|arg| *arg != OsStr::new("--"));
    while let Some(arg) = rest.next() {
        if arg == "--volume" {
            found.extend(rest.next().map(PathBuf::from));
        } else if let Some(value) = arg.as_bytes().strip_prefix(b"--volume=") {
            found.push(PathBuf::from(OsString::from_vec(value.to_vec())));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        let argv: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        Cli::from_argv(&argv)
    }

    #[test]
    fn every_option_is_defined_once_and_soundly() {
        Cli::command().debug_assert();
    }

    #[test]
    fn volumes_on_both_sides_of_the_command_all_count() {
        let cli = parse("raidtape --volume a backup src --volume=b --volume c").unwrap();
        assert_eq!(cli.global.volumes, ["a", "b", "c"].map(PathBuf::from));
        let cli = parse("raidtape --volume a runs").unwrap();
        assert_eq!(cli.global.volumes, [PathBuf::from("a")]);
        let cli = parse("raidtape backup --volume a -- --volume").unwrap();
        assert_eq!(cli.global.volumes, [PathBuf::from("a")]);
    }

    #[test]
    fn options_of_every_command_work_before_and_behind_it() {
        for line in ["raidtape --json -q --catalog c runs", "raidtape runs --json -q --catalog c"] {
            let global = parse(line).unwrap().global;
            assert!(global.json && global.quiet, "{line}");
            assert_eq!(global.catalog_path(), Some(PathBuf::from("c")));
        }
    }
}
