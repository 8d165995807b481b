//! Options of the commands that restore a tree: what of it, and what becomes of the rest.

use super::restore::{HowArgs, how};
use super::session::Session;
use clap::Args;
use raidtape::engine::restore::{RestoreHow, WantedOptions};

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
}

/// Told behind the help of both commands.
macro_rules! tree_help {
    () => {
        "\
What is left out by --include and --exclude is not written. Nothing in DEST is deleted.
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
        RestoreHow { wanted, ..how(args, session) }
    }
}
