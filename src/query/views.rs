//! Views for other engines: the same Parquet files, with addresses as text.
//!
//! Files hold addresses as numbers and bytes, which are small and fast; people and joins want text. [`definitions`] prints what
//! an engine needs to be told once a session; afterwards the view `flows` has every column of the files and the six keys
//! of text output: `src_addr`, `dst_addr`, `next_hop`, `bgp_next_hop`, `nat_src_addr`, `nat_dst_addr`, written as RFC 5952
//! says. Filters on the files' own columns (`src_ip4`, `time_received`, ...) still use statistics.
//!
//! ```sh
//! flowlane views --engine duckdb /data/flows > views.sql     # then, in duckdb: .read views.sql
//! flowlane views --engine clickhouse /data/flows             # clickhouse local, chdb
//! flowlane views --engine spark /data/flows                  # spark-sql, PySpark 4: one statement after the other
//! ```
//!
//! ```sql
//! SELECT src_addr, sum(bytes) AS bytes FROM flows WHERE NOT counters_are_total GROUP BY src_addr ORDER BY bytes DESC LIMIT 10;
//! ```
//!
//! That is the way past one machine: several collectors write into one folder on shared storage, each under its own
//! `--node`, and a cluster of any of these engines reads it. `tests/engines.py` writes a folder by two collectors and compares
//! each engine's answers with `flowlane top`'s.

use crate::sink::schema::ADDRESSES;
use std::fmt::Write;
use std::path::Path;

/// Who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// DuckDB 1.0 and later.
    DuckDb,
    /// ClickHouse 23.8 and later, `clickhouse local` and chdb.
    ClickHouse,
    /// Spark 4 and later, which knows functions in SQL.
    Spark,
}

/// The statements that make a view over the files of a path: a folder that `collect` writes, a folder of Parquet files, or
/// one file.
pub fn definitions(engine: Engine, view: &str, path: &Path) -> String {
    let files = if path.join(".hot").is_dir() || !partitions(path).is_empty() {
        path.join("date=*").join("hour=*").join("*.parquet")
    } else if path.is_dir() {
        path.join("*.parquet")
    } else {
        path.to_path_buf()
    };
    let files = files.display().to_string().replace('\'', "''");
    match engine {
        Engine::DuckDb => duckdb(view, &files),
        Engine::ClickHouse => clickhouse(view, &files),
        Engine::Spark => spark(view, &files),
    }
}

fn partitions(path: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(path).into_iter().flatten().filter_map(|e| Some(e.ok()?.path()));
    entries.filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("date="))).collect()
}

fn duckdb(view: &str, files: &str) -> String {
    let mut sql = String::new();
    let groups = |hex: &str| {
        let group = |i: usize| format!("substr({hex}, {}, 4)", 1 + 4 * i);
        (0..8).map(group).collect::<Vec<_>>().join(", ")
    };
    let _ = writeln!(
        sql,
        "CREATE OR REPLACE MACRO flowlane_ip4(n) AS\n  \
         concat_ws('.', n::BIGINT >> 24, n::BIGINT >> 16 & 255, n::BIGINT >> 8 & 255, n::BIGINT & 255);"
    );
    let _ = writeln!(
        sql,
        "CREATE OR REPLACE MACRO flowlane_groups(h) AS\n  \
         regexp_replace(concat_ws(':', {}), '(^|:)0{{1,3}}([0-9a-f])', '\\1\\2', 'g');",
        groups("h")
    );
    let _ = writeln!(
        sql,
        "CREATE OR REPLACE MACRO flowlane_short(s) AS CASE\n{}  ELSE s END;",
        shortest(|pattern| format!("regexp_matches(s, '{pattern}') THEN regexp_replace(s, '{pattern}', '::')"))
    );
    let mapped = dotted(|i| format!("('0x' || substr(lower(hex(b)), {}, 2))::INTEGER", 25 + 2 * i));
    let _ = writeln!(
        sql,
        "CREATE OR REPLACE MACRO flowlane_ip6(b) AS CASE WHEN b IS NULL THEN NULL\n  \
         WHEN lower(hex(b)) LIKE '{MAPPED}%' THEN '::ffff:' || {mapped}\n  \
         ELSE flowlane_short(flowlane_groups(lower(hex(b)))) END;"
    );
    let _ = writeln!(sql, "CREATE OR REPLACE VIEW {view} AS SELECT *,");
    let _ = writeln!(
        sql,
        "{}",
        addresses(|v4, v6| format!("CASE WHEN {v4} IS NULL THEN flowlane_ip6({v6}) ELSE flowlane_ip4({v4}) END"))
    );
    let _ = writeln!(sql, "FROM read_parquet('{files}', union_by_name = true, hive_partitioning = true);");
    sql
}

