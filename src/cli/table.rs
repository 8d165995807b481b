//! Tables without lines: fitted to the terminal's width, and one record a line where stdout is none. Where a terminal is too
//! narrow for all columns, those that do not fit stand on indented lines of their own below the row, as in the header.

use super::output::{Output, has_colour};
use comfy_table::{Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Table, Width, presets};
use std::io::IsTerminal;

/// Room that a column of words gets at least beside the others, if its words take so much.
const FLOW_MIN: u16 = 20;
/// Before the lines below a row.
const INDENT: u16 = 4;
/// Where the terminal does not say how wide it is.
const COLUMNS_DEFAULT: u16 = 80;
/// On less no table can be read.
const COLUMNS_MIN: u16 = 20;
/// Between two columns.
const GAP: u16 = 2;

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
    let found = || Table::new().width().filter(|columns| *columns > 0).unwrap_or(COLUMNS_DEFAULT).max(COLUMNS_MIN);
    let width = std::io::stdout().is_terminal().then(found);
    for line in lines(header, &rows, width) {
        out.line(line.trim_end());
    }
}

/// The lines for a terminal that is so wide, or with each row on a line of its own.
fn lines(header: &[(&str, Align)], rows: &[Vec<String>], width: Option<u16>) -> Vec<String> {
    let all: Vec<usize> = (0..header.len()).collect();
    let mut table = part(header, rows, (&all, None));
    let Some(width) = width else { return table.force_no_tty().lines().collect() };
    let content = table.column_max_content_widths();
    let least = |column: usize| match header[column].1 {
        Align::Flow => content[column].min(FLOW_MIN),
        Align::Left | Align::Right => content[column],
    };
    if all.iter().map(|column| least(*column).saturating_add(GAP)).fold(0, u16::saturating_add) <= width + GAP {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        for (column, (_, align)) in table.column_iter_mut().zip(header) {
            if *align == Align::Flow {
                column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(FLOW_MIN.min(width))));
            }
        }
        return table.lines().collect();
    }
    let groups = groups(&content, width);
    let mut lines = Vec::new();
    let line_of = |row: &[Vec<String>], is_header: bool, lines: &mut Vec<String>| {
        for (index, group) in groups.iter().enumerate() {
            let indent = if index == 0 { 0 } else { INDENT };
            let mut table = part(header, row, (group, Some((&content, width.saturating_sub(indent)))));
            let skipped = usize::from(!is_header);
            let indent = " ".repeat(usize::from(indent));
            lines.extend(table.set_width(width).lines().skip(skipped).map(|line| format!("{indent}{line}")));
        }
    };
    line_of(&[], true, &mut lines);
    rows.iter().for_each(|row| line_of(std::slice::from_ref(row), false, &mut lines));
    lines
}

/// The columns that stand on one line, as many as fit, for each line of a row.
fn groups(content: &[u16], width: u16) -> Vec<Vec<usize>> {
    let mut groups = vec![Vec::new()];
    let mut taken = 0_u16;
    for (column, wide) in content.iter().enumerate() {
        let is_first = groups.last().is_none_or(Vec::is_empty);
        if !is_first && taken.saturating_add(*wide) > width {
            groups.push(Vec::new());
            taken = INDENT;
        }
        taken = taken.saturating_add(*wide).saturating_add(GAP);
        groups.iter_mut().last().into_iter().for_each(|group| group.push(column));
    }
    groups
}

/// A table of some columns; with their contents' widths each has its own, though no more than there is.
fn part(header: &[(&str, Align)], rows: &[Vec<String>], (columns, fixed): (&[usize], Option<(&[u16], u16)>)) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if fixed.is_some() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    let bold = has_colour();
    table.set_header(columns.iter().map(|column| {
        let cell = Cell::new(header[*column].0);
        if bold { cell.add_attribute(Attribute::Bold) } else { cell }
    }));
    for row in rows {
        let texts = columns.iter().map(|column| row.get(*column).map_or("", String::as_str));
        table.add_row(texts.map(|text| match colour_of(text).filter(|_| bold) {
            Some(colour) => Cell::new(text).fg(colour),
            None => Cell::new(text),
        }));
    }
    let last = columns.len().saturating_sub(1);
    for (index, (column, place)) in table.column_iter_mut().zip(columns).enumerate() {
        let gap = if index == last { 0 } else { GAP };
        column.set_padding((0, gap));
        if header[*place].1 == Align::Right {
            column.set_cell_alignment(CellAlignment::Right);
        }
        column.set_constraint(match fixed {
            Some((content, room)) => {
                ColumnConstraint::Absolute(Width::Fixed(content[*place].saturating_add(gap).min(room)))
            }
            None => ColumnConstraint::ContentWidth,
        });
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    const RUNS: [(&str, Align); 10] = [
        ("RUN", Align::Right),
        ("STARTED", Align::Left),
        ("FILES", Align::Right),
        ("CHANGES", Align::Left),
        ("SIZE", Align::Right),
        ("READ", Align::Right),
        ("NEW", Align::Right),
        ("STORED", Align::Right),
        ("LABEL", Align::Flow),
        ("SOURCE", Align::Flow),
    ];

    #[test]
    fn rows_that_are_too_wide_go_on_below_and_no_word_is_torn() {
        let size = "286.1 MiB";
        let run = ["12", "2026-09-01 12:30", "78,455", "+1,200 ~34 -5", size, size, size, size];
        let rows: Vec<Vec<String>> = ["before the clean-up [trip,raw]", ""]
            .map(|label| cells(&[&run[..], &[label, "/home/ann/pictures"]].concat()))
            .to_vec();
        let all = lines(&RUNS, &rows, Some(80));
        assert!(all.iter().all(|line| line.trim_end().len() <= 80), "{all:#?}");
        let text = all.join("\n");
        for (word, times) in
            [("before the clean-up [trip,raw]", 1), ("/home/ann/pictures", 2), (size, 8), ("SOURCE", 1)]
        {
            assert_eq!(text.matches(word).count(), times, "{word}: {text}");
        }
        assert_eq!(all.len() % 3, 0, "{text}");
        // A header stands over its column.
        let place = |line: &str, word: &str| line.find(word).map(|at| at + word.len());
        let below = all.iter().position(|line| line.contains("STORED")).unwrap();
        let row = all.iter().position(|line| line.contains("before the")).unwrap();
        assert_eq!(place(&all[below], "LABEL").map(|end| end - 5), all[row].find("before"), "{text}");
    }

    #[test]
    fn a_row_is_one_line_where_there_is_room_or_no_terminal() {
        let header = [("VOLUME", Align::Left), ("STATE", Align::Left), ("PATH", Align::Flow)];
        let long = "x".repeat(70);
        let rows = vec![cells(&["blue", "active", "/mnt/disk1"]), cells(&["green", "offline", &long])];
        let all = lines(&header, &rows, None);
        assert_eq!((all.len(), all[2].ends_with(&long)), (3, true), "{all:#?}");
        assert_eq!(lines(&header, &rows[..1], Some(80)).len(), 2);
        // Words flow beside short columns.
        assert_eq!(lines(&header, &rows, Some(80)).len(), 4);
        let rows = vec![cells(&["a-name-of-twenty-eight-lette", "active", "/mnt"])];
        let narrow = lines(&header, &rows, Some(40));
        assert!(narrow.iter().any(|line| line.starts_with("a-name-of-twenty-eight-lette  active")), "{narrow:#?}");
        // What is wider than the terminal has no better place.
        assert!(lines(&header, &rows, Some(10)).iter().all(|line| line.trim_end().len() <= 14));
    }
}
