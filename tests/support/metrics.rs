//! A parser for Prometheus's text format.

use std::collections::BTreeMap;

/// All series of one request for `/metrics`.
#[derive(Debug, Default)]
pub struct Metrics {
    series: BTreeMap<Series, f64>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Series {
    name: String,
    labels: BTreeMap<String, String>,
}

impl Metrics {
    /// # Panics
    /// On text in another format.
    pub fn parse(text: &str) -> Self {
        let series = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| series(line).unwrap_or_else(|| panic!("no metric: {line}")))
            .collect();
        Self { series }
    }

    /// The sum of all series that have at least these labels; `None` when there is none.
    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |series: &Series| {
            labels
                .iter()
                .all(|(key, value)| series.labels.get(*key).map(String::as_str) == Some(*value))
        };
        let values = self.named(name).filter(|(series, _)| has(series));
        values.map(|(_, value)| value).reduce(|a, b| a + b)
    }

    /// The sum over all labels; 0 when there is no such series.
    pub fn sum(&self, name: &str) -> f64 {
        self.named(name).map(|(_, value)| value).sum()
    }

    /// The series of that name, for messages.
    pub fn show(&self, name: &str) -> String {
        self.named(name)
            .map(|(series, value)| format!("{name}{:?} {value}", series.labels))
            .collect::<Vec<_>>()
            .join("\n")
    }

    fn named(&self, name: &str) -> impl Iterator<Item = (&Series, f64)> {
        let series = self.series.iter();
        series
            .filter(move |(series, _)| series.name == name)
            .map(|(series, value)| (series, *value))
    }
}

fn series(line: &str) -> Option<(Series, f64)> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}')?),
        None => (series, ""),
    };
    let labels = labels
        .split(',')
        .filter(|label| !label.is_empty())
        .map(|label| {
            let (key, value) = label.split_once('=')?;
            Some((key.to_owned(), value.trim_matches('"').to_owned()))
        })
        .collect::<Option<_>>()?;
    let name = name.to_owned();
    Some((Series { name, labels }, value.parse().ok()?))
}
