//! The command line.

use bench::workloads;
use flowlane::columns::gather::Kernel;
use std::ffi::OsString;
use std::path::PathBuf;

/// What a run measures, and what becomes of it.
#[derive(Debug, Default)]
pub struct Options {
    /// Each for a moment.
    pub quick: bool,
    /// Objects in place of a table.
    pub json: bool,
    /// Without other crates and receivers.
    pub no_peers: bool,
    /// Workloads whose name contains it.
    pub only: String,
    /// One of [`BENCHES`], or all.
    pub bench: Option<String>,
    /// Where the run is kept.
    pub keep: Option<PathBuf>,
    /// The file of runs that it is held against.
    pub compare: Option<PathBuf>,
}

/// What is asked for.
#[derive(Debug)]
pub enum Asked {
    /// The text about it.
    Help,
    /// A run.
    Run(Options),
    /// To count instructions, and hold them against a file or write it.
    Instructions {
        /// The file.
        file: PathBuf,
        /// Whether it is written anew.
        write: bool,
    },
}

const BENCHES: [&str; 5] = ["decode", "rows", "join", "encode", "receive"];

impl Asked {
    /// Of arguments.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let (mut options, mut counted, mut write) = (Options::default(), None, false);
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let mut value = |what: &str| {
                let value = args.next().filter(|v| !v.is_empty() && !v.starts_with("--"));
                value.ok_or_else(|| format!("{arg} needs {what}"))
            };
            match arg.as_str() {
                "--only" => options.only = value("a part of a workload's name")?,
                "--bench" => options.bench = Some(value("a name")?),
                "--keep" => options.keep = Some(value("a file")?.into()),
                "--compare" => options.compare = Some(value("a file")?.into()),
                "--instructions" => counted = Some(value("a file")?.into()),
                "--quick" => options.quick = true,
                "--json" => options.json = true,
                "--no-peers" => options.no_peers = true,
                "--write" => write = true,
                "--help" | "-h" => return Ok(Self::Help),
                other => return Err(format!("unknown argument {other:?}; see bench --help")),
            }
        }
        if let Some(file) = counted {
            return Ok(Self::Instructions { file, write });
        }
        if write {
            return Err("--write is of --instructions".to_owned());
        }
        options.check()?;
        Ok(Self::Run(options))
    }
}

impl Options {
    /// Whether a bench is asked for.
    pub fn asks(&self, name: &str) -> bool {
        self.bench.as_ref().is_none_or(|b| b == name)
    }

    fn check(&self) -> Result<(), String> {
        if !BENCHES.iter().any(|name| self.asks(name)) {
            return Err(format!("there are {}", BENCHES.join(", ")));
        }
        if self.only.is_empty() {
            return Ok(());
        }
        if !self.asks("decode") && !self.asks("rows") {
            return Err("--only names workloads of decode and rows; the others have none".to_owned());
        }
        if workloads(1, &self.only).is_empty() {
            let names: Vec<&str> = workloads(1, "").iter().map(|w| w.name).collect();
            return Err(format!("no workload's name contains {:?}: there are {}", self.only, names.join("; ")));
        }
        Ok(())
    }
}

/// Whether `FLOWLANE_KERNEL`, where it is set, names a kernel that this machine has. What is measured of another one would go by a wrong
/// name.
///
/// # Errors
/// What is wrong with it.
pub fn check_kernel(asked: Option<OsString>) -> Result<(), String> {
    let Some(name) = asked else { return Ok(()) };
    let name = name.to_string_lossy();
    let kernel: Kernel = name.parse().map_err(|e| format!("FLOWLANE_KERNEL={name}: {e}"))?;
    if !kernel.is_available() {
        let best = Kernel::best();
        return Err(format!("FLOWLANE_KERNEL={name}: this machine has no {kernel}; the fastest that it has is {best}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Asked, String> {
        Asked::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn what_has_no_value_or_names_nothing_is_refused() {
        for wrong in [
            "--only",
            "--bench",
            "--keep",
            "--compare",
            "--instructions",
            "--compare --quick",
            "--only --json",
            "--bench nothing_such",
            "--only nothing_such",
            "--bench join --only v5",
            "--write",
            "--frob",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(parse("--only nothing_such").unwrap_err().contains("v9, 14 fields"));
        let Ok(Asked::Run(options)) = parse("--quick --only v5 --bench rows --compare file") else { panic!("a run") };
        assert!(options.quick && options.asks("rows") && !options.asks("decode") && options.only == "v5");
        assert!(matches!(parse("--instructions file --write"), Ok(Asked::Instructions { write: true, .. })));
    }

    #[test]
    fn a_kernel_that_is_not_here_is_refused() {
        let check = |name: &str| check_kernel(Some(name.into()));
        assert_eq!((check_kernel(None), check("scalar"), check(Kernel::best().name())), (Ok(()), Ok(()), Ok(())));
        for missing in Kernel::ALL.into_iter().filter(|k| !k.is_available()) {
            assert!(check(missing.name()).unwrap_err().contains("this machine has no"));
        }
        for wrong in ["scaler", "AVX2", ""] {
            assert!(check(wrong).unwrap_err().contains("unknown kernel"), "{wrong}");
        }
    }
}
