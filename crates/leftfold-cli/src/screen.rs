//! Standard output: lines and tables for people, objects of JSON for programs.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use jiff::tz::TimeZone;
use leftfold::store::Timestamp;
use serde_json::Value;

use crate::failure::CliFailure;

/// Options of what is written, the same for every command.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct ScreenOptions {
    /// Writes one JSON object a line, for programs
    #[arg(long, global = true, display_order = 900)]
    pub(crate) json: bool,
    /// Shows times in UTC instead of the time zone of this machine
    #[arg(long, global = true, display_order = 901)]
    pub(crate) utc: bool,
}

/// Standard output of a command.
pub(crate) struct Screen {
    out: BufWriter<Stdout>,
    zone: TimeZone,
    json: bool,
    colours: bool,
    terminal: bool,
}

/// A colour of a text on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tint {
    Bold,
    Dim,
    Green,
    Red,
    Cyan,
}

impl Screen {
    pub(crate) fn new(options: ScreenOptions) -> Self {
        let terminal = io::stdout().is_terminal();
        let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let zone = if options.utc { TimeZone::UTC } else { TimeZone::system() };
        Self {
            out: BufWriter::new(io::stdout()),
            zone,
            json: options.json,
            colours: terminal && !is_plain,
            terminal,
        }
    }

    /// Tells whether programs read the output.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, text: impl AsRef<str>) -> Result<(), CliFailure> {
        let text = text.as_ref();
        self.out.write_all(text.as_bytes())?;
        self.out.write_all(b"\n")?;
        // A person sees each line as it comes; a pipe takes them in large pieces.
        if self.terminal {
            self.out.flush()?;
        }
        Ok(())
    }

    /// Writes an object on a line.
    pub(crate) fn object(&mut self, value: &Value) -> Result<(), CliFailure> {
        self.line(value.to_string())
    }

    /// Sends what was written on its way.
    pub(crate) fn flush(&mut self) -> Result<(), CliFailure> {
        Ok(self.out.flush()?)
    }

    /// The text in a colour, on a terminal that has them.
    pub(crate) fn tint(&self, tint: Tint, text: &str) -> String {
        if !self.colours || text.is_empty() {
            return text.to_owned();
        }
        let code = match tint {
            Tint::Bold => 1,
            Tint::Dim => 2,
            Tint::Red => 31,
            Tint::Green => 32,
            Tint::Cyan => 36,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// A time in the zone of the person, to the second.
    pub(crate) fn time(&self, at: Timestamp) -> String {
        if at == Timestamp::MIN {
            return "never".to_owned();
        }
        match jiff::Timestamp::from_microsecond(at.as_micros()) {
            Ok(moment) => {
                let shown = moment.to_zoned(self.zone.clone());
                shown.strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
            }
            Err(_) => at.to_string(),
        }
    }

    /// Writes a remark below what was asked for, for people alone.
    pub(crate) fn note(&mut self, text: &str) -> Result<(), CliFailure> {
        if !self.json {
            self.line(self.tint(Tint::Dim, text))?;
        }
        self.flush()
    }

    /// Writes names and values below one another.
    pub(crate) fn facts(&mut self, facts: &[(&str, String)]) -> Result<(), CliFailure> {
        let wide = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in facts {
            let name = self.tint(Tint::Dim, &format!("{name:wide$}"));
            self.line(format!("{name}  {value}"))?;
        }
        Ok(())
    }

    /// Writes a table.
    pub(crate) fn table(&mut self, table: &TextTable) -> Result<(), CliFailure> {
        let wide: Vec<usize> = (0..table.heads.len())
            .map(|at| {
                let cells = table.rows.iter().map(|row| columns(&row[at]));
                cells.chain([columns(&table.heads[at].0)]).max().unwrap_or(0)
            })
            .collect();
        let heads: Vec<String> = table.heads.iter().map(|(name, _)| name.clone()).collect();
        let head = table.laid_out(&heads, &wide);
        self.line(self.tint(Tint::Bold, &head))?;
        for row in &table.rows {
            self.line(table.laid_out(row, &wide))?;
        }
        Ok(())
    }
}

/// Side to which the cells of a column are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

/// A table for people: each column as wide as its widest cell.
#[derive(Clone, Debug)]
pub(crate) struct TextTable {
    heads: Vec<(String, Side)>,
    rows: Vec<Vec<String>>,
}

impl TextTable {
    pub(crate) fn new(heads: &[(&str, Side)]) -> Self {
        Self::of(heads.iter().map(|(name, side)| ((*name).to_owned(), *side)).collect())
    }

    pub(crate) fn of(heads: Vec<(String, Side)>) -> Self {
        Self { heads, rows: Vec::new() }
    }

    /// Adds a row, of as many cells as there are heads.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.heads.len(), "a row has a cell for each head");
        self.rows.push(cells.into_iter().map(|cell| printable(&cell)).collect());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn laid_out(&self, cells: &[String], wide: &[usize]) -> String {
        let mut line = String::new();
        for (at, cell) in cells.iter().enumerate() {
            let room = " ".repeat(wide[at] - columns(cell).min(wide[at]));
            if at > 0 {
                line.push_str("  ");
            }
            match self.heads[at].1 {
                Side::Left => line.extend([cell, &room[..]]),
                Side::Right => line.extend([&room[..], cell]),
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// A text from a store as it may stand on a terminal: without control characters, which could
/// change what is seen of other lines.
pub(crate) fn printable(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    text.chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}

fn columns(text: &str) -> usize {
    text.chars().count()
}

/// A number with separators of thousands.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number and its noun.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(number))
}

/// A number of bytes in a unit that people read.
pub(crate) fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if number < 1 << 10 {
        return format!("{number} B");
    }
    let mut tenths = u128::from(number) * 10 / 1_024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1_024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([1_023, 1_024, 1 << 30].map(bytes), ["1023 B", "1.0 KiB", "1.0 GiB"]);
        assert_eq!(bytes(u64::MAX), "16383.9 PiB");
        assert_eq!(counted(1, "event") + &counted(2, "event"), "1 event2 events");
    }

    #[test]
    fn a_table_has_its_columns_below_one_another() {
        let mut table = TextTable::new(&[("name", Side::Left), ("n", Side::Right)]);
        table.row(vec!["ä".to_owned(), "1,000".to_owned()]);
        table.row(vec!["a\u{1b}[31m".to_owned(), "2".to_owned()]);
        let cells = &table.rows[1];
        assert_eq!(table.laid_out(cells, &[11, 5]), "a\\u{1b}[31m      2");
        assert_eq!(table.laid_out(&table.rows[0], &[11, 5]), "ä            1,000");
    }
}
