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
    /// Whether each was measured for a moment: such a run is held against its like.
    quick: bool,
}

/// A ratio that differs by less is not said to have changed: what else a machine does moves runs apart by more than passes of one run.
const FLOOR: f64 = 0.05;

#[derive(Clone, Debug, PartialEq)]
struct Ratio {
    name: String,
    middle: f64,
    /// As a share of the middle.
    noise: f64,
}

impl Run {
    /// Of passes that measured the same rows.
    pub fn of(passes: Vec<Vec<(String, f64)>>, quick: bool) -> Self {
        let names = passes.first().map_or(&[][..], Vec::as_slice).iter().map(|(name, _)| name);
        let ratio = |name: &String| {
            let values = passes.iter().flatten().filter(|(n, v)| n == name && v.is_finite()).map(|(_, v)| *v);
            let mut values: Vec<f64> = values.collect();
            values.sort_by(f64::total_cmp);
            let middle = *values.get(values.len() / 2)?;
            let far = values.iter().map(|v| (v / middle - 1.0).abs()).fold(0.0, f64::max);
            Some(Ratio { name: name.clone(), middle, noise: far })
        };
        Self { ratios: names.filter_map(ratio).collect(), quick }
    }

    /// Whether files are there to be compared with, and to be appended to: asked before minutes of measuring.
    ///
    /// # Errors
    /// One is not.
    pub fn check(compare: Option<&Path>, keep: Option<&Path>) -> Result<(), String> {
        let open = |file: Option<&Path>, options: &OpenOptions| match file {
            Some(file) => options.open(file).map(drop).map_err(|e| format!("{}: {e}", file.display())),
            None => Ok(()),
        };
        open(compare, OpenOptions::new().read(true))?;
        open(keep, OpenOptions::new().create(true).append(true))
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
            "commit": commit(Some(file)),
            "rustc": says("rustc", &["--version"]),
            "processor": processor(),
            "kernel": Kernel::chosen().to_string(),
            "quick": self.quick,
            "ratios": ratios,
        });
        let opened = OpenOptions::new().create(true).append(true).open(file);
        opened.and_then(|mut f| writeln!(f, "{line}")).map_err(|e| format!("{}: {e}", file.display()))
    }

    /// Prints what changed since the last run of its like in a file, or that there is none.
    ///
    /// # Errors
    /// The file cannot be read, or holds no run.
    pub fn compare(&self, file: &Path) -> Result<(), String> {
        let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        let runs: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        if runs.is_empty() {
            return Err(format!("{} holds no run", file.display()));
        }
        let (processor, kernel) = (processor(), Kernel::chosen().to_string());
        let like = self.like(&runs, &processor, &kernel);
        let Some(last) = like.last() else {
            let length = if self.quick { "--quick run" } else { "run without --quick" };
            eprintln!("\nNothing is compared: {} holds no {length} of {processor} ({kernel})", file.display());
            return Ok(());
        };
        eprintln!("\nAgainst {} on {processor} ({kernel}):", last["commit"].as_str().unwrap_or("?"));
        let changes = self.changes(&like);
        for Change { name, then, now, limit } in &changes {
            let change = 100.0 * (now / then - 1.0);
            eprintln!("{name}: {then:.3} then, {now:.3} now, {change:+.1} % (limit {:.1} %)", 100.0 * limit);
        }
        if changes.is_empty() {
            eprintln!("no ratio changed beyond the noise");
        }
        Ok(())
    }

    /// Kept runs that were measured as this one.
    fn like<'a>(&self, runs: &'a [Value], processor: &str, kernel: &str) -> Vec<&'a Value> {
        let is_like = |run: &&Value| {
            // Runs from before it was said were not quick.
            let quick = run["quick"].as_bool().unwrap_or(false);
            run["processor"] == processor && run["kernel"] == kernel && quick == self.quick
        };
        runs.iter().filter(is_like).collect()
    }

    /// Ratios that changed since the last of the runs by more than the passes of either run, and runs of one commit, do by themselves.
    fn changes(&self, runs: &[&Value]) -> Vec<Change> {
        let Some(last) = runs.last() else { return Vec::new() };
        let change = |ratio: &Ratio| {
            let old = &last["ratios"][&ratio.name];
            let (then, noise) = (old["ratio"].as_f64()?, old["noise"].as_f64()?.max(ratio.noise));
            let limit = (2.0 * noise).max(FLOOR).max(drift(runs, &ratio.name));
            let is_more = (ratio.middle / then - 1.0).abs() > limit;
            is_more.then(|| Change { name: ratio.name.clone(), then, now: ratio.middle, limit })
        };
        self.ratios.iter().filter_map(change).collect()
    }
}

