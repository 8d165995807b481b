//! Options of the commands that restore a tree: what of it, and what becomes of the rest.

use super::restore::{HowArgs, how};
use super::session::Session;
use clap::Args;
use raidtape::engine::restore::{Delete, RestoreHow, WantedOptions};

/// What of the tree
#[derive(Debug, Args)]
pub struct TreeArgs {
    /// Restore only what fits, with all below it; patterns as in .gitignore, tied to DEST
    #[arg(long, value_name = "PATTERN")]
    include: Vec<String>,
    /// The same, with upper and lower case alike
    #[arg(long, value_name = "PATTERN")]
    iinclude: Vec<String>,
    /// Leave out what fits, with all below it, inside what is included too
    #[arg(short = 'e', long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// The same, with upper and lower case alike
    #[arg(long, value_name = "PATTERN")]
    iexclude: Vec<String>,
    /// Take the first N components off every path, as tar does; patterns see the whole path
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    strip_components: usize,
    /// Delete what the run does not have, in the folders that it has, once all else is restored; needs --overwrite
    #[arg(long)]
    delete: bool,
    /// The same where the run itself left things out, or nobody knows: what it never asked for goes too
    #[arg(long)]
    delete_excluded: bool,
}

/// Told behind the help of both commands.
macro_rules! tree_help {
    () => {
        "\
What is left out by --include and --exclude is neither written nor deleted. --delete
waits until all else was restored without a problem, stays on DEST's file system,
follows no link, and spares what the run could not read, volumes and catalogs. A run
that left things out on purpose deletes nothing without --delete-excluded.
"
    };
}
pub(super) use tree_help;

impl TreeArgs {
    /// How the tree is restored.
    pub fn how(&self, args: &HowArgs, session: &Session) -> RestoreHow {
        let wanted = WantedOptions {
            include: self.include.clone(),
            iinclude: self.iinclude.clone(),
            exclude: self.exclude.clone(),
            iexclude: self.iexclude.clone(),
            strip_components: self.strip_components,
        };
        let delete = match (self.delete, self.delete_excluded) {
            (_, true) => Delete::Excluded,
            (true, false) => Delete::Lacking,
            (false, false) => Delete::Nothing,
        };
        RestoreHow { wanted, delete, ..how(args, session) }
    }
}
