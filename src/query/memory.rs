//! A filter over rows that are not written yet: a decoder's batch.

use super::filter::Filter;
use crate::columns::arrow::array;
use crate::columns::{Batch, Bitmap, Run, RunMeta};
use crate::sink::schema::{RUN_COLUMNS, SCHEMA};
use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray,
    TimestampMicrosecondArray, UInt8Array, UInt16Array, UInt32Array,
};
use arrow_buffer::BooleanBuffer;
use arrow_schema::{ArrowError, Field, Schema};
use std::sync::Arc;

/// What a filter says of the rows of a batch.
#[derive(Clone, Debug)]
pub struct Selected {
    /// The rows for which it holds.
    pub holds: Bitmap,
    // Those of which it could not tell.
    unknown: BooleanBuffer,
}

impl Selected {
    /// How many rows of a run go, and of how many of them the filter could not tell.
    pub fn left_out(&self, run: &Run) -> (u64, u64) {
        let (first, rows) = (run.first_row as usize, run.rows as usize);
        let kept = (first..first + rows).filter(|&row| self.holds.get(row)).count();
        ((rows - kept) as u64, self.unknown.slice(first, rows).count_set_bits() as u64)
    }

    /// Whether it holds for every row.
    pub fn is_all(&self) -> bool {
        self.holds.count_zeros() == 0
    }
}

impl Filter {
    /// Asks of every row of a finished batch; only the columns that the filter looks at are made.
    ///
    /// # Errors
    /// Those of Arrow: none, with batches of a decoder.
    ///
    /// ```
    /// # use flowlane::{Config, Decoder, Timestamp};
    /// # use flowlane::query::Filter;
    /// # use std::sync::Arc;
    /// let mut v5 = vec![0, 5, 0, 1, 0, 0, 39, 16, 101, 83, 241, 0];
    /// v5.resize(24 + 48, 0);
    /// # let mut decoder = Decoder::new(Config::default());
    /// decoder.decode(&v5, "192.0.2.1:2055".parse()?, Timestamp(0));
    /// let mut batch = Arc::new(decoder.flush().pop().expect("a batch"));
    /// let selected = Filter::parse("proto tcp or exporter 192.0.2.9", 0)?.select(&batch)?;
    /// Arc::get_mut(&mut batch).expect("not shared").retain(&selected.holds);
    /// assert_eq!(batch.rows(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn select(&self, batch: &Arc<Batch>) -> Result<Selected, ArrowError> {
        let (mut fields, mut arrays): (Vec<Field>, Vec<ArrayRef>) = (Vec::new(), Vec::new());
        for name in self.columns() {
            let own = batch.columns().enumerate().find(|(_, column)| *column.def.name == *name);
            let made = match own {
                Some((index, column)) => Some(array(batch, index, column)?),
                None => of_runs(batch, &name),
            };
            if let Some(made) = made {
                fields.push(Field::new(name, made.data_type().clone(), true));
                arrays.push(made);
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.rows()));
        let rows = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)?;
        let (holds, unknown) = self.tell(&rows);
        Ok(Selected { holds: Bitmap::of(holds.iter()), unknown })
    }
}

/// A column that a batch keeps once for each of its runs; `None` where it keeps none of this name.
fn of_runs(batch: &Batch, name: &str) -> Option<ArrayRef> {
    let (runs, rows) = (batch.runs(), batch.rows());
    let times = |of: fn(&RunMeta) -> i64| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from(each(runs, rows, of)).with_timezone("UTC"))
    };
    let place = SCHEMA.iter().take(RUN_COLUMNS).position(|c| c.name == name);
    Some(match (place, name) {
        (Some(0), _) => times(|m| m.received_at.0),
        (Some(1), _) => times(|m| m.export_time.0),
        (Some(2), _) => Arc::new(StringArray::from_iter_values(each(runs, rows, |m| m.exporter.ip().to_string()))),
        (Some(3), _) => Arc::new(UInt16Array::from(each(runs, rows, |m| m.exporter.port()))),
        (Some(4), _) => Arc::new(UInt8Array::from(each(runs, rows, |m| m.version))),
        (Some(5), _) => Arc::new(UInt32Array::from(each(runs, rows, |m| m.domain_id))),
        (Some(6), _) => Arc::new(UInt32Array::from(each(runs, rows, |m| m.sequence))),
        (Some(_), _) => Arc::new(UInt16Array::from(each(runs, rows, |m| m.template_id))),
        (None, "time_source") => Arc::new(UInt8Array::from(each(runs, rows, |m| m.time_source))),
        (None, "sampling_source") => Arc::new(UInt8Array::from(each(runs, rows, |m| m.sampling_source))),
        (None, "sampling_rate") => {
            let rates = each(runs, rows, |m| Some(m.sampling_rate).filter(|rate| !rate.is_nan()));
            Arc::new(Float64Array::from(rates))
        }
        (None, "flows") => Arc::new(Int64Array::from(vec![1; rows])),
        (None, "counters_are_total") => Arc::new(BooleanArray::from(vec![batch.layout().counters_are_total(); rows])),
        _ => return None,
    })
}

/// One value a row from what a run's rows have in common.
fn each<T: Clone>(runs: &[Run], rows: usize, of: impl Fn(&RunMeta) -> T) -> Vec<T> {
    let mut values = Vec::with_capacity(rows);
    for run in runs {
        values.extend(std::iter::repeat_n(of(&run.meta), run.rows as usize));
    }
    values
}
