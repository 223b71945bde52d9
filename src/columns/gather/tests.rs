//! One table of cases for every kernel that this machine has, scalar ones among them, against plain arithmetic.

use super::places::Places;
use super::window::{At, Clock, Field, Filled, Kernel, Lane, Rows, SLACK, Segment, Simd, Slots, WIDTH, Windows};
use super::{Listed, Positions, Strided, scalar};

const CLOCK: Clock = Clock { export_us: 1_700_000_000_000_000, uptime_ms: 40_000 };
const LANES: [Lane; 8] =
    [Lane::Quad, Lane::Pair, Lane::WidenPair, Lane::Word, Lane::Widen, Lane::Uptime, Lane::Wide, Lane::Millis];

fn kernels() -> impl Iterator<Item = Simd> {
    Kernel::ALL.into_iter().filter_map(Simd::new)
}

fn noise(n: usize) -> Vec<u8> {
    (0..n as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 23) as u8).collect()
}

/// What row `i` of a field is, as the bytes of its slot.
fn expected(record: &[u8], field: &Field) -> Vec<u8> {
    let bytes = &record[field.rel..field.rel + field.width];
    let number = || bytes.iter().fold(0u64, |v, &b| v << 8 | u64::from(b));
    match field.lane {
        None => bytes.to_vec(),
        Some(Lane::Uptime) => {
            let ago = i64::from(CLOCK.uptime_ms.wrapping_sub(number() as u32).cast_signed());
            (CLOCK.export_us - 1000 * ago).to_ne_bytes().to_vec()
        }
        Some(Lane::Millis) => number().wrapping_mul(1000).to_ne_bytes().to_vec(),
        Some(lane) => {
            let width = lane.bytes();
            let all = number().to_ne_bytes();
            if cfg!(target_endian = "little") { all[..width].to_vec() } else { all[8 - width..].to_vec() }
        }
    }
}

/// Runs windows over records and compares every byte of the memory that they may write and of what is beside it.
fn check(simd: Simd, bytes: &[u8], starts: &[u32], stride: Option<usize>, len: usize, fields: &[Field]) {
    let (n, first) = (starts.len(), 3);
    let widths: Vec<u8> = fields.iter().map(|f| f.lane.map_or(WIDTH, Lane::bytes) as u8).collect();
    let (windows, frame) = Windows::pack(&[(fields.to_vec(), whole(len))], &widths);
    let places = Places::new(&frame, first + n);
    let mut arena = vec![0xa5u8; places.len()];
    let at = stride.map_or(At::Starts(starts), At::Stride);
    let filled = windows[0].run(simd, Rows { bytes, at }, n, CLOCK, Slots::new(&mut arena, &places, first));
    let done = filled.rows;
    let beyond = |f: &Field, start: &u32| {
        let bytes = &bytes[*start as usize + f.rel..][..f.width];
        f.lane == Some(Lane::Millis) && bytes.iter().fold(0u64, |v, &b| v << 8 | u64::from(b)) >= 1 << 53
    };
    let fits = !starts[..done].iter().any(|start| fields.iter().any(|f| beyond(f, start)));
    assert_eq!(filled.fits, fits);
    // Only records whose window would leave the bytes are left to others.
    let safe = starts.iter().take_while(|&&s| s as usize + len.max(WIDTH) <= bytes.len()).count();
    assert!((safe..=n).contains(&done), "{done} of {n}, {safe} at least");
    let mut touched = vec![false; arena.len()];
    for (c, field) in fields.iter().enumerate() {
        let width = usize::from(widths[c]);
        for (i, &start) in starts.iter().enumerate().take(done) {
            let slot = places.start(c) + (first + i) * width;
            assert_eq!(
                arena[slot..slot + width],
                expected(&bytes[start as usize..], field),
                "row {i} of {n}: {field:?}"
            );
        }
        let from = places.start(c) + first * width;
        touched[from..from + (n + SLACK) * width].fill(true);
    }
    assert!(arena.iter().zip(&touched).all(|(&b, &t)| t || b == 0xa5), "wrote beside its rows");
}

/// A record of one segment.
fn whole(len: usize) -> Segment {
    Segment { before: 0, after: len }
}

/// The scalar kernels with the same fields: every byte of every row.
fn check_scalar(bytes: &[u8], starts: &[u32], stride: Option<usize>, fields: &[Field]) {
    match stride {
        Some(stride) => scalar_rows(Strided::new(bytes, stride), bytes, starts, fields),
        None => scalar_rows(Listed { bytes, starts }, bytes, starts, fields),
    }
}

