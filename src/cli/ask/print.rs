//! How answers look.

use super::Style;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use std::io::{self, Write};

pub(super) fn print(style: Style, header: &[String], numeric: &[bool], rows: &[Vec<String>]) -> anyhow::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    match style {
        Style::Table => {
            let mut table = Table::new();
            table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
            table.set_header(header);
            for row in rows {
                table.add_row(row);
            }
            for (i, _) in numeric.iter().enumerate().filter(|n| *n.1) {
                if let Some(column) = table.column_mut(i) {
                    column.set_cell_alignment(CellAlignment::Right);
                }
            }
            writeln!(out, "{table}")?;
        }
        Style::Csv => {
            let quoted = |text: &String| {
                if text.contains([',', '"', '\n', '\r']) {
                    format!("\"{}\"", text.replace('"', "\"\""))
                } else {
                    text.clone()
                }
            };
            for row in std::iter::once(header).chain(rows.iter().map(Vec::as_slice)) {
                writeln!(out, "{}", row.iter().map(quoted).collect::<Vec<_>>().join(","))?;
            }
        }
        Style::Ndjson => {
            for row in rows {
                let mut object = serde_json::Map::new();
                for ((name, value), numeric) in header.iter().zip(row).zip(numeric) {
                    let number = numeric.then(|| serde_json::from_str(value).ok()).flatten();
                    if !value.is_empty() {
                        object.insert(name.clone(), number.unwrap_or_else(|| value.clone().into()));
                    }
                }
                writeln!(out, "{}", serde_json::Value::Object(object))?;
            }
        }
        Style::Markdown => {
            let line = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
            writeln!(out, "{}", line(header.to_vec()))?;
            writeln!(out, "{}", line(numeric.iter().map(|n| if *n { "---:" } else { "---" }.to_string()).collect()))?;
            for row in rows {
                writeln!(out, "{}", line(row.iter().map(|c| c.replace('|', "\\|")).collect()))?;
            }
        }
    }
    out.flush()?;
    Ok(())
}
