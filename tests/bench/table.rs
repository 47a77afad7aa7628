//! The table of results.

/// The bar for a figure.
#[derive(Clone, Copy)]
pub(crate) enum Bar {
    AtLeast(f64),
    AtMost(f64),
    /// For comparison only.
    None,
}

struct Row {
    what: String,
    measured: String,
    reference: String,
    ratio: String,
    bar: String,
    holds: &'static str,
}

#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// Adds a figure whose ratio to a reference has a bar.
    pub(crate) fn ratio(&mut self, what: &str, measured: String, reference: String, ratio: f64, bar: Bar) {
        let (bar, holds) = judge(ratio, bar, |bar| format!("{bar:.2}"));
        self.push(Row { what: what.to_owned(), measured, reference, ratio: format!("{ratio:.2}"), bar, holds });
    }

    /// Adds a figure that has a bar itself. `show` formats it.
    pub(crate) fn figure(&mut self, what: &str, value: f64, bar: Bar, show: impl Fn(f64) -> String) {
        let (bar, holds) = judge(value, bar, &show);
        let (reference, ratio) = (String::new(), String::new());
        self.push(Row { what: what.to_owned(), measured: show(value), reference, ratio, bar, holds });
    }

    /// Adds a figure that could not be measured.
    pub(crate) fn missing(&mut self, what: &str, why: &str) {
        let row = Row {
            what: what.to_owned(),
            measured: "not measured".to_owned(),
            reference: why.to_owned(),
            ratio: String::new(),
            bar: String::new(),
            holds: "",
        };
        self.push(row);
    }

    fn push(&mut self, row: Row) {
        eprintln!("  {}: {} {} {}", row.what, row.measured, row.ratio, row.holds);
        self.rows.push(row);
    }

    pub(crate) fn print(&self) {
        let head = ["what", "measured", "reference", "ratio", "bar", "holds"];
        let rows: Vec<[&str; 6]> = std::iter::once(head)
            .chain(self.rows.iter().map(|row| {
                [&row.what, &row.measured, &row.reference, &row.ratio, &row.bar, row.holds].map(|cell| cell as &str)
            }))
            .collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..head.len()).map(width).collect();
        println!();
        for row in &rows {
            let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            println!("{}", cells.join("  ").trim_end());
        }
    }
}

fn judge(value: f64, bar: Bar, show: impl Fn(f64) -> String) -> (String, &'static str) {
    let (sign, bar, holds) = match bar {
        Bar::AtLeast(bar) => (">=", bar, value >= bar),
        Bar::AtMost(bar) => ("<=", bar, value <= bar),
        Bar::None => return (String::new(), ""),
    };
    (format!("{sign} {}", show(bar)), if holds { "yes" } else { "NO" })
}

/// The median.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

pub(crate) fn mib(bytes: f64) -> String {
    format!("{:.1} MiB", bytes / f64::from(1 << 20))
}

pub(crate) fn mb_per_s(rate: f64) -> String {
    format!("{:.1} MB/s", rate / 1e6)
}

pub(crate) fn ms(seconds: f64) -> String {
    format!("{:.1} ms", seconds * 1e3)
}
