//! Flows written again: what a filter chooses, under one schema, whatever files it comes from.

use super::anonymise::Anonymiser;
use super::scan::Input;
use crate::keep;
use crate::sink::schema::ADDRESSES;
use crate::sink::{EXTRA_COLUMNS, FileSchema, texts_as};
use arrow_array::{BooleanArray, RecordBatch, new_null_array};
use arrow_buffer::BooleanBuffer;
use arrow_schema::{ArrowError, Field, Schema};
use arrow_select::filter::filter_record_batch;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use std::fs::File;
use std::sync::Arc;

/// The columns of an export: the schema, and the extras of all its inputs.
#[derive(Clone, Debug)]
pub struct Export {
    schema: Arc<Schema>,
}

impl Export {
    /// The columns of these inputs; with an anonymiser, without those that tell who it was. An input that cannot be read adds
    /// none; the scan tells of it.
    pub fn of(inputs: &[Input], anonymiser: Option<&Anonymiser>) -> Self {
        let whole = FileSchema::new([], true).arrow().clone();
        let mut fields: Vec<Arc<Field>> = whole.fields().iter().cloned().collect();
        let known = fields.len();
        let mut add = |schema: &Schema| {
            for field in schema.fields().iter().filter(|f| f.name().starts_with("x_")) {
                if fields.len() < known + EXTRA_COLUMNS && !fields.iter().any(|f| f.name() == field.name()) {
                    fields.push(field.clone());
                }
            }
        };
        for input in inputs {
            match input {
                Input::Hot(path) => {
                    // Its batches may differ; damage is told by the scan.
                    let _ = keep::read_segment(path, |batch| {
                        add(&batch.schema());
                        Ok(())
                    });
                }
                Input::Parquet(path) => {
                    let schema = File::open(path).ok().and_then(|file| {
                        ArrowReaderMetadata::load(&file, Default::default()).ok().map(|m| m.schema().clone())
                    });
                    schema.iter().for_each(|s| add(s));
                }
                Input::Arrow(path) => {
                    let file = File::open(path).ok().and_then(|f| arrow_ipc::reader::FileReader::try_new(f, None).ok());
                    file.iter().for_each(|f| add(&f.schema()));
                }
            }
        }
        if anonymiser.is_some() {
            fields.retain(|f| !Anonymiser::is_identity(f.name()));
        }
        // What a column of the files lacks is null here.
        let nullable = fields.into_iter().map(|f| Arc::new(f.as_ref().clone().with_nullable(true)));
        let schema = Schema::new(nullable.collect::<Vec<_>>()).with_metadata(whole.metadata().clone());
        Self { schema: Arc::new(schema) }
    }

    /// The schema of [`rows`](Self::rows), for a file of them.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// The columns that are read.
    pub fn columns(&self) -> Vec<String> {
        self.schema.fields().iter().map(|f| f.name().clone()).collect()
    }

    /// The columns of text: a key in place of each pair of addresses, and no map of extras.
    pub fn text_columns(&self) -> Vec<String> {
        let text = |name: &String| match ADDRESSES.iter().find(|p| p.v4 == name || p.v6 == name) {
            Some(pair) if pair.v4 == name => Some(pair.key.to_string()),
            Some(_) => None,
            None => (name != "extras").then(|| name.clone()),
        };
        self.columns().iter().filter_map(text).collect()
    }

    /// The chosen rows of a batch, under the export's schema.
    ///
    /// # Errors
    /// Those of Arrow.
    pub fn rows(&self, batch: &RecordBatch, chosen: &BooleanBuffer) -> Result<RecordBatch, ArrowError> {
        let batch = filter_record_batch(batch, &BooleanArray::new(chosen.clone(), None))?;
        let columns = self.schema.fields().iter().map(|field| {
            let array = batch.column_by_name(field.name()).map(|a| texts_as(field.data_type(), a.clone()));
            // A column of another type is another program's.
            array
                .filter(|a| a.data_type() == field.data_type())
                .unwrap_or_else(|| new_null_array(field.data_type(), batch.num_rows()))
        });
        RecordBatch::try_new(self.schema.clone(), columns.collect())
    }
}
