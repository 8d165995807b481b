//! Words of a command line as others read them: a shell, and systemd.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// One word for a shell. Where it has control characters or is not UTF-8: for bash, zsh and ksh, by `$'…'`.
pub fn shell(word: &OsStr) -> String {
    match word.to_str() {
        Some(text) if !text.is_empty() && text.bytes().all(is_plain) => text.to_owned(),
        Some(text) if !text.chars().any(char::is_control) => format!("'{}'", text.replace('\'', r"'\''")),
        _ => format!("$'{}'", escaped(word, b"'")),
    }
}

/// Words for a shell, with spaces between them.
pub fn shell_line<W: AsRef<OsStr>>(words: &[W]) -> String {
    words.iter().map(|word| shell(word.as_ref())).collect::<Vec<_>>().join(" ")
}

/// One argument of an `ExecStart=` line, by systemd.service(5): quoted where it must be, `%` and `$` doubled.
pub fn systemd(word: &OsStr) -> String {
    let bytes = word.as_bytes();
    if !bytes.is_empty() && bytes.iter().all(|byte| is_plain(*byte)) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    format!("\"{}\"", escaped(word, b"\"").replace('%', "%%").replace('$', "$$"))
}

/// The program at the beginning of an `ExecStart=` line, or a path in another setting: nothing is put in for `$` there.
pub fn systemd_path(path: &OsStr) -> String {
    systemd(path).replace("$$", "$")
}

/// What no reader takes for anything but itself.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-+=./:,@".contains(&byte)
}

/// With backslashes before `special` characters and backslashes; control characters, and bytes that are no UTF-8, as
/// `\xHH`.
fn escaped(word: &OsStr, special: &[u8]) -> String {
    let mut text = String::new();
    for chunk in word.as_bytes().utf8_chunks() {
        for character in chunk.valid().chars() {
            match u8::try_from(character) {
                Ok(byte) if byte.is_ascii_control() => text.push_str(&format!("\\x{byte:02x}")),
                Ok(byte) if byte == b'\\' || special.contains(&byte) => text.extend(['\\', character]),
                _ => text.push(character),
            }
        }
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_gets_back_every_word() {
        let words: [&[u8]; 10] = [
            b"plain-1.0/x",
            b"",
            b"two words",
            b"it's",
            b"$HOME `id` \\ \"q\"",
            b"100%",
            b"*.o",
            b"~/x",
            b"line\nbreak",
            b"\xff'\\\x01",
        ];
        for word in words.map(OsStr::from_bytes) {
            let script = format!("printf '%s' {}", shell(word));
            let said = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
            assert_eq!(said.stdout, word.as_bytes(), "{script}");
        }
        assert_eq!(shell(OsStr::new("/mnt/disk1")), "/mnt/disk1");
    }

    #[test]
    fn systemd_gets_quotes_and_doubled_signs() {
        for (word, quoted) in [
            (&b"/home"[..], "/home"),
            (b"", "\"\""),
            (b"a b", "\"a b\""),
            (b"50%", "\"50%%\""),
            (b"$HOME", "\"$$HOME\""),
            (b"it's \"x\" \\", "\"it's \\\"x\\\" \\\\\""),
            (b";", "\";\""),
            (b"\xff\n", "\"\\xff\\x0a\""),
        ] {
            assert_eq!(systemd(OsStr::from_bytes(word)), quoted);
        }
        assert_eq!(systemd_path(OsStr::new("/opt/a $b/50%/raidtape")), "\"/opt/a $b/50%%/raidtape\"");
    }
}
