//! Plans by the content of their templates, their open batches, and batches on their way out.

use super::Config;
use crate::columns::{Batch, OptionsBatch};
use crate::plan::{Fractions, Plan};
use crate::template::Template;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Plans kept at most, and their bytes; beyond it those that are idle go.
const MAX_PLANS: usize = 4096;
const MAX_PLAN_BYTES: usize = 64 << 20;
/// Batches kept for their memory.
const MAX_SPARE: usize = 64;
/// How long one is kept that nobody fills, microseconds: those that waited for a writer are more than are filled at once later.
const SPARE_US: u64 = 3_000_000;
/// And how many of those go at once at most, since whoever receives has no time for more.
const FREED: usize = 4;

/// What a column takes in an open batch beside its values: its place, what is noted of its field, and the first bytes
/// of what varies in length.
const COLUMN_BYTES: usize = 384;

/// All plans, each with its open batch.
#[derive(Debug, Default)]
pub(super) struct Plans {
    by_template: HashMap<(Arc<Template>, Fractions), usize>,
    pub(super) slots: Vec<Slot>,
    bytes: usize,
    /// Changes whenever a slot is given up.
    pub(super) generation: u64,
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) plan: Plan,
    pub(super) batch: Option<Batch>,
    pub(super) opened_us: i64,
    pub(super) used_us: i64,
    /// Records decoded since the plan was compiled.
    pub(super) records: u64,
    /// Bytes that a row takes, roughly.
    pub(super) row_bytes: usize,
    /// Bytes of the batch when it was opened, empty.
    pub(super) empty_bytes: usize,
}

impl Plans {
    /// The slot of a template's plan, compiled when it is new.
    #[cold]
    pub(super) fn slot(
        &mut self,
        template: &Arc<Template>,
        fractions: Fractions,
        config: &Config,
        out: &mut Output,
    ) -> usize {
        let key = (template.clone(), fractions);
        if let Some(&slot) = self.by_template.get(&key) {
            return slot;
        }
        if self.slots.len() >= MAX_PLANS || self.bytes >= MAX_PLAN_BYTES {
            self.flush(out);
            self.prune();
        }
        let plan = Plan::compile_with(template, &config.registry, config.kernel, fractions);
        let row_bytes = plan.row_bytes();
        self.bytes += plan.memory();
        self.slots.push(Slot {
            plan,
            batch: None,
            opened_us: 0,
            used_us: i64::MIN,
            records: 0,
            row_bytes,
            empty_bytes: 0,
        });
        self.by_template.insert(key, self.slots.len() - 1);
        self.slots.len() - 1
    }

    /// The plan of a template, if it was needed so far; the one without a rule where there are several.
    pub(super) fn of(&self, template: &Arc<Template>) -> Option<&Slot> {
        let all = [Fractions::Binary, Fractions::Decimal].into_iter();
        let slot = all.filter_map(|fractions| self.by_template.get(&(template.clone(), fractions))).next()?;
        self.slots.get(*slot)
    }

    /// The batches that take rows now.
    pub(super) fn open(&self) -> impl Iterator<Item = &Batch> {
        self.slots.iter().filter_map(|s| s.batch.as_ref())
    }

    /// Hands all open batches over.
    pub(super) fn flush(&mut self, out: &mut Output) {
        out.ready.extend(self.slots.iter_mut().filter_map(|s| s.batch.take()));
        out.open_bytes = 0;
    }

    /// Hands over the batches that were opened too long ago.
    #[cold]
    pub(super) fn flush_aged(&mut self, now_us: i64, age_us: i64, out: &mut Output) {
        for slot in &mut self.slots {
            if slot.batch.is_some() && now_us.saturating_sub(slot.opened_us) >= age_us {
                out.close(slot);
            }
        }
    }

