//! The table: a row for each figure, in Markdown that can be read as it stands.

use crate::rounds::Round;

/// A figure, its reference, and its target.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// At least one.
    pub(crate) rounds: Vec<Round>,
    pub(crate) unit: RowUnit,
    /// Name of the reference.
    pub(crate) reference: &'static str,
    pub(crate) target: RatioTarget,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum RowUnit {
    PerSecond,
    Milliseconds,
    Microseconds,
    Bytes,
    Mebibytes,
}

/// Requirement on the median of the rounds' ratios.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RatioTarget {
    /// Nothing: it is reported for information.
    None,
    RatioAtLeast(f64),
    RatioAtMost(f64),
    /// This of the ratios, or that of the figure itself.
    RatioAtLeastOr {
        ratio: f64,
        measured: f64,
    },
}

impl RatioTarget {
    fn is_met(self, ratio: f64, measured: f64) -> &'static str {
        let met = match self {
            Self::None => return "",
            Self::RatioAtLeast(least) => ratio >= least,
            Self::RatioAtMost(most) => ratio <= most,
            Self::RatioAtLeastOr { ratio: least, measured: enough } => {
                ratio >= least || measured >= enough
            }
        };
        if met { "met" } else { "NOT MET" }
    }

    fn shown(self, unit: RowUnit) -> String {
        match self {
            Self::None => "none".to_owned(),
            Self::RatioAtLeast(least) => format!("ratio >= {least:.2}"),
            Self::RatioAtMost(most) => format!("ratio <= {most:.2}"),
            Self::RatioAtLeastOr { ratio, measured } => {
                format!("ratio >= {ratio:.2} or {}", unit.shown(measured))
            }
        }
    }
}

impl RowUnit {
    fn shown(self, value: f64) -> String {
        match self {
            Self::PerSecond => format!("{}/s", grouped(value)),
            Self::Milliseconds => format!("{value:.3} ms"),
            Self::Microseconds => format!("{value:.1} µs"),
            Self::Bytes => format!("{value:.1} B"),
            Self::Mebibytes => format!("{value:.1} MiB"),
        }
    }
}

/// A whole number with a comma before every three digits.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let groups: Vec<&[u8]> = digits.as_bytes().rchunks(3).rev().collect();
    String::from_utf8_lossy(&groups.join(&b',')).into_owned()
}

/// The value in the middle, of two the mean.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) {
        (sorted[upper - 1] + sorted[upper]) / 2.0
    } else {
        sorted[upper]
    }
}

const HEADINGS: [&str; 8] =
    ["what", "median", "held against", "ratio", "least", "most", "target", ""];

/// All rows below their headings.
pub(crate) fn render(rows: &[Row]) -> String {
    let mut lines = vec![HEADINGS.map(str::to_owned)];
    lines.extend(rows.iter().map(cells));
    let widths: [usize; HEADINGS.len()] = std::array::from_fn(|column| {
        lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0)
    });
    let rule = format!("|{}|", widths.map(|width| "-".repeat(width + 2)).join("|"));
    let mut drawn: Vec<String> = lines.iter().map(|line| draw(line, &widths)).collect();
    drawn.insert(1, rule);
    drawn.join("\n")
}

fn draw(line: &[String; HEADINGS.len()], widths: &[usize; HEADINGS.len()]) -> String {
    let padded = line.iter().zip(widths).map(|(cell, width)| format!(" {cell:<width$} "));
    format!("|{}|", padded.collect::<Vec<_>>().join("|"))
}

fn cells(row: &Row) -> [String; HEADINGS.len()] {
    let of = |value: fn(&Round) -> f64| row.rounds.iter().map(value).collect::<Vec<f64>>();
    let ratios = of(|round| round.measured / round.reference);
    let (ratio, measured, reference) = (
        median(&ratios),
        median(&of(|round| round.measured)),
        median(&of(|round| round.reference)),
    );
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let most = ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    [
        row.name.clone(),
        row.unit.shown(measured),
        format!("{} {}", row.reference, row.unit.shown(reference)),
        format!("{ratio:.2}"),
        format!("{least:.2}"),
        format!("{most:.2}"),
        row.target.shown(row.unit),
        row.target.is_met(ratio, measured).to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_the_ratios_is_judged_not_the_ratio_of_the_medians() {
        let pairs = [(1_000_000.0, 1_000_000.0), (10.0, 100.0), (90.0, 100.0)];
        let rounds = pairs.map(|(measured, reference)| Round { measured, reference }).to_vec();
        let row = |target| Row {
            name: "a".to_owned(),
            rounds: rounds.clone(),
            unit: RowUnit::PerSecond,
            reference: "ceiling",
            target,
        };
        let shown = |target| cells(&row(target)).join(" ");
        assert_eq!(
            shown(RatioTarget::RatioAtLeast(0.9)),
            "a 90/s ceiling 100/s 0.90 0.10 1.00 ratio >= 0.90 met"
        );
        assert_eq!(
            shown(RatioTarget::RatioAtMost(0.8)),
            "a 90/s ceiling 100/s 0.90 0.10 1.00 ratio <= 0.80 NOT MET"
        );
        let either = RatioTarget::RatioAtLeastOr { ratio: 0.95, measured: 80.0 };
        assert_eq!(shown(either), "a 90/s ceiling 100/s 0.90 0.10 1.00 ratio >= 0.95 or 80/s met");
    }

    #[test]
    fn numbers_are_grouped_by_three() {
        assert_eq!(
            [1.0, 999.4, 1_000.0, 1_234_567.8].map(grouped),
            ["1", "999", "1,000", "1,234,568"]
        );
    }

    #[test]
    fn the_columns_stand_below_each_other() {
        let rounds = vec![Round { measured: 1.0, reference: 2.0 }];
        let row = Row {
            name: "µ".to_owned(),
            rounds,
            unit: RowUnit::Microseconds,
            reference: "target",
            target: RatioTarget::None,
        };
        let drawn = render(&[row]);
        let widths: Vec<usize> = drawn.lines().map(|line| line.chars().count()).collect();
        assert_eq!(
            (widths.len(), widths.iter().all(|width| *width == widths[0])),
            (3, true),
            "{drawn}"
        );
    }
}