fn scalar_rows<P: Positions>(at: P, bytes: &[u8], starts: &[u32], fields: &[Field]) {
    for field in fields {
        let (n, rel, width) = (starts.len(), field.rel, field.width);
        macro_rules! number {
            ($t:ty) => {{
                let mut to = vec![0 as $t; n];
                assert!(scalar::unsigned(at, rel, width, &mut to));
                to.iter().map(|v| v.to_ne_bytes().to_vec()).collect()
            }};
        }
        let time = |convert: fn(u64) -> i64| {
            let mut to = vec![0; n];
            assert!(scalar::time(at, rel, width, &mut to, |v| Some(convert(v))));
            to.iter().map(|v: &i64| v.to_ne_bytes().to_vec()).collect()
        };
        let rows: Vec<Vec<u8>> = match field.lane {
            None => {
                let mut to = vec![[0; WIDTH]; n];
                scalar::bytes(at, rel, &mut to);
                to.iter().map(|v| v.to_vec()).collect()
            }
            Some(Lane::Quad) => number!(u8),
            Some(Lane::Pair) => number!(u16),
            Some(Lane::Word | Lane::WidenPair) => number!(u32),
            Some(Lane::Uptime) => time(|v| {
                let ago = CLOCK.uptime_ms.wrapping_sub(v as u32).cast_signed();
                CLOCK.export_us - 1000 * i64::from(ago)
            }),
            Some(Lane::Millis) => time(|v| v.wrapping_mul(1000).cast_signed()),
            Some(_) => number!(u64),
        };
        for (i, (row, &start)) in rows.iter().zip(starts).enumerate() {
            assert_eq!(*row, expected(&bytes[start as usize..], field), "row {i} of {n}: {field:?}");
        }
    }
}

fn starts(n: usize, stride: usize) -> Vec<u32> {
    (0..n).map(|i| (i * stride) as u32).collect()
}

#[test]
fn machines_with_vectors_use_them() {
    let mut there = vec![Kernel::Scalar];
    if cfg!(all(target_arch = "aarch64", target_endian = "little")) {
        there.push(Kernel::Neon);
    }
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        there.push(Kernel::Avx2);
    }
    assert_eq!(Some(Kernel::best()), there.last().copied());
    assert_eq!(kernels().count(), there.len() - 1);
}

/// All that one field can be: each lane with each width that it takes, and sixteen bytes.
fn every_kind() -> impl Iterator<Item = (Option<Lane>, usize)> {
    LANES.map(Some).into_iter().chain([None]).flat_map(|lane| {
        let widths = match lane {
            None => WIDTH..=WIDTH,
            Some(Lane::WidenPair) => 1..=2,
            Some(Lane::Widen | Lane::Uptime) => 1..=4,
            Some(lane) => 1..=lane.bytes(),
        };
        widths.map(move |width| (lane, width))
    })
}

#[test]
fn every_width_offset_and_count() {
    const STRIDE: usize = 31;
    let bytes = noise(70 * STRIDE);
    for (lane, width) in every_kind() {
        for rel in 0..=STRIDE - width {
            let field = Field { rel, width, lane, column: 0 };
            // Every number of records where a window starts and ends with the field, some of them elsewhere.
            let all = rel == 0 || rel == STRIDE - width;
            for n in (0..=70).filter(|n| all || *n <= 9 || (29..=33).contains(n)) {
                let (starts, bytes) = (starts(n, STRIDE), &bytes[..n * STRIDE]);
                check_scalar(bytes, &starts, Some(STRIDE), &[field]);
                check_scalar(bytes, &starts, None, &[field]);
                for simd in kernels() {
                    check(simd, bytes, &starts, Some(STRIDE), STRIDE, &[field]);
                    check(simd, bytes, &starts, None, STRIDE, &[field]);
                }
            }
        }
    }
}

#[test]
fn every_shape() {
    // Fields of random kinds side by side: all shapes come up.
    let bytes = noise(20_000);
    let mut state = 7u64;
    let mut below = |n: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % n) as usize
    };
    for simd in kernels() {
        for round in 0..3000 {
            let (mut at, mut fields) = (below(3), Vec::new());
            for column in 0..1 + below(24) as u16 {
                let (lane, width) = match below(16) {
                    0 => (None, WIDTH),
                    1 | 2 => (Some([Lane::Wide, Lane::Millis][below(2)]), 1 + below(8)),
                    k => match LANES[k % 6] {
                        Lane::Quad => (Some(Lane::Quad), 1),
                        lane @ (Lane::Pair | Lane::WidenPair) => (Some(lane), 1 + below(2)),
                        lane => (Some(lane), 1 + below(4)),
                    },
                };
                fields.push(Field { rel: at, width, lane, column });
                at += width + below(8) / 7;
            }
            let (stride, n) = (at + below(3), below(71));
            let starts = starts(n, stride);
            let listed = (round % 2 == 0).then_some(stride);
            check(simd, &bytes[..n * stride], &starts, listed, at, &fields);
        }
    }
}

#[test]
fn records_that_end_at_the_end_of_memory() {
    let page = Page::new();
    for (lane, width) in every_kind() {
        for stride in [4usize, 15, 16, 17, 31, 40, 48, 76].into_iter().filter(|&stride| stride >= width) {
            for n in 0..=70usize {
                let (records, starts) = (page.end(n * stride), starts(n, stride));
                for rel in [0, stride - width] {
                    let field = Field { rel, width, lane, column: 0 };
                    check_scalar(records, &starts, Some(stride), &[field]);
                    for simd in kernels() {
                        check(simd, records, &starts, Some(stride), stride, &[field]);
                        check(simd, records, &starts, None, stride, &[field]);
                    }
                }
            }
        }
    }
}