/// A ratio that is another than it was.
struct Change {
    name: String,
    then: f64,
    now: f64,
    /// What it may change by, as a share.
    limit: f64,
}

/// What a ratio differs by between runs of the same code that follow each other, at most.
fn drift(runs: &[&Value], name: &str) -> f64 {
    let apart = |pair: &[&Value]| {
        let [one, other] = pair else { return None };
        let commit = one["commit"].as_str().filter(|c| !c.is_empty() && !c.ends_with("-dirty"))?;
        let of = |run: &Value| run["ratios"][name]["ratio"].as_f64();
        (other["commit"] == commit).then_some((of(other)? / of(one)? - 1.0).abs())
    };
    runs.windows(2).filter_map(apart).fold(0.0, f64::max)
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
        "commit": commit(None),
        "time": seconds(),
        "command": format!("bench {}", words.join(" ")),
        "rustc": says("rustc", &["--version"]),
    })
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// The commit that stands here, `-dirty` where something else is changed than the file that runs are kept in.
fn commit(kept: Option<&Path>) -> String {
    // Of the checkout that this was built in, wherever it runs.
    let of = ["-C", env!("CARGO_MANIFEST_DIR")];
    let commit = says("git", &[&of[..], &["describe", "--always", "--exclude=*"]].concat());
    let changed = says("git", &[&of[..], &["diff", "--name-only", "HEAD"]].concat());
    let is_kept = |path: &str| kept.is_some_and(|file| file.ends_with(path));
    if changed.lines().all(is_kept) { commit } else { commit + "-dirty" }
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

    fn run(quick: bool) -> Run {
        let pass = |a: f64, b: f64| vec![("a".to_owned(), a), ("b".to_owned(), b)];
        Run::of(vec![pass(1.0, 2.0), pass(1.1, 2.0), pass(0.9, 2.02)], quick)
    }

    fn kept(commit: &str, a: f64, b: f64) -> Value {
        let ratios = json!({ "a": { "ratio": a, "noise": 0.05 }, "b": { "ratio": b, "noise": 0.01 } });
        json!({ "commit": commit, "processor": "p", "kernel": "scalar", "ratios": ratios })
    }

    fn changed(runs: &[Value]) -> Vec<String> {
        let runs: Vec<&Value> = runs.iter().collect();
        run(false).changes(&runs).into_iter().map(|c| c.name).collect()
    }

    #[test]
    fn what_is_within_the_noise_of_both_runs_is_no_change() {
        let run = run(false);
        assert_eq!(run.ratios[0].middle, 1.0);
        assert!((run.ratios[0].noise - 0.1).abs() < 1e-9);
        assert_eq!(changed(&[kept("x", 1.15, 2.5)]), ["b"]);
        // A change of a fifth is one, of less is not: passes are a tenth apart.
        assert_eq!(changed(&[kept("x", 1.3, 2.0)]), ["a"]);
        assert!(changed(&[kept("x", 1.2, 2.0)]).is_empty());
        // However alike passes are, a twentieth is no change.
        assert!(changed(&[kept("x", 1.0, 2.09)]).is_empty());
        assert_eq!(changed(&[kept("x", 1.0, 2.15)]), ["b"]);
    }

    #[test]
    fn runs_of_one_commit_show_what_is_no_change() {
        assert!(changed(&[kept("x", 1.0, 2.0), kept("x", 1.0, 2.4)]).is_empty());
        assert_eq!(changed(&[kept("w", 1.0, 2.0), kept("x", 1.0, 2.4)]), ["b"]);
        assert_eq!(changed(&[kept("x-dirty", 1.0, 2.0), kept("x-dirty", 1.0, 2.4)]), ["b"]);
    }

    #[test]
    fn only_runs_of_the_same_kind_are_compared() {
        let mut quick = kept("x", 1.0, 1.0);
        quick["quick"] = json!(true);
        let runs = [kept("x", 1.0, 1.0), quick];
        assert_eq!(run(true).like(&runs, "p", "scalar"), [&runs[1]]);
        assert_eq!(run(false).like(&runs, "p", "scalar"), [&runs[0]]);
        assert!(run(false).like(&runs, "q", "scalar").is_empty() && run(false).like(&runs, "p", "avx2").is_empty());
    }
}
