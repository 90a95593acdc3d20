//! The table: a row a thing that users do, a column a direction of a meeting.

use std::fmt::Write as _;

use super::matrix::ROWS;

/// What nobody has found out.
const UNKNOWN: &str = "?";

/// One direction of one pair; a cell for each of [`ROWS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub title: String,
    pub cells: Vec<String>,
}

/// Columns, in Markdown.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Table {
    columns: Vec<Column>,
}

impl Table {
    /// With those columns, none of them known yet.
    pub fn unknown<S: AsRef<str>>(titles: &[S]) -> Self {
        let column = |title: &S| Column {
            title: title.as_ref().to_owned(),
            cells: vec![UNKNOWN.to_owned(); ROWS.len()],
        };
        Self {
            columns: titles.iter().map(column).collect(),
        }
    }

    /// Reads what [`Display`](std::fmt::Display) has written. What it says of
    /// rows and columns that there are no more is left out.
    pub fn read(text: &str, titles: &[String]) -> Self {
        let mut lines = text.lines().filter(|line| line.starts_with('|'));
        let header = cells(lines.next().unwrap_or_default());
        let lines: Vec<Vec<&str>> = lines.map(cells).collect();
        let mut table = Self::unknown(titles);
        for column in &mut table.columns {
            let at = header.iter().position(|title| *title == column.title);
            for (row, cell) in ROWS.iter().zip(&mut column.cells) {
                let line = lines.iter().find(|line| line.first() == Some(&row.title));
                if let Some(known) = at.and_then(|at| line?.get(at)) {
                    *cell = (*known).to_owned();
                }
            }
        }
        table
    }

    /// Puts each of them in the place of the one with its title.
    pub fn put(&mut self, columns: &[Column]) {
        for column in columns {
            let mut own = self.columns.iter_mut();
            match own.find(|own| own.title == column.title) {
                Some(own) => own.clone_from(column),
                None => self.columns.push(column.clone()),
            }
        }
    }

    /// Whether there is nothing left to find out.
    pub fn is_complete(&self) -> bool {
        let mut cells = self.columns.iter().flat_map(|column| &column.cells);
        cells.all(|cell| cell != UNKNOWN)
    }

    /// Whether any cell refers to that number of the list of limits.
    pub fn refers_to(&self, number: usize) -> bool {
        let mut cells = self.columns.iter().flat_map(|column| &column.cells);
        cells.any(|cell| cell.ends_with(&format!("({number})")))
    }

    /// The cells that differ: column, row, here, there.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for (own, others) in self.columns.iter().zip(&other.columns) {
            for (row, (own_cell, other_cell)) in
                ROWS.iter().zip(own.cells.iter().zip(&others.cells))
            {
                if own_cell != other_cell {
                    let place = format!("{}, {}", own.title, row.title);
                    found.push(format!("{place}: {own_cell:?} instead of {other_cell:?}"));
                }
            }
        }
        found
    }
}

fn cells(line: &str) -> Vec<&str> {
    let line = line.trim().trim_start_matches('|').trim_end_matches('|');
    line.split('|').map(str::trim).collect()
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut lines = vec![String::from("| |"), String::from("|---|")];
        lines.extend(ROWS.iter().map(|row| format!("| {} |", row.title)));
        for column in &self.columns {
            let cells = column.cells.iter().map(|cell| format!(" {cell} |"));
            let all = [format!(" {} |", column.title), "---|".to_owned()];
            for (line, cell) in lines.iter_mut().zip(all.into_iter().chain(cells)) {
                line.write_str(&cell)?;
            }
        }
        writeln!(f, "{}", lines.join("\n"))
    }
}

#[test]
fn what_is_written_is_read() {
    let titles = ["A → B".to_owned(), "B → A".to_owned()];
    let mut table = Table::unknown(&titles);
    assert!(!table.is_complete());
    let column = |title: &str, cell: &str| Column {
        title: title.to_owned(),
        cells: vec![cell.to_owned(); ROWS.len()],
    };
    table.put(&[column("B → A", "**no** (2)")]);
    assert_eq!(Table::read(&table.to_string(), &titles), table);
    assert!(table.refers_to(2) && !table.refers_to(1));
    assert!(!table.is_complete());

    let mut other = Table::read(&table.to_string(), &titles);
    other.put(&[column("A → B", "yes")]);
    assert!(other.is_complete());
    assert_eq!(other.differences(&table).len(), ROWS.len());
    let first = format!("A → B, {}: \"yes\" instead of \"?\"", ROWS[0].title);
    assert_eq!(other.differences(&table)[0], first);
}
