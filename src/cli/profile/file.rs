//! The file of profiles: TOML in, checked values or one sentence out, which names the file and, where a key or a word
//! is wrong, the line and the nearest that would be right.

use raidtape::engine::EngineError;
use raidtape::model::nearest::nearest;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Bytes of a file of profiles at most: nobody writes more, and it is held in memory.
const LEN_MAX: u64 = 1 << 20;

/// All profiles of a file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// By name.
    #[serde(default)]
    pub profile: BTreeMap<String, Profile>,
}

/// What is done, on which repository, with which limits.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Profile {
    /// The catalog; else the usual one.
    pub catalog: Option<PathBuf>,
    /// Where volumes are mounted.
    pub volumes: Vec<PathBuf>,
    /// `--retry-lock` of every step.
    pub retry_lock: Option<String>,
    /// Which steps; all when not given.
    pub steps: Option<Vec<StepName>>,
    /// What is backed up, one run each.
    #[serde(rename = "source")]
    pub sources: Vec<Source>,
    /// How gently.
    pub limits: Limits,
    /// The check.
    pub validate: Validate,
    /// When to worry.
    pub status: Status,
    /// What else is run.
    pub hooks: Hooks,
}

/// A step of a profile, in the order in which they are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepName {
    /// Of every source.
    Backup,
    /// Sidecars.
    Genmeta,
    /// The check.
    Validate,
    /// The verdict.
    Status,
}

/// One backup.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Source {
    /// Directories.
    pub roots: Vec<PathBuf>,
    /// `--name`
    pub name: Option<String>,
    /// `--exclude`
    pub exclude: Vec<String>,
    /// `--iexclude`
    pub iexclude: Vec<String>,
    /// `--exclude-file`
    pub exclude_file: Vec<PathBuf>,
    /// `--exclude-caches`
    pub exclude_caches: bool,
    /// `--exclude-if-present`
    pub exclude_if_present: Vec<String>,
    /// `--exclude-larger-than`
    pub exclude_larger_than: Option<String>,
    /// `--one-file-system`
    pub one_file_system: bool,
    /// `--files-from`
    pub files_from: Vec<PathBuf>,
    /// `--files-from-raw`
    pub files_from_raw: Vec<PathBuf>,
    /// `--tag`
    pub tags: Vec<String>,
    /// `--label`
    pub label: Option<String>,
    /// `--verify-after-write`
    pub verify_after_write: bool,
    /// `--ignore-inode`
    pub ignore_inode: bool,
    /// `--ignore-ctime`
    pub ignore_ctime: bool,
    /// `--allow-empty`
    pub allow_empty: bool,
}

/// How gently all is done.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Limits {
    /// `--nice`
    pub nice: Option<i32>,
    /// `idle`, or `best-effort:N`, by way of ionice(1).
    pub ionice: Option<String>,
    /// `--max-workers` of backup and validate.
    pub max_workers: Option<u32>,
    /// `--memory-limit` of backup.
    pub memory_limit: Option<String>,
}

/// The check.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Validate {
    /// `--max-duration`; 20m when not given.
    pub max_duration: Option<String>,
    /// `--max-age`
    pub max_age: Option<String>,
    /// `--deep`
    pub deep: bool,
}

/// When to worry.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Status {
    /// `--max-run-age`
    pub max_run_age: Option<String>,
    /// `--max-verify-age`
    pub max_verify_age: Option<String>,
}

/// What is run around the steps.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Hooks {
    /// Before all.
    pub run_before: Hook,
    /// After all, when all went well.
    pub run_after: Hook,
    /// When something failed.
    pub run_failed: Hook,
    /// At the very end, whatever came of it.
    pub run_finally: Hook,
}

/// A shell line, the words of one command, or those of several.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "a hook is a line for the shell, a list of words, or a list of such lists")]
pub enum Hook {
    /// For `sh -c`.
    Shell(String),
    /// One command.
    Words(Vec<String>),
    /// Several, one after the other.
    Several(Vec<Vec<String>>),
}

impl Default for Hook {
    fn default() -> Self {
        Self::Words(Vec::new())
    }
}

impl Hook {
    /// Program and arguments of each command.
    pub fn commands(&self) -> Vec<Vec<OsString>> {
        let words = |words: &[String]| words.iter().map(OsString::from).collect::<Vec<_>>();
        let all = match self {
            Self::Shell(line) => vec![["sh", "-c", line].map(OsString::from).to_vec()],
            Self::Words(one) => vec![words(one)],
            Self::Several(several) => several.iter().map(|one| words(one)).collect(),
        };
        all.into_iter().filter(|command| !command.is_empty()).collect()
    }
}

impl Source {
    /// For people: its name, or its roots.
    pub fn shown(&self) -> String {
        let roots = || self.roots.iter().map(|root| root.display().to_string()).collect::<Vec<_>>().join(" ");
        self.name.clone().unwrap_or_else(roots)
    }
}

/// Where the file is: as given, the user's own, or for root the machine's.
pub fn place(given: Option<&Path>) -> Result<PathBuf, EngineError> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
    let own = config.map(|config| config.join("raidtape/profiles.toml"));
    let of_machine = PathBuf::from("/etc/raidtape/profiles.toml");
    match own {
        Some(own) if own.exists() || !rustix::process::geteuid().is_root() => Ok(own),
        None if !rustix::process::geteuid().is_root() => {
            Err(EngineError::Usage("neither --file nor XDG_CONFIG_HOME nor HOME say where the profiles are".into()))
        }
        _ => Ok(of_machine),
    }
}

