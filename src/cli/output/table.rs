//! Aligned tables.
//!
//! Invariant: a stored text can neither break the table nor reach the terminal as a command.

use std::io::{self, Write};

use super::{Style, Tone};

/// One cell of a table.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// In the given tone.
    #[must_use]
    pub fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: printable(&text.into()), tone }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

/// The least that a text may be squeezed into; where less is left it goes below its row.
const MIN_WRAPPED: usize = 24;

/// How far a text below its row is set in.
const INDENT: usize = 4;

/// An aligned table. On a terminal the last column is folded into the width that is left, so that
/// no line is broken by the terminal as long as the other columns fit.
#[derive(Clone, Debug)]
pub struct Table {
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// With its headings.
    #[must_use]
    pub fn new<const N: usize>(headings: [&str; N]) -> Self {
        let heading = headings.map(|text| Cell::toned(text, Tone::Dim));
        Self { rows: vec![heading.into()] }
    }

    /// Adds a row with as many cells as there are headings.
    pub fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        self.rows.push(cells.into());
    }

    /// Whether it has no row besides its headings.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    /// Prints it.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn print(&self, out: &mut impl Write, style: Style) -> io::Result<()> {
        let n_columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            let widths = self.rows.iter().filter_map(|row| row.get(column));
            widths.map(|cell| cell.text.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..n_columns).map(width).collect();
        let last = n_columns.saturating_sub(1);
        let before_last: usize = widths.iter().take(last).map(|width| width + 2).sum();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths).take(last) {
                let padding = width - cell.text.chars().count().min(*width);
                line.push_str(&cell.tone.paint(&cell.text, style));
                line.push_str(&" ".repeat(padding + 2));
            }
            let Some(cell) = row.get(last) else { continue };
            let left = style.columns().map(|columns| columns.saturating_sub(before_last));
            let fits = left.is_none_or(|left| cell.text.chars().count() <= left);
            if fits {
                line.push_str(&cell.tone.paint(&cell.text, style));
                writeln!(out, "{}", line.trim_end())?;
                continue;
            }
            let left = left.unwrap_or_default();
            let (indent, room) = if left >= MIN_WRAPPED {
                (before_last, left)
            } else {
                writeln!(out, "{}", line.trim_end())?;
                line.clear();
                (INDENT, style.columns().unwrap_or_default().saturating_sub(INDENT))
            };
            for part in folded(&cell.text, room) {
                if line.is_empty() {
                    line = " ".repeat(indent);
                }
                writeln!(out, "{line}{}", cell.tone.paint(&part, style))?;
                line.clear();
            }
        }
        Ok(())
    }
}

/// A line break or an escape in a stored text must break neither the table nor the terminal.
#[must_use]
pub fn printable(text: &str) -> String {
    crate::text::printable(text).replace(['\n', '\t'], " ")
}

/// The text in lines of at most this many characters, broken between words where that can be done.
#[must_use]
pub fn folded(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(1);
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.len() <= columns => {
                line.push(' ');
                line.extend(word);
                continue;
            }
            Some(_) | None => {}
        }
        while word.len() > columns {
            let rest = word.split_off(columns);
            lines.push(word.into_iter().collect());
            word = rest;
        }
        lines.push(word.into_iter().collect());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::Colours;
    use super::*;

    #[test]
    fn on_a_terminal_no_line_is_longer_than_it_and_no_word_is_lost() {
        let words: String = (0..40).map(|n| format!("word{n} ")).collect();
        for first in ["short", &"x".repeat(70), &"y".repeat(100)] {
            let mut table = Table::new(["NAME", "WHY"]);
            table.row([first.into(), words.as_str().into()]);
            table.row(["z".into(), "z".repeat(200).into()]);
            let mut out = Vec::new();
            let terminal = Style::Terminal { colours: Colours::Off, columns: 80 };
            table.print(&mut out, terminal).unwrap();
            let text = String::from_utf8(out).unwrap();
            let longest = text.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(longest <= 80.max(first.len()), "{text}");
            assert_eq!(text.matches("word").count(), 40, "{text}");
            assert_eq!(text.matches('z').count(), 201, "{text}");
        }
    }

    #[test]
    fn tables_are_aligned_and_hold_no_control_characters_of_stored_texts() {
        let mut table = Table::new(["NAME", "WHY"]);
        table.row(["a".into(), Cell::toned("bad\x1b[2J\nnews", Tone::Bad)]);
        table.row(["längst".into(), "".into()]);
        let print = |style| {
            let mut out = Vec::new();
            table.print(&mut out, style).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(print(Style::Plain), "NAME    WHY\na       bad news\nlängst\n");
        let terminal = Style::Terminal { colours: Colours::Shown, columns: 80 };
        assert!(print(terminal).contains("\x1b[31mbad news\x1b[0m"));
    }
}
