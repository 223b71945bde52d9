//! What answers questions.

use super::{Question, Spent};

/// A program or a library that reads flows from files.
pub trait Engine {
    /// What it is called.
    fn name(&self) -> &'static str;

    /// What it says of its version.
    fn version(&self) -> String;

    /// Whether it has an answer of its own to it.
    fn has(&self, _question: Question) -> bool {
        true
    }

    /// Its answer, and what it took.
    ///
    /// # Errors
    /// It fails, or its answer cannot be read.
    fn ask(&mut self, question: Question, threads: usize) -> anyhow::Result<(Answer, Spent)>;

    /// Bytes of the files that it reads from.
    fn disk_bytes(&self) -> u64;
}

/// An answer, in a form that is the same for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Flows, bytes, packets.
    Sums([u64; 3]),
    /// Keys and their bytes, the greatest first.
    Top(Vec<(String, u64)>),
}

impl Answer {
    /// Of lines of a key's columns and its bytes. What is equal at the end may be any of several keys.
    pub fn top(mut lines: Vec<(String, u64)>) -> Self {
        lines.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let last = lines.last().map(|l| l.1);
        let count = lines.iter().filter(|l| Some(l.1) == last).count();
        if count > 1 {
            lines.iter_mut().filter(|l| Some(l.1) == last).for_each(|l| l.0.clear());
        }
        Self::Top(lines)
    }

    /// Flows and their bytes, whatever their order.
    pub fn flows(bytes: impl Iterator<Item = u64>) -> Self {
        let (flows, bytes) = bytes.fold((0, 0), |(n, sum), bytes| (n + 1, sum + bytes));
        Self::Sums([flows, bytes, 0])
    }
}
