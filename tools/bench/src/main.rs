//! Prints how fast flowlane is, as a ratio to what else does the same in the same run.

mod encode;
mod history;
mod instructions;
mod join;
mod options;
mod receive;
mod report;

use bench::{Workload, workloads};
use options::{Asked, Options};
use report::{Report, Row, Target};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const HELP: &str = "\
bench: how fast flowlane is, beside a copy of the same bytes, other crates and other receivers

Usage: cargo run --release -p bench [-- OPTIONS]

Options:
  --json        One JSON object a line: first the machine, commit and command, then bench, template, place, kernel, the value by its
                unit, ratio, against, target, met; versus report makes tables of it
  --quick       Each for a moment; the sums are asserted all the same
  --no-peers    Without other crates and nfcapd
  --only TEXT   Workloads whose name contains the text: v5, v9, IPFIX, variable, IPv6, recordings
  --bench NAME  Only decode, rows (and v5's views), join (names and places), encode (a value in a file, by column and encoding), or
                receive
  --keep FILE   Three passes; append the ratios, their noise, the machine and the commit to a file, an object a line
  --compare FILE  Three passes; say which ratios changed since the last run that --keep wrote of this processor and kernel, --quick or not as
                this one, by more than 5 %, twice the noise within either run, and what kept runs of one commit differ by
  --instructions FILE  Only count instructions a datagram (valgrind's callgrind) and hold them against the file; exit code 1 where
                they grew by more than 5 % and no commit since the file's last has a line `Instructions: why`
  --write       With --instructions: write the file anew
  --help        This text

receive starts flowlane, a bare receive loop and, where it is installed, nfcapd on one core of loopback and flowgen on
another, and needs two cores. Set FLOWLANE_KERNEL=scalar to measure the scalar kernels. The exit code is 2 where the
command line or FLOWLANE_KERNEL is wrong.";

fn main() -> ExitCode {
    let refuse = |why: String| {
        eprintln!("bench: {why}");
        ExitCode::from(2)
    };
    if let Err(why) = options::check_kernel(std::env::var_os("FLOWLANE_KERNEL")) {
        return refuse(why);
    }
    let mut args = std::env::args().skip(1).peekable();
    match args.peek().map(String::as_str) {
        // The process that instructions are counted of.
        Some("count") => return instructions::child(&args.nth(1).unwrap_or_default()),
        // The other process of the receive bench.
        Some("bare-loop") => return receive::bare_loop(args.skip(1)),
        _ => {}
    }
    let options = match Asked::parse(args) {
        Ok(Asked::Help) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Ok(Asked::Instructions { file, write }) => return instructions::hold(&file, write),
        Ok(Asked::Run(options)) => options,
        Err(why) => return refuse(why),
    };
    if options.json {
        println!("{}", history::machine());
    }
    if options.keep.is_none() && options.compare.is_none() {
        pass(&options);
        return ExitCode::SUCCESS;
    }
    if let Err(why) = history::Run::check(options.compare.as_deref(), options.keep.as_deref()) {
        return refuse(why);
    }
    let run = history::Run::of((0..3).map(|_| pass(&options)).collect(), options.quick);
    let compared = options.compare.as_deref().map_or(Ok(()), |file| run.compare(file));
    let kept = options.keep.as_deref().map_or(Ok(()), |file| run.keep(file));
    match compared.and(kept) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench: {why}");
            ExitCode::FAILURE
        }
    }
}

/// All that was asked for, once; gives the ratios.
fn pass(options: &Options) -> Vec<(String, f64)> {
    let asked = |name: &str| options.asks(name);
    let report = Report::new(options.json);
    let memory = if options.quick { 4 * 1024 } else { 128 * 1024 };
    for (place, datagrams) in [("cache", 256), ("memory", memory)] {
        // Rows are read where they are: from memory they would measure the memory.
        let rows = asked("rows") && place == "cache";
        if !asked("decode") && !rows {
            continue;
        }
        for w in workloads(datagrams, &options.only) {
            measure(&w, place, options, asked("decode"), rows, &report);
        }
    }
    if asked("join") && options.only.is_empty() {
        join::measure(options.quick, &report);
    }
    if asked("encode") && options.only.is_empty() {
        encode::measure(options.quick, options.json, &report);
    }
    if asked("receive") && options.only.is_empty() {
        receive::measure(options.quick, !options.no_peers, &report);
    }
    report.ratios()
}