/// Fields that no number holds, as bytes, at each offset of records at the end of memory.
fn bytes_of<const N: usize>(page: &Page) {
    for stride in [N, N + 1, 31, 40] {
        for n in 0..=70usize {
            let (records, starts) = (page.end(n * stride), starts(n, stride));
            for rel in 0..=stride - N {
                let (mut strided, mut listed) = (vec![[0; N]; n], vec![[0; N]; n]);
                scalar::bytes(Strided::new(records, stride), rel, &mut strided);
                scalar::bytes(Listed { bytes: records, starts: &starts }, rel, &mut listed);
                let expected: Vec<&[u8]> = starts.iter().map(|&at| &records[at as usize + rel..][..N]).collect();
                assert!(strided.iter().eq(&expected) && listed.iter().eq(&expected), "{N} of {stride} at {rel}, {n}");
            }
        }
    }
}

#[test]
fn bytes_that_are_no_numbers() {
    let page = Page::new();
    bytes_of::<6>(&page);
    bytes_of::<12>(&page);
    bytes_of::<16>(&page);
}

#[test]
fn starts_in_any_order_and_past_the_end() {
    let bytes = noise(400);
    let field = Field { rel: 2, width: 4, lane: Some(Lane::Word), column: 0 };
    let (windows, frame) = Windows::pack(&[(vec![field], whole(31))], &[4]);
    for simd in kernels() {
        let starts: Vec<u32> = (0..40).map(|i| i * 37 % 369).chain([370, 100_000, u32::MAX]).collect();
        let places = Places::new(&frame, starts.len());
        let mut arena = vec![0; places.len()];
        let rows = Rows { bytes: &bytes, at: At::Starts(&starts) };
        let done = windows[0].run(simd, rows, starts.len(), CLOCK, Slots::new(&mut arena, &places, 0));
        assert_eq!(done, Filled { rows: 41, fits: true });
        // A batch of another layout is not written to.
        let other = Places::new(&Windows::pack(&[(vec![field], whole(31))], &[4]).1, starts.len());
        let rows = Rows { bytes: &bytes, at: At::Starts(&starts) };
        assert_eq!(windows[0].run(simd, rows, 40, CLOCK, Slots::new(&mut arena, &other, 0)).rows, 0);
    }
}

#[test]
fn windows_of_short_segments_start_before_them() {
    let page = Page::new();
    for simd in kernels() {
        for (before, len) in (0..20).flat_map(|before| (1..20).map(move |len| (before, len))) {
            let (n, stride) = (37, before + len);
            let field = Field { rel: len - 1, width: 1, lane: Some(Lane::Quad), column: 0 };
            let (windows, frame) = Windows::pack(&[(vec![field], Segment { before, after: len })], &[1]);
            let places = Places::new(&frame, n);
            let mut arena = vec![0; places.len()];
            let bytes = page.end(n * stride);
            let starts: Vec<u32> = (0..n).map(|i| (i * stride + before) as u32).collect();
            let rows = Rows { bytes, at: At::Starts(&starts) };
            let done = windows[0].run(simd, rows, n, CLOCK, Slots::new(&mut arena, &places, 0)).rows;
            // Records too short for a window are left to others at one end of the bytes.
            assert!(done == n || stride < WIDTH && done + WIDTH.div_ceil(stride) >= n, "{before} {len}: {done}");
            for (i, &start) in starts.iter().enumerate().take(done) {
                assert_eq!(arena[places.start(0) + i], bytes[start as usize + len - 1]);
            }
            // One that is not where records are is none of a window's.
            let lost = [starts[3], 0, starts[4]];
            let rows = Rows { bytes, at: At::Starts(&lost) };
            let done = windows[0].run(simd, rows, 3, CLOCK, Slots::new(&mut arena, &places, 0)).rows;
            assert_eq!(done, if before > 0 && len < WIDTH { 1 } else { 3 }, "{before} {len}");
        }
    }
}

/// Two pages of memory after which there is none.
struct Page(*mut u8, usize);

#[expect(unsafe_code, reason = "memory with an end, which the allocator does not give")]
impl Page {
    fn new() -> Self {
        // SAFETY: a new mapping of three pages, of which the last loses all rights.
        unsafe {
            let page = usize::try_from(libc::sysconf(libc::_SC_PAGESIZE)).expect("a page size");
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let start = libc::mmap(std::ptr::null_mut(), 3 * page, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
            assert_ne!(start, libc::MAP_FAILED);
            let start = start.cast::<u8>();
            assert_eq!(libc::mprotect(start.add(2 * page).cast(), page, libc::PROT_NONE), 0);
            let noise = noise(2 * page);
            std::ptr::copy_nonoverlapping(noise.as_ptr(), start, noise.len());
            Self(start, 2 * page)
        }
    }

    /// The last `n` bytes.
    fn end(&self, n: usize) -> &[u8] {
        assert!(n <= self.1);
        // SAFETY: inside the two pages that can be read.
        unsafe { std::slice::from_raw_parts(self.0.add(self.1 - n), n) }
    }
}
