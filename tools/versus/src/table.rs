//! Tables for people: on a terminal, and in Markdown.

use crate::chart::Points;

/// Rows of cells under a head. The first columns are names and stand left, numbers stand right.
pub struct Table {
    head: Vec<String>,
    names: usize,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table; the first `names` columns are not numbers.
    pub fn new(names: usize, head: &[&str]) -> Self {
        Self { head: head.iter().map(|&h| h.to_owned()).collect(), names, rows: Vec::new() }
    }

    /// Appends a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Whether it has no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// In columns.
    pub fn text(&self) -> String {
        let lines = || std::iter::once(&self.head).chain(&self.rows);
        let width = |at: usize| lines().filter_map(|l| Some(l.get(at)?.chars().count())).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let line = |cells: &Vec<String>| {
            let cell = |(at, (cell, width)): (usize, (&String, &usize))| match at < self.names {
                true => format!("{cell:<width$}"),
                false => format!("{cell:>width$}"),
            };
            let cells: Vec<String> = cells.iter().zip(&widths).enumerate().map(cell).collect();
            format!("{}\n", cells.join("  ").trim_end())
        };
        lines().map(line).collect()
    }

    /// As GitHub shows it.
    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule = |at| if at < self.names { "---" } else { "---:" }.to_owned();
        let rules: Vec<String> = (0..self.head.len()).map(rule).collect();
        let rows: String = self.rows.iter().map(|r| line(r)).collect();
        format!("{}{}{rows}", line(&self.head), line(&rules))
    }
}

/// A row a group and a column a series: each value, and in brackets how many times the first series' it is.
pub fn pivot(group: &str, points: &Points<String>) -> Table {
    let mut series: Vec<&str> = Vec::new();
    for (name, _) in points.iter().flat_map(|g| &g.1) {
        if !series.contains(&name.as_str()) {
            series.push(name);
        }
    }
    let mut table = Table::new(1, &[&[group][..], &series].concat());
    for (name, of) in points {
        let value = |series: &str| of.iter().find(|p| p.0 == series).map(|p| p.1);
        let first = series.first().and_then(|s| value(s));
        let cell = |(at, series): (usize, &&str)| match (value(series), first) {
            (None, _) => String::new(),
            (Some(value), Some(first)) if at > 0 => format!("{} ({})", number(value), number(value / first)),
            (Some(value), _) => number(value),
        };
        table.row(std::iter::once(name.clone()).chain(series.iter().enumerate().map(cell)));
    }
    table
}

/// A number with three digits that count.
pub fn number(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => "-".to_owned(),
        v if v >= 1e6 => format!("{:.2} M", value / 1e6),
        v if v >= 1e4 => format!("{:.1} k", value / 1e3),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// The middle one.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => values.get(half).copied(),
        _ => Some((values.get(half - 1)? + values.get(half)?) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_left_and_numbers_right() {
        let mut table = Table::new(1, &["who", "ns"]);
        table.row(["flowlane".to_owned(), "9".to_owned()]);
        table.row(["x".to_owned(), "100".to_owned()]);
        assert_eq!(table.text(), "who        ns\nflowlane    9\nx         100\n");
        assert_eq!(table.markdown(), "| who | ns |\n| --- | ---: |\n| flowlane | 9 |\n| x | 100 |\n");
    }

    #[test]
    fn a_pivot_holds_each_series_against_the_first() {
        let of = |values: &[(&str, f64)]| values.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect();
        let points = vec![("v5".to_owned(), of(&[("a", 2.0), ("b", 3.0)])), ("v9".to_owned(), of(&[("b", 4.0)]))];
        let text = pivot("what", &points).markdown();
        assert_eq!(text, "| what | a | b |\n| --- | ---: | ---: |\n| v5 | 2.00 | 3.00 (1.50) |\n| v9 |  | 4.00 |\n");
    }

    #[test]
    fn medians_and_numbers() {
        assert_eq!((median([3.0, 1.0, 2.0]), median([4.0, 1.0]), median([])), (Some(2.0), Some(2.5), None));
        assert_eq!([0.127, 99.94, 12_345.0, 2_200_000.0].map(number), ["0.13", "99.9", "12.3 k", "2.20 M"]);
    }
}
