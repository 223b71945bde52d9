//! Windows: sixteen bytes of every record at once.
//!
//! A window is loaded from several records, its bytes are shuffled so that each 32-bit lane holds what one column or
//! several narrow ones take, the lanes of the records are transposed, and whole vectors go to the columns. What a lane
//! becomes is its [`Lane`]; the lanes of a window in order are its shape, and each shape is a kernel of its own, so
//! that nothing is decided while records pass.
//!
//! Kernels write whole vectors: up to [`SLACK`] rows after the last are scratch, and every column has room for them.

use super::places::{Frame, Places};
use super::vectors::Runner;
use std::marker::PhantomData;
use std::sync::LazyLock;

/// Bytes of a window.
pub(crate) const WIDTH: usize = 16;
/// Rows after the last one that a kernel may write to.
pub(crate) const SLACK: usize = 8;

/// An instruction set that the kernels are written for.
///
/// ```
/// use flowlane::columns::gather::Kernel;
///
/// assert!(Kernel::Scalar.is_available() && Kernel::best().is_available());
/// assert_eq!("neon".parse(), Ok(Kernel::Neon));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kernel {
    /// Plain loops from records to columns, on every machine: the reference.
    Scalar,
    /// AVX2, on x86-64.
    Avx2,
    /// NEON, on aarch64.
    Neon,
}

impl Kernel {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Scalar, Self::Avx2, Self::Neon];

    /// The fastest that this machine has.
    pub fn best() -> Self {
        let vectors = [Self::Avx2, Self::Neon].into_iter().find(|k| k.is_available());
        vectors.unwrap_or(Self::Scalar)
    }

    /// The one that the environment variable `FLOWLANE_KERNEL` names, if it names one; else the fastest.
    pub fn chosen() -> Self {
        static CHOSEN: LazyLock<Kernel> = LazyLock::new(|| {
            std::env::var("FLOWLANE_KERNEL").ok().and_then(|name| name.parse().ok()).unwrap_or_else(Kernel::best)
        });
        *CHOSEN
    }

    /// Whether this machine has it.
    pub fn is_available(self) -> bool {
        self == Self::Scalar || Simd::new(self).is_some()
    }

    /// Its name: `scalar`, `avx2` or `neon`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Neon => "neon",
        }
    }
}

impl std::fmt::Display for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Kernel {
    type Err = UnknownKernel;

    fn from_str(name: &str) -> Result<Self, UnknownKernel> {
        Self::ALL.into_iter().find(|k| k.name() == name).ok_or(UnknownKernel)
    }
}

/// A name that is no [`Kernel`]'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownKernel;

impl std::fmt::Display for UnknownKernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("unknown kernel: there are scalar, avx2 and neon")
    }
}

impl std::error::Error for UnknownKernel {}

/// Vector instructions that this machine was seen to have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Simd {
    run: Runner,
}

impl Simd {
    /// `None` where the machine lacks it, and for the scalar kernel.
    pub(crate) fn new(kernel: Kernel) -> Option<Self> {
        Runner::new(kernel).map(|run| Self { run })
    }
}

/// What a lane of 32 bits becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    Empty,
    /// One value of 32 bits.
    Word,
    /// One value of 64 bits with zeros above.
    Widen,
    /// An uptime in milliseconds, to microseconds UTC.
    Uptime,
    /// Two values of 16 bits.
    Pair,
    /// Two values of 16 bits, to 32 bits each.
    WidenPair,
    /// Four values of 8 bits.
    Quad,
    /// With the lane after it one value of 64 bits.
    Wide,
    /// As `Wide`, milliseconds to microseconds.
    Millis,
}

impl Lane {
    /// Values of a lane.
    #[inline(always)]
    pub(crate) const fn values(self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Word | Self::Widen | Self::Uptime | Self::Wide | Self::Millis => 1,
            Self::Pair | Self::WidenPair => 2,
            Self::Quad => 4,
        }
    }

    /// Bytes that a value takes in its column.
    #[inline(always)]
    pub(crate) const fn bytes(self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Quad => 1,
            Self::Pair => 2,
            Self::Word | Self::WidenPair => 4,
            Self::Widen | Self::Uptime | Self::Wide | Self::Millis => 8,
        }
    }

    /// Bytes that a value takes in its lane.
    const fn room(self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Quad => 1,
            Self::Pair | Self::WidenPair => 2,
            Self::Word | Self::Widen | Self::Uptime => 4,
            Self::Wide | Self::Millis => 8,
        }
    }

    /// Whether it takes the lane after it, too.
    #[inline(always)]
    pub(super) const fn is_wide(self) -> bool {
        matches!(self, Self::Wide | Self::Millis)
    }
}

