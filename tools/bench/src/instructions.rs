//! Instructions a datagram, which repeat themselves where times do not: counted by valgrind's callgrind, held against the numbers of
//! a file.

use super::history::says;
use bench::{Workload, decoder, flowlane, workloads};
use flowlane::columns::gather::Kernel;
use flowlane::decode::Decoder;
use serde_json::{Map, Value, json};
use std::path::Path;
use std::process::{Command, ExitCode};

/// Datagrams of a workload, and how often all of them are decoded while it counts.
const DATAGRAMS: usize = 1024;
const ROUNDS: usize = 2;
/// They may grow by this share.
const GROWTH: f64 = 0.05;
/// The line in a commit that says why they grew by more.
const REASON: &str = "Instructions:";

/// The name of what is counted.
const COUNTED: &str = "counted_decoding";

/// What is counted. Never inlined: valgrind finds it by its name.
#[inline(never)]
fn counted_decoding(workload: &Workload, decoder: &mut Decoder) -> u64 {
    (0..ROUNDS).map(|_| flowlane(workload, decoder)).sum()
}

/// The process that valgrind runs: decodes one workload.
pub fn child(name: &str) -> ExitCode {
    let Some(workload) = workloads(DATAGRAMS, name).into_iter().find(|w| w.name == name) else {
        eprintln!("bench: there is no workload {name}");
        return ExitCode::from(2);
    };
    let mut decoder = decoder(&workload);
    // Until every table has its size.
    flowlane(&workload, &mut decoder);
    println!("{}", counted_decoding(&workload, &mut decoder));
    ExitCode::SUCCESS
}

/// Counts every workload, prints, and holds against a file, or writes it.
pub fn hold(file: &Path, write: bool) -> ExitCode {
    let result = count().and_then(|counts| if write { put(file, &counts) } else { against(file, &counts) });
    match result {
        Ok(code) => code,
        Err(why) => {
            eprintln!("bench: {why}");
            ExitCode::FAILURE
        }
    }
}

type Counts = Vec<(&'static str, f64)>;

fn count() -> Result<Counts, String> {
    let this = std::env::current_exe().map_err(|e| e.to_string())?;
    let one = |workload: Workload| {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
            .arg(format!("--toggle-collect=*{COUNTED}*"))
            .arg(&this)
            .args(["count", workload.name])
            .output()
            .map_err(|e| format!("valgrind (Debian: apt install valgrind): {e}"))?;
        let text = String::from_utf8_lossy(&output.stderr);
        let collected = text.lines().find_map(|l| l.split_once("Collected :")?.1.trim().parse::<f64>().ok());
        let Some(collected) = collected.filter(|n| *n > 0.0) else {
            return Err(match std::fs::read(&this).is_ok_and(|program| !has_symbol(&program, COUNTED)) {
                true => format!(
                    "{} has no symbol of {COUNTED}, by which valgrind finds what to count: it is stripped; build it anew by \
                     cargo build --release -p bench",
                    this.display()
                ),
                false => format!("{}: no count in {text}", workload.name),
            });
        };
        Ok((workload.name, (collected / (DATAGRAMS * ROUNDS) as f64).round()))
    };
    workloads(DATAGRAMS, "").into_iter().map(one).collect()
}

/// Whether a program has a function's symbol: in one that is mangled the name's length stands before the name.
fn has_symbol(program: &[u8], name: &str) -> bool {
    let mangled = format!("{}{name}", name.len());
    program.windows(mangled.len()).any(|w| w == mangled.as_bytes())
}

/// What the numbers depend on beside the code.
fn setting() -> Value {
    json!({ "kernel": Kernel::chosen().to_string(), "rustc": says("rustc", &["--version"]) })
}

fn put(file: &Path, counts: &Counts) -> Result<ExitCode, String> {
    let numbers: Map<String, Value> = counts.iter().map(|(name, n)| ((*name).to_owned(), json!(n))).collect();
    let whole = json!({ "setting": setting(), "instructions_per_datagram": numbers });
    let text = serde_json::to_string_pretty(&whole).map_err(|e| e.to_string())?;
    std::fs::write(file, text + "\n").map_err(|e| format!("{}: {e}", file.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn against(file: &Path, counts: &Counts) -> Result<ExitCode, String> {
    written_anew(file)?;
    let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let whole: Value = serde_json::from_str(&text).map_err(|e| format!("{}: {e}", file.display()))?;
    let is_same = whole["setting"] == setting();
    let grown = grown(&whole["instructions_per_datagram"], counts, true);
    if is_same && grown.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    if !is_same {
        println!(
            "NOT HELD against {}: its numbers are of another compiler or kernel ({}); --write makes them anew",
            file.display(),
            whole["setting"]
        );
        return Ok(ExitCode::SUCCESS);
    }
    match reason(file) {
        Some(line) => {
            println!("more than {:.0} % more in {}; {line}", 100.0 * GROWTH, grown.join("; "));
            Ok(ExitCode::SUCCESS)
        }
        None => Err(format!(
            "instructions grew by more than {:.0} % in {}, and no commit since {} has a line {REASON:?} that says why",
            100.0 * GROWTH,
            grown.join("; "),
            file.display()
        )),
    }
}

/// The names of counts that grew by too much over those before.
fn grown<'a>(before: &Value, counts: &[(&'a str, f64)], print: bool) -> Vec<&'a str> {
    let is_more = |(name, now): &&(&str, f64)| match before[name].as_f64() {
        Some(then) => {
            let change = now / then - 1.0;
            if print {
                println!("{name:<18} {then:>9.0} then {now:>9.0} now {:+.1} %", 100.0 * change);
            }
            change > GROWTH
        }
        None => {
            if print {
                println!("{name:<18} {now:>9.0} now, not in the file");
            }
            false
        }
    };
    counts.iter().filter(is_more).map(|(name, _)| *name).collect()
}

