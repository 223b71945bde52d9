//! A column of texts in the making.

use crate::columns::{Batch, VarBuf};
use std::collections::HashMap;
use std::sync::Arc;

/// Texts that are kept at most: beyond them all start anew.
const TEXTS: usize = 1 << 19;

/// Different texts, each with a number. 0 is none.
#[derive(Debug, Default)]
pub(super) struct Texts {
    ids: HashMap<Arc<str>, u32>,
    all: Vec<Arc<str>>,
}

impl Texts {
    /// The number of a text.
    pub(super) fn id(&mut self, text: &str) -> u32 {
        if let Some(&id) = self.ids.get(text) {
            return id;
        }
        let text: Arc<str> = text.into();
        self.all.push(text.clone());
        let id = self.all.len() as u32;
        self.ids.insert(text, id);
        id
    }

    /// The number of a text that may be none.
    pub(super) fn id_of(&mut self, text: Option<&str>) -> u32 {
        text.map_or(0, |text| self.id(text))
    }

    pub(super) fn is_full(&self) -> bool {
        self.all.len() >= TEXTS
    }

    fn get(&self, id: u32) -> &str {
        (id as usize).checked_sub(1).and_then(|at| self.all.get(at)).map_or("", |text| text)
    }
}

/// The keys of a column's rows, and the texts that they are places of.
#[derive(Debug, Default)]
pub(super) struct Column {
    // For each text the column in which it came last, and its place there.
    places: Vec<(u32, i32)>,
    turn: u32,
    keys: Vec<i32>,
    texts: VarBuf,
    used: i32,
}

impl Column {
    pub(super) fn begin(&mut self, texts: &Texts) {
        self.turn = self.turn.wrapping_add(1);
        if self.turn == 0 || self.places.len() > texts.all.len() + 1 {
            // The numbers began anew, of turns or of texts.
            self.places.clear();
            self.turn = 1;
        }
        self.places.resize(texts.all.len() + 1, (0, 0));
        self.keys.clear();
        self.texts = VarBuf::default();
        self.used = 0;
    }

    /// The next `rows` rows have the text of a number.
    #[inline]
    pub(super) fn push(&mut self, id: u32, rows: usize, texts: &Texts) {
        let key = self.key(id, texts);
        if rows == 1 {
            self.keys.push(key);
        } else {
            self.keys.extend(std::iter::repeat_n(key, rows));
        }
    }

    #[inline]
    fn key(&mut self, id: u32, texts: &Texts) -> i32 {
        if id == 0 {
            return -1;
        }
        match self.places.get(id as usize) {
            Some(&(turn, key)) if turn == self.turn => key,
            _ => self.new_key(id, texts),
        }
    }

    #[cold]
    fn new_key(&mut self, id: u32, texts: &Texts) -> i32 {
        let key = self.used;
        self.texts.push(texts.get(id).as_bytes());
        self.used += 1;
        if self.places.len() <= id as usize {
            self.places.resize(id as usize + 1, (0, 0));
        }
        if let Some(place) = self.places.get_mut(id as usize) {
            *place = (self.turn, key);
        }
        key
    }

    /// Gives the batch the column, unless no row has a text.
    pub(super) fn end(&mut self, batch: &mut Batch, name: &str) {
        if self.used > 0 {
            batch.join_texts(name, &self.keys, std::mem::take(&mut self.texts));
        }
    }
}
