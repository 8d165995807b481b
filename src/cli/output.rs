//! Where words go: results on stdout, everything else on stderr. A reader that went away never fails a command that
//! stores or checks something; any other failure of stdout is kept and reported at the end.

use raidtape::model::path::is_control;
use serde::Serialize;
use std::io::{BufWriter, ErrorKind, IsTerminal, Stdout, Write};

/// Writes results.
pub struct Output {
    out: BufWriter<Stdout>,
    failed: Option<std::io::Error>,
    is_closed: bool,
    is_watched: bool,
    /// One JSON document in place of words.
    pub is_json: bool,
    /// No words about success.
    pub is_quiet: bool,
}

impl Output {
    /// On this process's stdout.
    pub fn new(is_json: bool, is_quiet: bool) -> Self {
        let is_watched = std::io::stdout().is_terminal();
        Self { out: BufWriter::new(std::io::stdout()), failed: None, is_closed: false, is_watched, is_json, is_quiet }
    }

    /// One line of a result.
    pub fn line(&mut self, text: &str) {
        if self.is_closed {
            return;
        }
        if let Err(error) = writeln!(self.out, "{text}") {
            self.close(error);
        }
    }

    /// One line of a result that is long in coming: on a terminal it is there at once.
    pub fn line_now(&mut self, text: &str) {
        self.line(text);
        if self.is_watched {
            self.flush();
        }
    }

    /// Whether the reader went away, so that nothing more need be found for it.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Where bytes go that are a result themselves; who writes them sees to errors.
    pub fn bytes(&mut self) -> &mut dyn Write {
        &mut self.out
    }

    /// One line about what was done, at once, before any words on stderr; nothing with `--quiet` or `--json`.
    pub fn say(&mut self, text: &str) {
        if !self.is_quiet && !self.is_json {
            self.line(text);
            self.flush();
        }
    }

    /// One JSON document on a line, `body`'s fields behind `message_type`; its fields stand in `JSON.md`.
    pub fn document(&mut self, message_type: &str, body: &impl Serialize) {
        match json_line(message_type, body) {
            Ok(text) => self.line(&text),
            Err(error) => self.failed = Some(error.into()),
        }
    }

    /// Writes out what is buffered; the error is what went wrong since the beginning, a closed pipe excepted.
    pub fn finish(&mut self) -> std::io::Result<()> {
        self.flush();
        self.failed.take().map_or(Ok(()), Err)
    }

    /// Writes out what is buffered, before somebody else writes to the same place.
    pub fn flush(&mut self) {
        if !self.is_closed
            && let Err(error) = self.out.flush()
        {
            self.close(error);
        }
    }

    fn close(&mut self, error: std::io::Error) {
        self.is_closed = true;
        if error.kind() != ErrorKind::BrokenPipe {
            self.failed = Some(error);
        }
    }
}

/// Version of what `--json` prints, as `JSON.md` has it: counts up when a field goes, or means something else.
pub const SCHEMA_VERSION: u32 = 1;

/// The fields of `body` behind `message_type` and `schema_version`, on one line.
pub fn json_line(message_type: &str, body: &impl Serialize) -> serde_json::Result<String> {
    #[derive(Serialize)]
    struct Message<'a, T> {
        message_type: &'a str,
        schema_version: u32,
        #[serde(flatten)]
        body: &'a T,
    }
    serde_json::to_string(&Message { message_type, schema_version: SCHEMA_VERSION, body })
}

/// One line on stderr; a stderr that is closed or full changes nothing.
pub fn stderr_line(text: &str) {
    let mut err = std::io::stderr().lock();
    let painted = if err.is_terminal() && may_colour() { with_coloured_head(text) } else { text.to_owned() };
    // One write a line, so that lines of several processes do not mix.
    let _ = err.write_all(format!("{painted}\n").as_bytes());
}

/// Words that are more than words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// It is not well.
    Red,
    /// Look here.
    Yellow,
    /// It is well.
    Green,
}

/// A line for stdout, coloured where that is wanted.
pub fn painted(text: &str, colour: Colour) -> String {
    if has_colour() { paint(text, colour) } else { text.to_owned() }
}

fn paint(text: &str, colour: Colour) -> String {
    let number = match colour {
        Colour::Red => 31,
        Colour::Yellow => 33,
        Colour::Green => 32,
    };
    format!("\x1b[{number}m{text}\x1b[0m")
}

/// A line about a failure begins red, a warning yellow, a note as it is.
fn with_coloured_head(text: &str) -> String {
    let Some(rest) = text.strip_prefix("raidtape: ") else { return text.to_owned() };
    match rest.strip_prefix("warning: ") {
        Some(rest) => format!("raidtape: {} {rest}", paint("warning:", Colour::Yellow)),
        None if rest.starts_with("note: ") => text.to_owned(),
        None => format!("{} {rest}", paint("raidtape:", Colour::Red)),
    }
}

/// stderr for a child's stdout, so that this process's stdout carries results alone.
pub fn stderr_for_child() -> std::process::Stdio {
    std::io::stderr().into()
}

/// Whether stdout may be coloured: a terminal that can, and no wish against it.
pub fn has_colour() -> bool {
    std::io::stdout().is_terminal() && may_colour()
}

/// Whether the user wants colours, and the terminal knows them.
fn may_colour() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    !is_set("NO_COLOR") && !is_dumb
}

/// Text that others chose, as one harmless line: control characters are escaped, also those of text direction.
pub fn one_line(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_control(character) { shown.extend(character.escape_default()) } else { shown.push(character) }
    }
    shown
}
