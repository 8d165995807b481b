//! Tables without lines: fitted to the terminal's width, and one record a line where stdout is none.

use super::output::{Output, has_colour};
use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, Table, presets};
use std::io::IsTerminal;

/// How a column stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Prints rows below a header.
pub fn print(out: &mut Output, header: &[(&str, Align)], rows: Vec<Vec<String>>) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if std::io::stdout().is_terminal() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    } else {
        table.force_no_tty().set_content_arrangement(ContentArrangement::Disabled);
    }
    let bold = has_colour();
    table.set_header(header.iter().map(|(name, _)| {
        let cell = Cell::new(name);
        if bold { cell.add_attribute(Attribute::Bold) } else { cell }
    }));
    table.add_rows(rows);
    let last = header.len().saturating_sub(1);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if index == last { 0 } else { 2 }));
        if header.get(index).is_some_and(|(_, align)| *align == Align::Right) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for line in table.lines() {
        out.line(line.trim_end());
    }
}
