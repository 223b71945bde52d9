//! Holds the batches of a decoder against naive rows.

use super::{Row, Val};
use flowlane::columns::{Batch, Column, ColumnView};
use flowlane::decode::wire_order;

fn value(c: &Column<'_>, i: usize) -> Val {
    match c.values {
        ColumnView::U8(v) => Val::Unsigned(v[i].into()),
        ColumnView::U16(v) => Val::Unsigned(v[i].into()),
        ColumnView::U32(v) => Val::Unsigned(v[i].into()),
        ColumnView::U64(v) => Val::Unsigned(v[i]),
        ColumnView::I64(v) => Val::Signed(v[i]),
        ColumnView::F64(v) => Val::Float(v[i]),
        ColumnView::Bool(v) => Val::Bool(v.get(i)),
        ColumnView::Timestamp(v) => Val::Time(v[i]),
        ColumnView::Ip4(v) => Val::Bytes(v[i].to_be_bytes().to_vec()),
        ColumnView::Ip6(v) => Val::Bytes(v[i].to_vec()),
        ColumnView::Mac(v) => Val::Bytes(v[i].to_vec()),
        ColumnView::Text(v) => Val::Text(String::from_utf8(v.get(i).to_vec()).expect("text is UTF-8")),
        ColumnView::Octets(v) => Val::Bytes(v.get(i).to_vec()),
        ColumnView::ListU32(v) => {
            Val::List(v.get(i).chunks_exact(4).map(|b| u32::from_ne_bytes(b.try_into().expect("4 bytes"))).collect())
        }
        _ => panic!("a column type without a test"),
    }
}

/// The rows of batches that were flushed together, in wire order.
pub fn rows(batches: &[Batch]) -> Vec<Row> {
    let mut rows = Vec::new();
    for ordered in wire_order(batches) {
        let (batch, run) = (&batches[ordered.batch], ordered.run);
        for i in run.first_row as usize..(run.first_row + run.rows) as usize {
            let mut row = Row::default();
            for column in batch.columns().filter(|c| c.is_valid(i)) {
                let v = value(&column, i);
                let old = match &column.def.extra_key {
                    Some(key) => row.extras.insert(key.to_string(), v),
                    None => row.columns.insert(column.def.name.to_string(), v),
                };
                assert_eq!(old, None, "{} twice", column.def.name);
            }
            let m = &run.meta;
            if batch.column("time_source").is_none() {
                row.columns.insert("time_source".into(), Val::Unsigned(m.time_source.into()));
            }
            if batch.column("sampling_rate").is_none() {
                if !m.sampling_rate.is_nan() {
                    row.columns.insert("sampling_rate".into(), Val::Float(m.sampling_rate));
                }
                row.columns.insert("sampling_source".into(), Val::Unsigned(m.sampling_source.into()));
            }
            if let Some(n) = batch.layout().flows_constant() {
                row.columns.insert("flows".into(), Val::Signed(n));
            }
            row.columns.insert("counters_are_total".into(), Val::Bool(batch.layout().counters_are_total()));
            row.meta.extend([
                ("received_at", Val::Time(m.received_at.0)),
                ("export_time", Val::Time(m.export_time.0)),
                ("exporter", Val::Text(m.exporter.ip().to_string())),
                ("port", Val::Unsigned(m.exporter.port().into())),
                ("version", Val::Unsigned(m.version.into())),
                ("domain_id", Val::Unsigned(m.domain_id.into())),
                ("sequence", Val::Unsigned(m.sequence.into())),
                ("template_id", Val::Unsigned(m.template_id.into())),
                ("late", Val::Bool(m.late)),
            ]);
            rows.push(row);
        }
    }
    rows
}

fn same(want: &Val, have: &Val) -> bool {
    match (want, have) {
        (Val::Float(a), Val::Float(b)) => a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan(),
        (Val::Misfit(raw), Val::Bytes(b)) => raw == b,
        (Val::Misfit(raw), Val::Unsigned(n)) => {
            let (high, low) = raw.split_at(raw.len().saturating_sub(8));
            high.iter().all(|&b| b == 0) && low.iter().fold(0, |n, &b| n << 8 | u64::from(b)) == *n
        }
        (Val::AnyText, Val::Text(_) | Val::Bytes(_)) => true,
        _ => want == have,
    }
}

/// What differs between the rows that are wanted and those that are there, a line each; empty where nothing does.
pub fn differences(want: &[Row], have: &[Row]) -> Vec<String> {
    let mut out = Vec::new();
    if want.len() != have.len() {
        out.push(format!("{} rows wanted, {} there", want.len(), have.len()));
    }
    for (i, (w, h)) in want.iter().zip(have).enumerate() {
        for (what, w, h) in [("", &w.columns, &h.columns), ("extra ", &w.extras, &h.extras)] {
            for key in w.keys().chain(h.keys().filter(|k| !w.contains_key(*k))) {
                match (w.get(key), h.get(key)) {
                    (Some(a), Some(b)) if same(a, b) => {}
                    (a, b) => out.push(format!("row {i} {what}{key}: wanted {a:?}, there {b:?}")),
                }
            }
        }
        for (key, a) in &w.meta {
            if h.meta.get(key) != Some(a) {
                out.push(format!("row {i} {key}: wanted {a:?}, there {:?}", h.meta.get(key)));
            }
        }
    }
    out
}
