//! `flowlane help`: the way from a router to a file.

use anyhow::Context;
use flowlane::query::FILTER_EXAMPLES;
use flowlane::sink::schema::SCHEMA;
use std::io::{self, Write};
use std::process::ExitCode;

/// Arguments of `flowlane help`.
#[derive(clap::Args)]
pub struct Args {
    /// A command to explain, or `filter` for the language of filters
    command: Option<String>,
}

/// Arguments of `flowlane completions`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  flowlane completions bash > /etc/bash_completion.d/flowlane")]
pub struct CompletionArgs {
    /// The shell
    shell: clap_complete::Shell,
}

/// Arguments of `flowlane man`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  flowlane man /usr/local/share/man/man1")]
pub struct ManArgs {
    /// The folder: flowlane.1, flowlane-collect.1 and the others
    folder: std::path::PathBuf,
}

pub fn completions(args: &CompletionArgs, cli: &mut clap::Command) -> anyhow::Result<ExitCode> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, cli, "flowlane", &mut text);
    io::stdout().lock().write_all(&text)?;
    Ok(ExitCode::SUCCESS)
}

pub fn man(args: &ManArgs, cli: clap::Command) -> anyhow::Result<ExitCode> {
    let write = || {
        std::fs::create_dir_all(&args.folder)?;
        clap_mangen::generate_to(cli.name("flowlane"), &args.folder)
    };
    write().with_context(|| format!("cannot write into the folder {}", args.folder.display()))?;
    Ok(ExitCode::SUCCESS)
}

const TEXT: &str = "\
flowlane turns what routers say about traffic into files that other programs read.

A router or a probe (the exporter) sends datagrams in NetFlow v1, v5, v7, v9 or IPFIX to a collector. Each holds flow
records: who talked to whom, when, how many packets and bytes. In v9 and IPFIX the exporter first describes its records
in templates; a record that comes before its template waits for it.

1. See it work, without a router:
     flowlane demo

2. Receive. Without flags it listens on UDP port 2055, IPv4 and IPv6, and writes a Parquet file every 5 minutes:
     flowlane collect
     flowlane collect --format ndjson --out -              one flow a line on the screen
     flowlane collect --listen 0.0.0.0:9995 --out /data/flows --rotate 1h

3. Tell the exporter where to send. To try it on this host, with Debian's softflowd (as root):
     softflowd -i eth0 -v 9 -n 127.0.0.1:2055 -t maxlife=60

4. Ask; other engines read the files, too, which are plain Parquet:
     flowlane top src_addr 'last 1h and port https'
     duckdb -c \"select src_ip4, sum(bytes) from 'flows/**/*.parquet' group by 1 order by 2 desc limit 10\"

5. Look into a capture of the datagrams (tcpdump -w capture.pcap udp port 2055):
     flowlane decode capture.pcap                          a table
     flowlane decode capture.pcap --format ndjson          all columns
     flowlane decode capture.pcap --templates              what each exporter says its records are
     flowlane decode capture.pcap --format records         every field as it was sent, in hex

No flows? `flowlane collect` counts every datagram, whatever it holds, and says at its end what was lost and why:
datagrams without records mean templates that have not come yet; none at all, a firewall or a wrong address.

Exit codes: 0 done, 1 it could not be done (the last line says why), 2 the command line is wrong.
`flowlane help collect` and `flowlane collect --help` list all flags; `flowlane help filter` shows the language of filters.
";

/// The language of filters, by its examples.
fn filters(out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "What `flowlane flows`, `top`, `series` and `connections` take as a filter; words may stand without quotes\nwhere the shell lets them:\n"
    )?;
    for (about, examples) in FILTER_EXAMPLES {
        writeln!(out, "{about}")?;
        let width = examples.iter().map(|e| e.0.len()).max().unwrap_or(0).min(60);
        for (filter, meaning) in *examples {
            writeln!(out, "  {filter:width$}  {meaning}")?;
        }
    }
    let columns: Vec<&str> = SCHEMA.iter().map(|c| c.name).collect();
    writeln!(
        out,
        "\nA row that lacks a column is neither in nor out of what asks for it: `not port 53` is no flow without ports.\n"
    )?;
    writeln!(out, "Columns: {}", columns.join(", "))
}

pub fn run(args: &Args, cli: &mut clap::Command) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    match &args.command {
        None => out.write_all(TEXT.as_bytes())?,
        Some(name) if matches!(name.as_str(), "filter" | "filters") => filters(&mut out)?,
        Some(name) => {
            cli.build();
            let Some(command) = cli.find_subcommand_mut(name) else {
                let names: Vec<&str> = cli.get_subcommands().map(clap::Command::get_name).collect();
                return Err(super::usage(format!("no command `{name}`; commands are {}", names.join(", "))));
            };
            write!(out, "{}", command.render_long_help())?;
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