fn clickhouse(view: &str, files: &str) -> String {
    let columns = addresses(|v4, v6| {
        // A column that no file has a value of has the type of nothing.
        format!("coalesce(IPv4NumToString({v4}), IPv6NumToString(CAST({v6}, 'Nullable(FixedString(16))')))")
    });
    format!(
        "CREATE OR REPLACE VIEW {view} AS SELECT *,\n{columns}\nFROM file('{files}', Parquet)\n\
         SETTINGS schema_inference_mode = 'union';\n"
    )
}

fn spark(view: &str, files: &str) -> String {
    let mut sql = String::new();
    let group = |i: usize| format!("substr(h, {}, 4)", 1 + 4 * i);
    let groups = (0..8).map(group).collect::<Vec<_>>().join(", ");
    let _ = writeln!(
        sql,
        "CREATE OR REPLACE TEMPORARY FUNCTION flowlane_ip4(n BIGINT) RETURNS STRING RETURN\n  \
         concat_ws('.', shiftright(n, 24), shiftright(n, 16) & 255, shiftright(n, 8) & 255, n & 255);"
    );
    let _ = writeln!(
        sql,
        "CREATE OR REPLACE TEMPORARY FUNCTION flowlane_groups(h STRING) RETURNS STRING RETURN\n  \
         regexp_replace(concat_ws(':', {groups}), '(^|:)0{{1,3}}([0-9a-f])', '$1$2');"
    );
    let _ = writeln!(
        sql,
        "CREATE OR REPLACE TEMPORARY FUNCTION flowlane_short(s STRING) RETURNS STRING RETURN CASE\n{}  ELSE s END;",
        // Its replacing is of all matches, so the match takes in what stands around it.
        shortest(|pattern| format!(
            "regexp_like(s, '{pattern}') THEN regexp_replace(s, '^(.*?){pattern}(.*)$', '$1::$5')"
        ))
    );
    let mapped = dotted(|i| format!("conv(substr(lower(hex(b)), {}, 2), 16, 10)", 25 + 2 * i));
    let _ = writeln!(
        sql,
        "CREATE OR REPLACE TEMPORARY FUNCTION flowlane_ip6(b BINARY) RETURNS STRING RETURN CASE WHEN b IS NULL THEN NULL\n  \
         WHEN lower(hex(b)) LIKE '{MAPPED}%' THEN '::ffff:' || {mapped}\n  \
         ELSE flowlane_short(flowlane_groups(lower(hex(b)))) END;"
    );
    let _ = writeln!(
        sql,
        "CREATE OR REPLACE TEMPORARY VIEW {view}_files USING parquet OPTIONS (path '{files}', mergeSchema 'true');"
    );
    let _ = writeln!(sql, "CREATE OR REPLACE TEMPORARY VIEW {view} AS SELECT *,");
    let _ = writeln!(
        sql,
        "{}",
        addresses(|v4, v6| format!("CASE WHEN {v4} IS NULL THEN flowlane_ip6({v6}) ELSE flowlane_ip4({v4}) END"))
    );
    let _ = writeln!(sql, "FROM {view}_files;");
    sql
}

/// How the hexadecimal digits of an IPv4 address in IPv6 begin (RFC 5952 section 5).
const MAPPED: &str = "00000000000000000000ffff";

/// The first of the longest runs of zeros shortened, of two groups at least (RFC 5952 section 4.2).
fn shortest(case: impl Fn(&str) -> String) -> String {
    (2..=8).rev().fold(String::new(), |mut sql, n| {
        let pattern = format!("(^|:)0(:0){{{}}}(:|$)", n - 1);
        let _ = writeln!(sql, "  WHEN {}", case(&pattern));
        sql
    })
}

fn dotted(octet: impl Fn(usize) -> String) -> String {
    format!("concat_ws('.', {})", (0..4).map(octet).collect::<Vec<_>>().join(", "))
}

fn addresses(text: impl Fn(&str, &str) -> String) -> String {
    let column = |p: &crate::sink::schema::AddressPair| format!("  {} AS {}", text(p.v4, p.v6), p.key);
    ADDRESSES.iter().map(column).collect::<Vec<_>>().join(",\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_has_a_text_and_paths_are_quoted() {
        for engine in [Engine::DuckDb, Engine::ClickHouse, Engine::Spark] {
            let sql = definitions(engine, "flows", Path::new("/nowhere/it's.parquet"));
            assert!(sql.contains("'/nowhere/it''s.parquet'"), "{sql}");
            for pair in ADDRESSES {
                assert!(sql.contains(&format!(" AS {}", pair.key)), "{sql}");
            }
        }
    }
}
