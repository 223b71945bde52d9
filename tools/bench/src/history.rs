//! Runs that are kept, and what changed between them beyond their noise.

use flowlane::columns::gather::Kernel;
use serde_json::{Map, Value, json};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// The ratios of several passes: of each the middle one, and how far the others are from it at most.
pub struct Run {
    ratios: Vec<Ratio>,
}

#[derive(Clone, Debug, PartialEq)]
struct Ratio {
    name: String,
    middle: f64,
    /// As a share of the middle.
    noise: f64,
}

impl Run {
    /// Of passes that measured the same rows.
    pub fn of(passes: Vec<Vec<(String, f64)>>) -> Self {
        let names = passes.first().map_or(&[][..], Vec::as_slice).iter().map(|(name, _)| name);
        let ratio = |name: &String| {
            let values = passes.iter().flatten().filter(|(n, v)| n == name && v.is_finite()).map(|(_, v)| *v);
            let mut values: Vec<f64> = values.collect();
            values.sort_by(f64::total_cmp);
            let middle = *values.get(values.len() / 2)?;
            let far = values.iter().map(|v| (v / middle - 1.0).abs()).fold(0.0, f64::max);
            Some(Ratio { name: name.clone(), middle, noise: far })
        };
        Self { ratios: names.filter_map(ratio).collect() }
    }

    /// Appends this run to a file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep(&self, file: &Path) -> Result<(), String> {
        let ratios: Map<String, Value> =
            self.ratios.iter().map(|r| (r.name.clone(), json!({ "ratio": r.middle, "noise": r.noise }))).collect();
        let line = json!({
            "time": seconds(),
            "commit": commit(),
            "rustc": says("rustc", &["--version"]),
            "processor": processor(),
            "kernel": Kernel::chosen().to_string(),
            "ratios": ratios,
        });
        let opened = OpenOptions::new().create(true).append(true).open(file);
        opened.and_then(|mut f| writeln!(f, "{line}")).map_err(|e| format!("{}: {e}", file.display()))
    }

    /// Prints what changed since the last run in a file: of the same processor and kernel, if there is one.
    ///
    /// # Errors
    /// The file cannot be read, or holds no run.
    pub fn compare(&self, file: &Path) -> Result<(), String> {
        let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        let runs: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let kernel = Kernel::chosen().to_string();
        let is_like = |run: &&Value| run["processor"] == processor().as_str() && run["kernel"] == kernel.as_str();
        let Some(last) = runs.iter().rfind(is_like).or(runs.last()) else {
            return Err(format!("{} holds no run", file.display()));
        };
        let text = |key: &str| last[key].as_str().unwrap_or("?").to_owned();
        println!("\nAgainst {} on {} ({}):", text("commit"), text("processor"), text("kernel"));
        let changes = self.changes(&last["ratios"]);
        for (name, then, now, noise) in &changes {
            let change = 100.0 * (now / then - 1.0);
            println!("{name}: {then:.3} then, {now:.3} now, {change:+.1} % (noise {:.1} %)", 100.0 * noise);
        }
        if changes.is_empty() {
            println!("no ratio changed beyond the noise");
        }
        Ok(())
    }

    /// Name, then, now, and the noise of both runs together, of ratios that changed by more than that.
    fn changes(&self, last: &Value) -> Vec<(String, f64, f64, f64)> {
        let change = |ratio: &Ratio| {
            let old = &last[&ratio.name];
            let (then, noise) = (old["ratio"].as_f64()?, old["noise"].as_f64()? + ratio.noise);
            let is_more = (ratio.middle / then - 1.0).abs() > noise;
            is_more.then(|| (ratio.name.clone(), then, ratio.middle, noise))
        };
        self.ratios.iter().filter_map(change).collect()
    }
}

/// Where, of what, and by which command: the line before the others.
pub fn machine() -> Value {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let words: Vec<String> = std::env::args().skip(1).collect();
    json!({
        "kind": "machine",
        "processor": processor(),
        "cores": std::thread::available_parallelism().map_or(1, usize::from),
        "kernel": kernel.trim(),
        "commit": commit(),
        "time": seconds(),
        "command": format!("bench {}", words.join(" ")),
        "rustc": says("rustc", &["--version"]),
    })
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

fn commit() -> String {
    says("git", &["describe", "--always", "--dirty", "--exclude=*"])
}

/// What a program prints, in one line; nothing where it is missing.
pub fn says(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default()
}

fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|l| l.starts_with("model name"));
    line.and_then(|l| l.split_once(": ")).map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_within_the_noise_of_both_runs_is_no_change() {
        let pass = |a: f64, b: f64| vec![("a".to_owned(), a), ("b".to_owned(), b)];
        let run = Run::of(vec![pass(1.0, 2.0), pass(1.1, 2.0), pass(0.9, 2.02)]);
        assert_eq!(run.ratios[0].middle, 1.0);
        assert!((run.ratios[0].noise - 0.1).abs() < 1e-9);
        let last = json!({ "a": { "ratio": 1.15, "noise": 0.05 }, "b": { "ratio": 2.5, "noise": 0.01 } });
        let changes = run.changes(&last);
        assert_eq!(changes.iter().map(|c| c.0.as_str()).collect::<Vec<_>>(), ["b"]);
    }
}
