//! Which operations of a plan vectors do, and how they are packed into windows.

use super::time::TimeKind;
use super::{Convert, Group, Op, Source};
use crate::columns::ColumnType;
use crate::columns::gather::places::Frame;
use crate::columns::gather::window::{Field, Lane, Segment, Simd, Windows};
use std::collections::BTreeMap;

/// What is left to do of an operation after its windows.
#[derive(Clone, Copy, PartialEq)]
enum Rest {
    Nothing,
    /// To check or convert its integers.
    Finish,
    /// All of it, where the windows say that something does not fit.
    Doubt,
}

/// What a window makes of an operation's field.
fn lane(op: &Op) -> Option<(Field, Rest)> {
    let Source::Fixed { rel, width, .. } = op.source else { return None };
    let field = |lane| Some(Field { rel, width, lane, column: op.column });
    let bytes = op.data_type.width()?;
    let (lane, rest) = match (op.convert, op.data_type) {
        (Convert::Bytes, ColumnType::Ip6) if width == 16 => return Some((field(None)?, Rest::Nothing)),
        (Convert::Uptime, ColumnType::Timestamp) if (1..=4).contains(&width) => (Lane::Uptime, Rest::Nothing),
        (Convert::Time(TimeKind::Milliseconds), ColumnType::Timestamp) if (5..=8).contains(&width) => {
            (Lane::Millis, Rest::Doubt)
        }
        (Convert::Time(kind), ColumnType::Timestamp) if kind.takes(width) => (wide(width), Rest::Finish),
        (Convert::Unsigned, ColumnType::I64) if (1..=8).contains(&width) => {
            (wide(width), if width == 8 { Rest::Finish } else { Rest::Nothing })
        }
        (Convert::Unsigned, ColumnType::U64) if (1..=8).contains(&width) => (wide(width), Rest::Nothing),
        // What is wider than its column is narrowed with a check, which the scalar kernels do.
        (Convert::Unsigned, _) if width == 0 || width > bytes => return None,
        (Convert::Unsigned, ColumnType::U8) => (Lane::Quad, Rest::Nothing),
        (Convert::Unsigned, ColumnType::U16) => (Lane::Pair, Rest::Nothing),
        (Convert::Unsigned, ColumnType::U32) if width <= 2 => (Lane::WidenPair, Rest::Nothing),
        (Convert::Unsigned, ColumnType::U32 | ColumnType::Ip4) => (Lane::Word, Rest::Nothing),
        _ => return None,
    };
    Some((field(Some(lane))?, rest))
}

fn wide(width: usize) -> Lane {
    if width > 4 { Lane::Wide } else { Lane::Widen }
}

/// Takes the operations that windows do out of `ops`; the columns' values have `widths` bytes.
pub(super) fn group(ops: &mut Vec<Op>, segments: &[usize], widths: &[u8], simd: Option<Simd>) -> (Box<[Group]>, Frame) {
    let Some(simd) = simd else { return (Box::default(), Windows::pack(&[], widths).1) };
    let mut by_segment: BTreeMap<u16, Vec<(Op, Field, Rest)>> = BTreeMap::new();
    ops.retain(|op| match (lane(op), op.source) {
        (Some((field, rest)), Source::Fixed { segment, .. }) => {
            by_segment.entry(segment).or_default().push((*op, field, rest));
            false
        }
        _ => true,
    });
    let fields = by_segment.iter().map(|(&segment, taken)| {
        // Each varying field has a byte of length at least (RFC 7011 section 7).
        let (before, from) = segments.split_at(usize::from(segment).min(segments.len()));
        let before = before.iter().sum::<usize>() + before.len();
        let after = from.iter().sum::<usize>() + from.len().saturating_sub(1);
        (taken.iter().map(|t| t.1).collect(), Segment { before, after })
    });
    let (windows, frame) = Windows::pack(&fields.collect::<Vec<_>>(), widths);
    let groups = by_segment.into_iter().zip(windows).map(|((segment, taken), windows)| {
        let of = |rest| taken.iter().filter(|t| t.2 == rest).map(|t| t.0).collect();
        let (raw, doubtful) = (of(Rest::Finish), of(Rest::Doubt));
        Group { simd, segment, windows, ops: taken.iter().map(|t| t.0).collect(), raw, doubtful }
    });
    (groups.collect(), frame)
}
