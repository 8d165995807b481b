//! What somebody does with files. Whatever is in the way goes; what does not apply is left out.

use super::ops::{Content, Op};
use crate::util::needs::is_root;
use crate::util::tree::{Rng, insert, make_fifo, overwrite, set_mode, set_mtime};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

impl Content {
    fn bytes(self) -> Vec<u8> {
        let mut rng = Rng(self.seed);
        if self.seed.is_multiple_of(2) { rng.bytes(self.len) } else { rng.text(self.len) }
    }
}

fn is_file(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|meta| meta.is_file())
}

fn remove(path: &Path) {
    match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

/// Makes sure that what `path` is to lie in is a folder.
fn make_parent(root: &Path, path: &str) {
    let mut at = root.to_owned();
    let (parent, _) = path.rsplit_once('/').unwrap();
    for name in parent.split('/') {
        at.push(name);
        if !at.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            remove(&at);
            fs::create_dir(&at).unwrap();
        }
    }
}

/// An empty place.
fn clear(root: &Path, path: &str) {
    make_parent(root, path);
    remove(&root.join(path));
}

fn part(path: &Path, hundredths: u8) -> u64 {
    path.metadata().unwrap().len() * u64::from(hundredths) / 100
}

/// Whether both can be there at once, and in one source: a name in another one is told as a change of metadata, and the
/// oracle does not see it.
fn can_be_two(from: &str, to: &str) -> bool {
    let source = |path: &str| path.split('/').next().map(str::to_owned);
    source(from) == source(to) && !from.starts_with(to) && !to.starts_with(from)
}

fn rename(root: &Path, from: &str, to: &str) {
    let there = root.join(from);
    if there.symlink_metadata().is_err() || !can_be_two(from, to) {
        return;
    }
    make_parent(root, to);
    // A file onto a file is one step; a folder takes no other's place.
    let is_one_step = is_file(&there) && is_file(&root.join(to));
    if !is_one_step {
        remove(&root.join(to));
    }
    if there.symlink_metadata().is_ok() {
        fs::rename(there, root.join(to)).unwrap();
    }
}

fn hard_link(root: &Path, from: &str, to: &str) {
    if is_file(&root.join(from)) && can_be_two(from, to) {
        clear(root, to);
        if is_file(&root.join(from)) {
            fs::hard_link(root.join(from), root.join(to)).unwrap();
        }
    }
}

fn overwrite_unseen(path: &Path, at: u8) {
    let meta = path.metadata().unwrap();
    let at = part(path, at);
    if at < meta.len() {
        let old = fs::read(path).unwrap()[at as usize];
        overwrite(path, at, &[old ^ 0x55]);
        set_mtime(path, (meta.mtime(), meta.mtime_nsec() as u32));
    }
}

/// Does it below `root`, and returns the path that it is about; `None` when it is nothing that is done with files.
pub fn act(root: &Path, op: &Op) -> Option<&'static str> {
    change(root, op);
    match op {
        Op::Write(path, _)
        | Op::Append(path, _)
        | Op::Insert(path, ..)
        | Op::OverwriteUnseen(path, _)
        | Op::Truncate(path, _)
        | Op::Rename(path, _)
        | Op::Remove(path)
        | Op::Chmod(path, _)
        | Op::Touch(path, _)
        | Op::HardLink(path, _)
        | Op::Symlink(path, _)
        | Op::MakeDir(path)
        | Op::Fifo(path) => Some(path),
        _ => None,
    }
}

fn change(root: &Path, op: &Op) {
    let of_file = |path: &str| Some(root.join(path)).filter(|path| is_file(path));
    match op {
        Op::Write(path, content) => {
            make_parent(root, path);
            if !is_file(&root.join(path)) {
                remove(&root.join(path));
            }
            fs::write(root.join(path), content.bytes()).unwrap();
        }
        Op::Append(path, len) => {
            if let Some(path) = of_file(path) {
                let len = *len as usize;
                insert(&path, path.metadata().unwrap().len() as usize, &Rng(len as u64).bytes(len));
            }
        }
        Op::Insert(path, at, len) => {
            if let Some(path) = of_file(path) {
                insert(&path, part(&path, *at) as usize, &Rng(u64::from(*len)).bytes(*len as usize));
            }
        }
        Op::OverwriteUnseen(path, at) => of_file(path).iter().for_each(|path| overwrite_unseen(path, *at)),
        Op::Truncate(path, at) => {
            if let Some(path) = of_file(path) {
                fs::File::options().write(true).open(&path).unwrap().set_len(part(&path, *at)).unwrap();
            }
        }
        Op::Rename(from, to) => rename(root, from, to),
        Op::Remove(path) => remove(&root.join(path)),
        Op::Chmod(path, mode) => {
            let path = root.join(path);
            if path.symlink_metadata().is_ok_and(|meta| !meta.is_symlink()) {
                // Who is not root must be able to read what is to be compared.
                set_mode(&path, if is_root() { *mode } else { *mode | 0o700 });
            }
        }
        Op::Touch(path, s) => {
            let path = root.join(path);
            if path.symlink_metadata().is_ok() {
                set_mtime(&path, (*s, 7));
            }
        }
        Op::HardLink(from, to) => hard_link(root, from, to),
        Op::Symlink(path, to) => {
            clear(root, path);
            symlink(to, root.join(path)).unwrap();
        }
        Op::MakeDir(path) => {
            clear(root, path);
            fs::create_dir(root.join(path)).unwrap();
        }
        Op::Fifo(path) => {
            clear(root, path);
            make_fifo(&root.join(path));
        }
        _ => {}
    }
}
