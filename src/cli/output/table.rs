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
        // A line break or an escape in a stored text must not break the table or the terminal.
        let text = crate::text::printable(&text.into()).replace(['\n', '\t'], " ");
        Self { text, tone }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

/// An aligned table; the last column is not padded.
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
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let padding = width - cell.text.chars().count().min(*width);
                line.push_str(&cell.tone.paint(&cell.text, style));
                line.push_str(&" ".repeat(padding + 2));
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(print(Style::Plain), "NAME    WHY\na       bad [2J news\nlängst\n");
        assert!(print(Style::Colour).contains("\x1b[31mbad [2J news\x1b[0m"));
    }
}