const WIDE: [Lane; 2] = [Lane::Wide, Lane::Millis];
const SINGLE: [Lane; 7] = [Lane::Empty, Lane::Word, Lane::Widen, Lane::Uptime, Lane::Pair, Lane::WidenPair, Lane::Quad];

/// The shapes: lanes are free to trade places, so each multiset of them stands once; wide ones come first.
pub(crate) const SHAPES: [[Lane; 4]; 269] = {
    let mut shapes = [[Lane::Empty; 4]; 269];
    let (mut n, mut a) = (0, 0);
    while a < SINGLE.len() {
        let mut b = a;
        while b < SINGLE.len() {
            let mut c = 0;
            while c < WIDE.len() {
                shapes[n] = [WIDE[c], Lane::Empty, SINGLE[a], SINGLE[b]];
                (n, c) = (n + 1, c + 1);
            }
            let mut c = b;
            while c < SINGLE.len() {
                let mut d = c;
                while d < SINGLE.len() {
                    shapes[n] = [SINGLE[a], SINGLE[b], SINGLE[c], SINGLE[d]];
                    (n, d) = (n + 1, d + 1);
                }
                c += 1;
            }
            b += 1;
        }
        a += 1;
    }
    let mut a = 0;
    while a < WIDE.len() {
        let mut b = a;
        while b < WIDE.len() {
            shapes[n] = [WIDE[a], Lane::Empty, WIDE[b], Lane::Empty];
            (n, b) = (n + 1, b + 1);
        }
        a += 1;
    }
    assert!(n == shapes.len());
    shapes
};

/// The shape of a window that goes to one column of 16 bytes as it is.
pub(crate) const WHOLE: usize = SHAPES.len();

/// A field that a window can take: a big-endian unsigned integer, or sixteen bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    /// Where it starts in the record or segment.
    pub(crate) rel: usize,
    /// Its bytes, at most as many as a value has in the lane.
    pub(crate) width: usize,
    /// What it becomes; `None` for sixteen bytes that are copied.
    pub(crate) lane: Option<Lane>,
    pub(crate) column: u16,
}

/// Sixteen bytes of every record, and what they become.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    // From the start of the record or segment; a short segment's window may start before it.
    pub(super) rel: isize,
    /// For each byte of the lanes the byte of the window that it is; 128 for zero.
    pub(super) mask: [u8; WIDTH],
    // INVARIANT: at most WHOLE.
    pub(super) shape: usize,
    /// The first of its slots among those of all windows; as many follow as its lanes have values.
    pub(super) slot: usize,
}

/// The windows over one run of bytes of each record.
#[derive(Clone, Debug)]
pub(crate) struct Windows {
    // INVARIANT: every slot of a window is one of the frame's, and its column has the width that its lane writes.
    windows: Box<[Window]>,
    frame: Frame,
    // INVARIANT: every window's rel + WIDTH is at most this.
    reach: usize,
    // INVARIANT: no window's rel is below this number's negative.
    lead: usize,
}

/// A segment of records: what every record has around it, which windows may look into.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    /// Bytes before it at least.
    pub(crate) before: usize,
    /// Bytes from its start on at least.
    pub(crate) after: usize,
}

impl Windows {
    /// Windows for the fields of each segment. They do not leave the record if it is long enough. `widths` are the bytes
    /// of the columns' values, 0 where they vary.
    ///
    /// # Panics
    /// Where a field's lane writes values of another width than its column's.
    pub(crate) fn pack(segments: &[(Vec<Field>, Segment)], widths: &[u8]) -> (Vec<Self>, Frame) {
        let mut slots = Vec::new();
        let packed: Vec<_> = segments.iter().map(|(fields, at)| pack(fields, *at, widths, &mut slots)).collect();
        let frame = Frame::new(widths, slots);
        let windows = packed.into_iter().map(|windows| {
            let reach = windows.iter().map(|w| w.rel + WIDTH as isize).max().unwrap_or(0).max(0).cast_unsigned();
            let lead = windows.iter().map(|w| w.rel).min().unwrap_or(0).min(0).unsigned_abs();
            Self { windows, frame: frame.clone(), reach, lead }
        });
        (windows.collect(), frame)
    }