/// The best rate over rounds that fill the budget, in records a second.
#[derive(Default)]
struct Best(f64);

impl Best {
    fn of(&mut self, records: u64, round: impl FnOnce() -> u64) {
        let start = Instant::now();
        let there = round();
        let seconds = start.elapsed().as_secs_f64();
        assert_eq!(there, records, "a decoder lost records");
        self.0 = self.0.max(records as f64 / seconds);
    }
}

fn measure(w: &Workload, place: &str, options: &Options, decode: bool, rows: bool, report: &Report) {
    assert_eq!(bench::flowlane_sums(w), (w.records, w.bytes), "sums of {}", w.name);
    let (mut decoder, mut session) = (bench::decoder(w), bench::session(w));
    let (mut parsers, mut codecs) = (bench::netflow_parsers(w), bench::netgauze_codecs(w));
    let bytes = w.record_bytes();
    let mut buffer = bench::batch_buffer(w);
    let [mut ours, mut memcpy, mut ours_rows, mut views, mut parser, mut netgauze, mut parser_v5] =
        [const { Best(0.0) }; 7];
    let (v5, single) = (w.name.starts_with("v5"), w.name.ends_with("1 record"));
    let budget = Duration::from_millis(if options.quick { 60 } else { 1500 });
    let start = Instant::now();
    let mut first = true;
    // Recordings go on in their second round as if their exporters had started anew.
    let round_records = |there: u64| if w.is_recorded() { w.records } else { there };
    while first || start.elapsed() < budget {
        for _ in 0..4 {
            if decode {
                ours.of(w.records, || round_records(bench::flowlane(w, &mut decoder)));
                memcpy.of(w.records, || {
                    assert_eq!(bench::copy(w, &mut buffer), bytes as u64);
                    w.records
                });
            }
            if rows {
                ours_rows.of(w.records, || {
                    let (there, sum) = bench::rows(w, &mut session);
                    assert!(w.is_recorded() || sum == w.bytes, "sums of the rows of {}", w.name);
                    round_records(there)
                });
            }
            if rows && v5 {
                views.of(w.records, || {
                    let (there, sum) = bench::views(w);
                    assert_eq!(sum, w.bytes, "sums of the views of {}", w.name);
                    there
                });
            }
        }
        if !options.no_peers && rows && v5 {
            parser_v5.of(w.records, || {
                let (there, sum) = bench::netflow_parser_v5(w, &mut parsers[0]);
                assert_eq!(sum, w.bytes, "sums of netflow_parser's {}", w.name);
                there
            });
        }
        if !options.no_peers && (first || place == "cache") {
            parser.of(w.records, || round_records(bench::netflow_parser(w, &mut parsers)));
            // It has no v5.
            if w.template.is_some() {
                netgauze.of(w.records, || round_records(bench::netgauze(w, &mut codecs)));
            }
        }
        first = false;
    }
    let plain = !single && !w.is_recorded();
    let variable = w.name.ends_with("variable");
    let row = |bench, value: &Best, against, base: &Best, target: Option<f64>| {
        let (value, against_value, target) = (value.0, base.0, target.map(Target::AtLeast));
        let (template, unit) = (w.name, "records_per_second");
        report.row(&Row { bench, template, place, unit, value, against, against_value, target });
    };
    let faster = if parser.0 >= netgauze.0 { ("netflow_parser", &parser) } else { ("netgauze-flow-pkt", &netgauze) };
    if decode {
        let target = match place {
            "cache" if v5 => Some(0.4),
            "cache" if !variable => Some(0.33),
            "memory" if v5 => Some(0.55),
            _ => None,
        };
        row("decode", &ours, "memcpy", &memcpy, target.filter(|_| plain));
        if !options.no_peers {
            let target = if v5 {
                4.0
            } else if variable {
                20.0
            } else {
                60.0
            };
            row("decode", &ours, faster.0, faster.1, plain.then_some(target));
        }
    }
    if rows {
        let (against, base) = if options.no_peers { ("", &ours_rows) } else { faster };
        row("rows", &ours_rows, against, base, (plain && !v5 && !options.no_peers).then_some(5.0));
        if v5 {
            // Both read every field.
            let base = if options.no_peers { &views } else { &parser_v5 };
            row("views", &views, against, base, (plain && !options.no_peers).then_some(1.0));
        }
    }
}
