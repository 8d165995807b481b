//! stderr as the terminal that a bar is drawn on, two columns narrower than it is: the `^C` that a terminal echoes
//! behind the bar then stays on the bar's line, and goes when the bar goes.

use indicatif::TermLike;
use std::io::{self, Write};

/// Columns for the echo of a control character.
const ECHO_COLUMNS: u16 = 2;
/// Where the terminal does not say.
const COLUMNS_DEFAULT: u16 = 80;
/// A bar needs some room, or it is all wrapping.
const COLUMNS_MIN: u16 = 20;

/// The terminal behind stderr.
#[derive(Debug)]
pub struct Screen;

fn put(text: &str) -> io::Result<()> {
    io::stderr().lock().write_all(text.as_bytes())
}

fn move_cursor(n: usize, direction: char) -> io::Result<()> {
    if n == 0 { Ok(()) } else { put(&format!("\x1b[{n}{direction}")) }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        let found = rustix::termios::tcgetwinsize(io::stderr()).map(|size| size.ws_col);
        let columns = found.ok().filter(|columns| *columns > 0).unwrap_or(COLUMNS_DEFAULT);
        columns.saturating_sub(ECHO_COLUMNS).max(COLUMNS_MIN)
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        move_cursor(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        move_cursor(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        move_cursor(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        move_cursor(n, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        put(&format!("{text}\n"))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        put(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        put("\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}