    /// How many windows there are.
    pub(crate) fn len(&self) -> usize {
        self.windows.len()
    }

    /// Fills the columns from the first `n` records.
    #[inline(always)]
    pub(crate) fn run<'b>(&self, simd: Simd, rows: Rows<'b>, n: usize, clock: Clock, slots: Slots<'b>) -> Filled {
        let none = Filled { rows: 0, fits: true };
        let Some(room) = rows.bytes.len().checked_sub(self.reach) else { return none };
        let n = match rows.at {
            At::Stride(_) if self.lead > 0 => 0,
            At::Stride(stride) if n <= 1 || (n - 1).checked_mul(stride).is_some_and(|last| last <= room) => n,
            At::Stride(stride) => n.min(room / stride.max(1) + 1),
            At::Starts(starts) => {
                let starts = starts.get(..n).unwrap_or(starts);
                let fits = |start: u32| (self.lead..=room).contains(&(start as usize));
                // Only the last ones are near the end as a rule.
                let n = starts.iter().rposition(|&s| fits(s)).map_or(0, |last| last + 1);
                if all_within(starts.get(..n).unwrap_or(&[]), self.lead, room) {
                    n
                } else {
                    starts.iter().position(|&s| !fits(s)).unwrap_or(0)
                }
            }
        };
        let fits = slots.places.frame.same(&self.frame)
            && slots.first + n <= slots.places.rows
            && slots.len >= slots.places.len;
        if !fits || n == 0 {
            return none;
        }
        let millis = simd.run.run(&self.windows, &Fitting { rows, n, slots }, clock);
        Filled { rows: n, fits: millis >> MILLIS_BITS == 0 }
    }
}

/// What windows came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Filled {
    /// Rows that are done. The others are so near the end of the bytes that a window would leave them.
    pub(crate) rows: usize,
    /// Whether all milliseconds have a bit less than 64 bits of microseconds hold: else some of these columns are spoilt.
    pub(crate) fits: bool,
}

/// Milliseconds of so many bits have less than 64 bits of microseconds, signed.
const MILLIS_BITS: u32 = 53;

/// The windows of a segment, whose slots are added to those there are.
fn pack(fields: &[Field], at: Segment, widths: &[u8], slots: &mut Vec<u16>) -> Box<[Window]> {
    let mut fields: Vec<Field> = fields.to_vec();
    for field in &fields {
        let width = widths.get(usize::from(field.column)).copied().map(usize::from);
        assert_eq!(width, Some(field.lane.map_or(WIDTH, Lane::bytes)), "{field:?}");
    }
    fields.sort_by_key(|f| f.rel);
    let mut windows = Vec::new();
    while let Some(first) = fields.first() {
        // Where what is left of the record is shorter than a window, that starts earlier.
        let latest = (at.after as isize - WIDTH as isize).max(-(at.before as isize));
        let rel = (first.rel as isize).min(latest);
        let mut packing = Packing::default();
        let within = |f: &Field| f.rel as isize >= rel && (f.rel + f.width) as isize <= rel + WIDTH as isize;
        fields.retain(|f| !(within(f) && packing.take(f)));
        match packing.window(rel, slots) {
            Some(window) => windows.push(window),
            None => break,
        }
    }
    windows.into()
}

/// Whether no number is below `least`, above `most` or has more than 31 bits.
#[inline(always)]
fn all_within(numbers: &[u32], least: usize, most: usize) -> bool {
    let (least, most) = (least as u32, most.min(i32::MAX as usize) as u32);
    // The top bit of a difference below zero, or of the number: the compiler does several with any instructions.
    let odd = |n: u32| n | n.wrapping_sub(least) | most.wrapping_sub(n);
    numbers.iter().fold(0, |any, &n| any | odd(n)) >> 31 == 0
}

