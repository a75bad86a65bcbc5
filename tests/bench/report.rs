//! Figures as people and programs read them: percentiles, tables in Markdown, and lines `figure KEY VALUE UNIT`.

use std::time::Duration;

/// Measured durations.
#[derive(Debug, Default)]
pub(crate) struct Durations(Vec<Duration>);

/// Rows of equal length under a header.
#[derive(Debug)]
pub(crate) struct Table(Vec<Vec<String>>);

// === impl Durations ===

impl Durations {
    /// The smallest duration that this share of all, in percent, does not exceed; in milliseconds.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        let found = sorted.get(rank - 1).copied().unwrap_or_default();
        found.as_secs_f64() * 1000.0
    }

    /// A row of a table: name, p50, p90, p99, largest.
    pub(crate) fn row(&self, name: &str) -> Vec<String> {
        let figures = [50, 90, 99, 100].map(|percent| format!("{:.2}", self.percentile(percent)));
        [name.to_owned()].into_iter().chain(figures).collect()
    }
}

impl FromIterator<Duration> for Durations {
    fn from_iter<I: IntoIterator<Item = Duration>>(durations: I) -> Self {
        Self(durations.into_iter().collect())
    }
}

// === impl Table ===

impl Table {
    pub(crate) fn new<const N: usize>(header: [&str; N]) -> Self {
        Self(vec![header.map(ToOwned::to_owned).into()])
    }

    pub(crate) fn row(&mut self, row: impl Into<Vec<String>>) {
        self.0.push(row.into());
    }

    /// Prints it; the first column to the left, figures to the right.
    pub(crate) fn print(&self) {
        let columns = self.0.first().map_or(0, Vec::len);
        let width = |column: usize| self.0.iter().map(|row| row[column].chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        println!();
        for (number, row) in self.0.iter().enumerate() {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
                if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            println!("| {} |", cells.collect::<Vec<_>>().join(" | "));
            if number == 0 {
                let rules = widths.iter().enumerate().map(|(column, width)| match column {
                    0 => "-".repeat(width + 2),
                    _ => format!("{}:", "-".repeat(width + 1)),
                });
                println!("|{}|", rules.collect::<Vec<_>>().join("|"));
            }
        }
        println!();
    }
}

/// The middle of some values; between the middle two of an even number.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let middle = [sorted.len().saturating_sub(1) / 2, sorted.len() / 2];
    let [low, high] = middle.map(|at| sorted.get(at).copied().unwrap_or(f64::NAN));
    f64::midpoint(low, high)
}

/// One line for programs.
pub(crate) fn figure(key: &str, value: f64, unit: &str) {
    println!("figure {key} {value:.3} {unit}");
}
