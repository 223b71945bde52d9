//! `flowlane views`: other engines over the same files.

use anyhow::Context;
use clap::ValueEnum;
use flowlane::query::views::{Engine, definitions};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `flowlane views`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  flowlane views --engine duckdb flows > views.sql      then `duckdb -init views.sql`
  flowlane views --engine clickhouse /data/flows        for clickhouse local, and chdb in a session
  flowlane views --engine spark /data/flows             for spark-sql, and PySpark one statement after the other

The view has every column of the files, and src_addr, dst_addr, next_hop, bgp_next_hop, nat_src_addr and nat_dst_addr as text:
  SELECT src_addr, sum(bytes) FROM flows WHERE NOT counters_are_total GROUP BY 1 ORDER BY 2 DESC LIMIT 10;
Sealed files only: what is still in hot segments comes with the next rotation (collect --rotate).")]
pub struct Args {
    /// A folder that `collect` writes, a folder of Parquet files, or one file
    #[arg(default_value = "flows")]
    path: PathBuf,
    /// Who reads
    #[arg(short, long, value_enum)]
    engine: Engines,
    /// The view's name
    #[arg(long, value_name = "NAME", default_value = "flows", value_parser = name)]
    name: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum Engines {
    #[value(name = "duckdb")]
    DuckDb,
    #[value(name = "clickhouse")]
    ClickHouse,
    Spark,
}

fn name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if text.chars().all(plain) && text.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Ok(text.to_string());
    }
    Err("a name begins with a letter and has letters, digits and _".to_string())
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let path = args.path.canonicalize().with_context(|| format!("cannot read {}", args.path.display()))?;
    let engine = match args.engine {
        Engines::DuckDb => Engine::DuckDb,
        Engines::ClickHouse => Engine::ClickHouse,
        Engines::Spark => Engine::Spark,
    };
    std::io::stdout().write_all(definitions(engine, &args.name, &path).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
