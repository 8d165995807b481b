//! The oracle: what a tree is, read by other means than the program's.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// One path of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub kind: char,
    pub mode: u32,
    pub owner: (u32, u32),
    pub mtime: (i64, i64),
    /// Hash of a file's bytes, a link's target, a device's number.
    pub content: Vec<u8>,
    /// All names of the same file, in the tree.
    pub names: BTreeSet<Vec<u8>>,
}

/// A tree: every path relative to the root, which is the empty one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot(pub BTreeMap<Vec<u8>, Node>);

/// What makes two trees different.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub added: BTreeSet<Vec<u8>>,
    pub modified: BTreeSet<Vec<u8>>,
    pub metadata: BTreeSet<Vec<u8>>,
    pub deleted: BTreeSet<Vec<u8>>,
}

impl Node {
    fn metadata(&self) -> (u32, (u32, u32), (i64, i64)) {
        (self.mode, self.owner, self.mtime)
    }
}

/// Reads a tree.
pub fn snapshot(root: &Path) -> Snapshot {
    let mut nodes = BTreeMap::new();
    let mut inodes: BTreeMap<(u64, u64), BTreeSet<Vec<u8>>> = BTreeMap::new();
    let mut inode_of = BTreeMap::new();
    for entry in walkdir::WalkDir::new(root) {
        let entry = entry.expect("a tree that can be read");
        let path = entry.path().strip_prefix(root).expect("below the root").as_os_str().as_bytes().to_vec();
        let meta = entry.path().symlink_metadata().expect("metadata");
        let (kind, content) = kind_and_content(entry.path(), &meta);
        let (mode, owner) = (meta.mode() & 0o7777, (meta.uid(), meta.gid()));
        let mtime = (meta.mtime(), meta.mtime_nsec());
        if kind == 'f' {
            inodes.entry((meta.dev(), meta.ino())).or_default().insert(path.clone());
            inode_of.insert(path.clone(), (meta.dev(), meta.ino()));
        }
        nodes.insert(path, Node { kind, mode, owner, mtime, content, names: BTreeSet::new() });
    }
    for (path, inode) in inode_of {
        if let Some(node) = nodes.get_mut(&path) {
            node.names.clone_from(&inodes[&inode]);
        }
    }
    Snapshot(nodes)
}

/// A folder by itself.
pub fn folder(path: &Path) -> Node {
    let meta = path.symlink_metadata().expect("a folder");
    let (mode, owner, mtime) = (meta.mode() & 0o7777, (meta.uid(), meta.gid()), (meta.mtime(), meta.mtime_nsec()));
    Node { kind: 'd', mode, owner, mtime, content: Vec::new(), names: BTreeSet::new() }
}

fn kind_and_content(path: &Path, meta: &std::fs::Metadata) -> (char, Vec<u8>) {
    let kind = meta.file_type();
    if kind.is_file() {
        let mut hasher = blake3::Hasher::new();
        let mut file = std::fs::File::open(path).expect("a file that can be opened");
        std::io::copy(&mut file, &mut hasher).expect("a file that can be read");
        ('f', hasher.finalize().as_bytes().to_vec())
    } else if kind.is_dir() {
        ('d', Vec::new())
    } else if kind.is_symlink() {
        ('l', std::fs::read_link(path).expect("a target").as_os_str().as_bytes().to_vec())
    } else if kind.is_fifo() {
        ('p', Vec::new())
    } else if kind.is_socket() {
        ('s', Vec::new())
    } else {
        (if kind.is_char_device() { 'c' } else { 'b' }, meta.rdev().to_le_bytes().to_vec())
    }
}

impl Snapshot {
    /// Expects that this tree is `wanted`.
    #[track_caller]
    pub fn assert_is(&self, wanted: &Self, what: &str) {
        let mut differences = Vec::new();
        for path in self.0.keys().chain(wanted.0.keys()).collect::<BTreeSet<_>>() {
            let (found, wanted) = (self.0.get(path), wanted.0.get(path));
            if found != wanted {
                differences.push(format!("{}: found {found:?}, wanted {wanted:?}", String::from_utf8_lossy(path)));
            }
        }
        let shown = differences.len().min(8);
        assert!(differences.is_empty(), "{what}: {} differ: {:#?}", differences.len(), &differences[..shown]);
    }

    /// What lies below `dir`, as a tree of its own.
    pub fn below(&self, dir: &str) -> Self {
        let mut nodes = BTreeMap::new();
        let cut = |path: &[u8]| {
            let rest = path.strip_prefix(dir.as_bytes())?;
            if rest.is_empty() { Some(Vec::new()) } else { rest.strip_prefix(b"/").map(<[u8]>::to_vec) }
        };
        for (path, node) in &self.0 {
            let Some(path) = cut(path) else { continue };
            let names = node.names.iter().filter_map(|name| cut(name)).collect();
            nodes.insert(path, Node { names, ..node.clone() });
        }
        Self(nodes)
    }

    /// What is different in `later`, by content hashes. Which names share a file does not count.
    pub fn changes_to(&self, later: &Self) -> Changes {
        let mut changes = Changes::default();
        for (path, now) in &later.0 {
            match self.0.get(path) {
                None => changes.added.insert(path.clone()),
                Some(old) if old.kind != now.kind || old.content != now.content => {
                    changes.modified.insert(path.clone())
                }
                Some(old) if old.metadata() != now.metadata() => changes.metadata.insert(path.clone()),
                Some(_) => false,
            };
        }
        changes.deleted = self.0.keys().filter(|path| !later.0.contains_key(*path)).cloned().collect();
        changes
    }

    /// The paths that share a file with another one.
    pub fn linked(&self) -> BTreeSet<Vec<u8>> {
        self.0.iter().filter(|(_, node)| node.names.len() > 1).map(|(path, _)| path.clone()).collect()
    }
}

/// Expects that `rsync`, where it is installed, finds nothing to do to make `found` what `wanted` is.
#[track_caller]
pub fn assert_rsync_silent(wanted: &Path, found: &Path) {
    if !super::needs::has_tools(&["rsync"]) {
        return;
    }
    let with_slash = |path: &Path| PathBuf::from(format!("{}/", path.display()));
    let output = Command::new("rsync")
        .args(["-naHc", "--delete", "--itemize-changes"])
        .args([with_slash(wanted), with_slash(found)])
        .output()
        .expect("rsync runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.is_empty(), "rsync sees a difference: {text}");
}