    /// Gives up the half of the plans that was not used for the longest time; a stream compiles what it still needs
    /// anew.
    fn prune(&mut self) {
        let mut ages: Vec<i64> = self.slots.iter().map(|s| s.used_us).collect();
        let middle = ages.len() / 2;
        if ages.is_empty() {
            return;
        }
        let (_, &mut median, _) = ages.select_nth_unstable(middle);
        let mut kept: Vec<Option<usize>> = Vec::with_capacity(self.slots.len());
        let mut n = 0;
        for slot in &self.slots {
            let keep = slot.used_us > median;
            kept.push(keep.then_some(n));
            n += usize::from(keep);
        }
        self.bytes = self.slots.iter().filter(|s| s.used_us > median).map(|s| s.plan.memory()).sum();
        let mut places = kept.iter();
        self.slots.retain(|_| places.next().is_some_and(Option::is_some));
        self.by_template.retain(|_, slot| match kept.get(*slot).copied().flatten() {
            Some(new) => {
                *slot = new;
                true
            }
            None => false,
        });
        self.generation += 1;
    }
}

/// What waits to be taken, and what came back.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) ready: VecDeque<Batch>,
    // And since when; the one that came last goes out first.
    spare: Vec<(i64, Batch)>,
    spare_bytes: usize,
    now_us: i64,
    pub(super) options: OptionsBatch,
    pub(super) spare_options: OptionsBatch,
    /// Bytes in open batches, roughly.
    pub(super) open_bytes: usize,
    batch_rows: usize,
    batch_bytes: usize,
    max_options: usize,
}

impl Output {
    pub(super) fn new(batch_rows: usize, batch_bytes: usize, max_options: usize) -> Self {
        Self {
            ready: VecDeque::new(),
            spare: Vec::new(),
            spare_bytes: 0,
            now_us: 0,
            options: OptionsBatch::default(),
            spare_options: OptionsBatch::default(),
            open_bytes: 0,
            batch_rows,
            batch_bytes,
            max_options,
        }
    }

    /// Gives a slot an empty batch: one that came back, or a new one.
    #[cold]
    pub(super) fn open(&mut self, slot: &mut Slot) {
        let batch = match self.spare.iter().rposition(|s| Arc::ptr_eq(s.1.layout(), slot.plan.layout())) {
            Some(i) => self.take_spare(i),
            None => Batch::new(slot.plan.layout().clone(), self.batch_rows),
        };
        slot.empty_bytes = batch.memory() + slot.plan.layout().columns().count() * COLUMN_BYTES;
        self.open_bytes += slot.empty_bytes;
        slot.batch = Some(batch);
    }

    fn take_spare(&mut self, i: usize) -> Batch {
        let (_, batch) = self.spare.remove(i);
        self.spare_bytes = self.spare_bytes.saturating_sub(batch.memory());
        batch
    }

    /// Hands a slot's batch over.
    #[cold]
    pub(super) fn close(&mut self, slot: &mut Slot) {
        if let Some(batch) = slot.batch.take() {
            let bytes = slot.empty_bytes + batch.rows() * slot.row_bytes;
            self.open_bytes = self.open_bytes.saturating_sub(bytes);
            self.ready.push_back(batch);
        }
    }

    /// Whether the open batches hold more than they may.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        self.open_bytes > self.batch_bytes
    }

    pub(super) fn options_full(&self) -> bool {
        self.options.len() >= self.max_options
    }

    pub(super) fn recycle(&mut self, mut batch: Batch) {
        batch.clear();
        self.spare_bytes += batch.memory();
        self.spare.push((self.now_us, batch));
        while self.spare.len() > MAX_SPARE || self.spare_bytes > self.batch_bytes / 4 && !self.spare.is_empty() {
            // The oldest goes: its layout may be one that nobody fills any more.
            self.take_spare(0);
        }
    }

    /// Gives batches back that waited too long.
    #[cold]
    pub(super) fn free_idle(&mut self, now_us: i64) {
        self.now_us = now_us;
        let idle = self.spare.iter().take_while(|s| now_us.abs_diff(s.0) > SPARE_US).count();
        for _ in 0..idle.min(FREED) {
            self.take_spare(0);
        }
    }
}