/// The file itself must not hide a growth: a commit that writes greater numbers into it says why, too.
fn written_anew(file: &Path) -> Result<(), String> {
    let last = last_commit(file);
    let of = |commit: &str| -> Option<Value> {
        let path = says("git", &["ls-files", "--full-name", "--", &file.display().to_string()]);
        serde_json::from_str(&says("git", &["show", &format!("{commit}:{path}")])).ok()
    };
    let (Some(before), Some(now)) = (of(&format!("{last}^")), of(&last)) else { return Ok(()) };
    if before["setting"] != now["setting"] || says_why(&says("git", &["log", "-1", "--format=%B", &last])).is_some() {
        return Ok(());
    }
    let numbers = now["instructions_per_datagram"].as_object();
    let counts: Vec<(&str, f64)> =
        numbers.into_iter().flatten().filter_map(|(name, n)| Some((name.as_str(), n.as_f64()?))).collect();
    match grown(&before["instructions_per_datagram"], &counts, false) {
        grown if grown.is_empty() => Ok(()),
        grown => Err(format!(
            "commit {last} wrote numbers into {} that are more than {:.0} % greater in {}, without a line {REASON:?} that says why",
            file.display(),
            100.0 * GROWTH,
            grown.join("; ")
        )),
    }
}

/// The last commit of a file.
fn last_commit(file: &Path) -> String {
    says("git", &["log", "-1", "--format=%H", "--", &file.display().to_string()])
}

/// The line of a message that says why.
fn says_why(message: &str) -> Option<String> {
    message.lines().find(|line| line.starts_with(REASON) && line.len() > REASON.len() + 1).map(str::to_owned)
}

/// The line of a commit since the file's last one that says why.
fn reason(file: &Path) -> Option<String> {
    let last = last_commit(file);
    let range = if last.is_empty() { "HEAD".to_owned() } else { format!("{last}..HEAD") };
    says_why(&says("git", &["log", "--format=%B", &range]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_a_twentieth_is_too_much() {
        let before = json!({ "a": 1000, "b": 1000, "c": 1000 });
        let counts = vec![("a", 1049.0), ("b", 1051.0), ("c", 500.0), ("new", 9.0)];
        assert_eq!(grown(&before, &counts, false), ["b"]);
    }

    #[test]
    fn a_stripped_program_has_no_symbol() {
        assert!(has_symbol(b"\0_ZN5bench12instructions16counted_decoding17h0E\0", COUNTED));
        // The name alone stands among the constants.
        assert!(!has_symbol(b"--toggle-collect=*counted_decoding*", COUNTED));
        assert!(!has_symbol(b"", COUNTED));
    }

    #[test]
    fn a_reason_is_a_line_of_its_own() {
        let why = says_why("decode: check more\n\nText.\nInstructions: lengths are checked\n");
        assert_eq!(why.as_deref(), Some("Instructions: lengths are checked"));
        assert_eq!(says_why("decode: Instructions: no\n\nInstructions:\n"), None);
    }
}