/// Records whose windows are inside the bytes, and rows that are inside the arena, of the columns that the windows were
/// packed for; only [`Windows::run`] makes it, for the kernels it calls.
pub(super) struct Fitting<'b> {
    // INVARIANT: record i < n starts at i * stride or starts[i], and the windows around that are in the bytes.
    pub(super) rows: Rows<'b>,
    // INVARIANT: > 0.
    pub(super) n: usize,
    // INVARIANT: room for n rows and SLACK from the first one in every column.
    pub(super) slots: Slots<'b>,
}

/// A window being filled.
#[derive(Default)]
struct Packing {
    lanes: Vec<(Lane, Vec<Field>)>,
    whole: Option<Field>,
}

impl Packing {
    fn take(&mut self, field: &Field) -> bool {
        let Some(lane) = field.lane else {
            let free = self.lanes.is_empty() && self.whole.is_none();
            self.whole = self.whole.or(free.then_some(*field));
            return free;
        };
        if self.whole.is_some() {
            return false;
        }
        if let Some((_, fields)) = self.lanes.iter_mut().find(|(l, f)| *l == lane && f.len() < lane.values()) {
            fields.push(*field);
            return true;
        }
        let used: usize = self.lanes.iter().map(|(l, _)| l.room().max(4)).sum();
        let free = used + lane.room().max(4) <= WIDTH;
        if free {
            self.lanes.push((lane, vec![*field]));
        }
        free
    }

    fn window(mut self, rel: isize, slots: &mut Vec<u16>) -> Option<Window> {
        let slot = slots.len();
        if let Some(field) = self.whole {
            slots.push(field.column);
            return Some(Window {
                rel: field.rel as isize,
                mask: std::array::from_fn(|i| i as u8),
                shape: WHOLE,
                slot,
            });
        }
        if self.lanes.is_empty() {
            return None;
        }
        // Wide ones first; the others as in `SHAPES`, empty ones before all.
        self.lanes.sort_by_key(|(lane, _)| (!lane.is_wide(), *lane));
        let wide = self.lanes.iter().filter(|(l, _)| l.is_wide()).count();
        let empty = 4 - wide - self.lanes.len();
        let mut lanes = self.lanes.into_iter();
        let mut shape = [Lane::Empty; 4];
        let mut mask = [0x80; WIDTH];
        let places = (0..wide).map(|i| 2 * i).chain(2 * wide + empty..4);
        for (place, (lane, fields)) in places.zip(lanes.by_ref()) {
            shape[place] = lane;
            for value in 0..lane.values() {
                // A lane that is not full repeats a value.
                let field = fields.get(value).or(fields.last())?;
                slots.push(field.column);
                for byte in 0..field.width {
                    // The last byte of the field is the lowest of the value.
                    mask[4 * place + lane.room() * value + byte] =
                        ((field.rel + field.width - 1 - byte) as isize - rel) as u8;
                }
            }
        }
        let shape = SHAPES.iter().position(|s| *s == shape)?;
        Some(Window { rel, mask, shape, slot })
    }
}

/// Where records start.
#[derive(Clone, Copy, Debug)]
pub(crate) enum At<'b> {
    /// One after the other, each of this many bytes.
    Stride(usize),
    /// At these bytes, ascending.
    Starts(&'b [u32]),
}

/// Records, or the part of them that windows see.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'b> {
    pub(crate) bytes: &'b [u8],
    pub(crate) at: At<'b>,
}

/// The message's clock, for uptimes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    pub(crate) export_us: i64,
    pub(crate) uptime_ms: u32,
}

/// The columns of a batch, and the row to write first.
pub(crate) struct Slots<'a> {
    // INVARIANT: `len` bytes that nobody else has for 'a.
    pub(super) arena: *mut u8,
    len: usize,
    pub(super) places: &'a Places,
    pub(super) first: usize,
    memory: PhantomData<&'a mut [u8]>,
}

impl<'a> Slots<'a> {
    #[inline]
    pub(crate) fn new(arena: &'a mut [u8], places: &'a Places, first: usize) -> Self {
        Self { len: arena.len(), arena: arena.as_mut_ptr(), places, first, memory: PhantomData }
    }
}
