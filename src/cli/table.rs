//! Tables without lines: fitted to the terminal's width, and one record a line where stdout is none.

use super::output::{Output, has_colour};
use comfy_table::{Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Table, Width, presets};
use std::io::IsTerminal;

/// Where even this does not fit, the terminal may wrap the line: better than one letter a line.
const FLOW_MIN: u16 = 12;

/// How a column stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words that stay whole.
    Left,
    /// Words that may take several lines where the terminal is narrow.
    Flow,
    /// Numbers.
    Right,
}

/// The colour of a cell that is one word about a state.
fn colour_of(text: &str) -> Option<Color> {
    match text {
        "active" => Some(Color::Green),
        "offline" | "open" | "readonly" => Some(Color::Yellow),
        "lost" | "aborted" => Some(Color::Red),
        _ => None,
    }
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
    for row in rows {
        table.add_row(row.into_iter().map(|text| match colour_of(&text).filter(|_| bold) {
            Some(colour) => Cell::new(text).fg(colour),
            None => Cell::new(text),
        }));
    }
    let last = header.len().saturating_sub(1);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if index == last { 0 } else { 2 }));
        let align = header.get(index).map_or(Align::Left, |(_, align)| *align);
        if align == Align::Right {
            column.set_cell_alignment(CellAlignment::Right);
        }
        column.set_constraint(match align {
            Align::Flow => ColumnConstraint::LowerBoundary(Width::Fixed(FLOW_MIN)),
            Align::Left | Align::Right => ColumnConstraint::ContentWidth,
        });
    }
    for line in table.lines() {
        out.line(line.trim_end());
    }
}