/// Reads and checks the file.
pub fn read(path: &Path) -> Result<File, EngineError> {
    let shown = path.display();
    let unreadable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            EngineError::Usage(format!("there is no file of profiles at {shown}; `raidtape profile --help` shows one"))
        }
        _ => EngineError::Usage(format!("{shown} cannot be read: {error}")),
    };
    let len = std::fs::metadata(path).map_err(unreadable)?.len();
    if len > LEN_MAX {
        return Err(EngineError::Usage(format!("{shown} has {len} bytes, which is too much for a file of profiles")));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    parse(&text).map_err(|(line, sentence)| EngineError::Usage(format!("{shown}:{line}: {sentence}")))
}

/// The profiles, or the line and what is wrong there.
fn parse(text: &str) -> Result<File, (usize, String)> {
    toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = text.get(before.rfind('\n').map_or(0, |at| at + 1)..).and_then(|rest| rest.lines().next());
        let of_kind = wrong_kind(line.unwrap_or_default(), error.message());
        (before.matches('\n').count() + 1, of_kind.unwrap_or_else(|| sentence(error.message())))
    })
}

/// The key of the line and what is wanted there, where the reader says that the value is of another kind.
fn wrong_kind(line: &str, message: &str) -> Option<String> {
    let (_, wanted) = message.strip_prefix("invalid ")?.rsplit_once(", expected ")?;
    let wanted = match wanted {
        "i32" => "a whole number",
        "u32" => "a whole number from 0",
        "a boolean" => "true or false",
        "a string" | "path string" => "a text in quotes",
        "a sequence" => "a list, like `[\"/home\"]`",
        _ if wanted.starts_with("struct ") => "a table of keys",
        _ => return None,
    };
    match line.split_once('=') {
        Some((key, _)) if !key.trim().is_empty() => Some(format!("`{}` takes {wanted}", key.trim())),
        _ => Some(format!("here belongs {wanted}")),
    }
}

/// What the reader says of a key or word that it does not know, in our words and with the nearest one; else as it is.
fn sentence(message: &str) -> String {
    let (unknown, what) = match message {
        _ if message.starts_with("unknown field ") => ("key", message),
        _ if message.starts_with("unknown variant ") => ("word", message),
        _ => return message.lines().collect::<Vec<_>>().join("; "),
    };
    let mut names = what.split('`').skip(1).step_by(2);
    let wrong = names.next().unwrap_or_default();
    let known: Vec<&str> = names.collect();
    match nearest(wrong, known.iter().copied()) {
        Some(near) => format!("unknown {unknown} `{wrong}`; did you mean `{near}`?"),
        None => format!("unknown {unknown} `{wrong}`; there are {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(text: &str) -> (usize, String) {
        parse(text).map(|_| ()).unwrap_err()
    }

    #[test]
    fn unknown_keys_are_told_with_their_line_and_the_nearest_one() {
        let text = "[profile.home]\nvolumes = []\n\n[[profile.home.source]]\nroots = ['/home']\nexclud = ['*.o']\n";
        assert_eq!(complaint(text), (6, "unknown key `exclud`; did you mean `exclude`?".to_owned()));
        let text = "[profile.home]\nretry_lock = '5m'\n";
        assert_eq!(complaint(text), (2, "unknown key `retry_lock`; did you mean `retry-lock`?".to_owned()));
        let text = "[profile.home.hooks]\nrun-befor = 'true'\n";
        assert_eq!(complaint(text), (2, "unknown key `run-befor`; did you mean `run-before`?".to_owned()));
        assert_eq!(complaint("[profiles.home]\n"), (1, "unknown key `profiles`; did you mean `profile`?".to_owned()));
        let (line, text) = complaint("[profile.home]\nsteps = ['backup', 'valdate']\n");
        assert_eq!((line, text.as_str()), (2, "unknown word `valdate`; did you mean `validate`?"));
        let (line, text) = complaint("[profile.home]\n[profile.home.limits]\nquux = 1\n");
        assert_eq!(line, 3);
        assert!(text.contains("unknown key `quux`; there are nice, ionice"), "{text}");
    }

    #[test]
    fn what_is_no_toml_or_of_another_kind_is_told_with_its_line() {
        assert_eq!(complaint("[profile.home]\ncatalog = \n").0, 2);
        assert_eq!(complaint("[profile.home]\n\nvolumes = 'one'\n").0, 3);
        for (line, words) in [
            ("volumes = 'one'", "`volumes` takes a list, like `[\"/home\"]`"),
            ("limits.nice = 'a'", "`limits.nice` takes a whole number"),
            ("limits.max-workers = -1", "`limits.max-workers` takes a whole number from 0"),
            ("validate.deep = 1", "`validate.deep` takes true or false"),
            ("retry-lock = 5", "`retry-lock` takes a text in quotes"),
            ("catalog = 5", "`catalog` takes a text in quotes"),
        ] {
            assert_eq!(complaint(&format!("[profile.home]\n{line}\n")), (2, words.to_owned()));
        }
        let (line, text) = complaint("[profile.home.hooks]\nrun-after = 3\n");
        assert_eq!((line, text.contains("a hook is a line for the shell")), (2, true), "{text}");
    }

    #[test]
    fn hooks_are_lines_words_or_several_commands() {
        let commands = |text: &str| {
            let file = parse(&format!("[profile.x.hooks]\nrun-before = {text}\n")).unwrap();
            file.profile["x"].hooks.run_before.commands()
        };
        assert_eq!(commands("'a | b'"), [["sh", "-c", "a | b"]]);
        assert_eq!(commands("['mount', '/mnt']"), [["mount", "/mnt"]]);
        assert_eq!(commands("[['a', 'b'], ['c', 'd']]"), [["a", "b"], ["c", "d"]]);
        assert_eq!(commands("[]"), [] as [Vec<OsString>; 0]);
    }
}
