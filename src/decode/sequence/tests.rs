use super::*;
use proptest::prelude::*;

fn whole(known: u32) -> Units {
    Units { message: 0, known, held: 0, lost: false, options: 0 }
}

fn held(message: u64, known: u32, held: u32) -> Units {
    Units { message, held, ..whole(known) }
}

/// A sequence, and the sum of what was counted.
#[derive(Default)]
struct Counted {
    sequence: Sequence,
    sum: Correction,
}

impl Counted {
    fn step(&mut self, number: u32, units: &Units) -> SequenceEvent {
        self.step_up(number, units, None)
    }

    fn step_up(&mut self, number: u32, units: &Units, uptime: Option<u32>) -> SequenceEvent {
        let event = self.sequence.step(number, units, uptime, &mut self.sum);
        self.sum += event.counted();
        event
    }

    fn settle(&mut self, message: u64, units: u32, whole: bool) -> Correction {
        let mut fix = Correction::default();
        self.sequence.settle(message, units, whole, &mut fix);
        self.sum += fix;
        fix
    }
}

#[test]
fn gaps_reorders_duplicates_and_resets_are_told_apart() {
    let mut s = Counted::default();
    let mut step = |n, u| s.step_up(n, &whole(u), Some(1000));
    assert_eq!(step(100, 30), SequenceEvent::InOrder);
    assert_eq!(step(130, 30), SequenceEvent::InOrder);
    assert_eq!(step(220, 30), SequenceEvent::Gap(60));
    assert_eq!(step(190, 30), SequenceEvent::Reordered(30));
    assert_eq!(step(190, 30), SequenceEvent::Duplicate);
    assert_eq!(step(250, 30), SequenceEvent::InOrder);
    assert_eq!(step(4_000_000_000, 30), SequenceEvent::Reset);
    assert_eq!(step(4_000_000_030, 30), SequenceEvent::InOrder);
    assert_eq!(step(4_000_000_060, 30), SequenceEvent::InOrder);
}

#[test]
fn the_counter_wraps() {
    let mut s = Counted::default();
    assert_eq!(s.step(u32::MAX - 9, &whole(10)), SequenceEvent::InOrder);
    assert_eq!(s.step(0, &whole(10)), SequenceEvent::InOrder);
    assert_eq!(s.step(10, &whole(10)), SequenceEvent::InOrder);
}

#[test]
fn an_undecodable_set_is_no_loss() {
    let mut s = Counted::default();
    assert_eq!(s.step(0, &held(1, 0, 1)), SequenceEvent::InOrder);
    assert_eq!(s.step(25, &whole(5)), SequenceEvent::Unverifiable);
    assert_eq!(s.step(30, &whole(5)), SequenceEvent::InOrder);
    assert_eq!(s.settle(1, 25, true), Correction { unverifiable: -1, ..Correction::default() });
}

#[test]
fn a_set_decoded_late_shows_a_loss_after_it() {
    let mut s = Counted::default();
    assert_eq!(s.step(0, &held(1, 2, 2)), SequenceEvent::InOrder);
    assert_eq!(s.step(25, &whole(5)), SequenceEvent::Unverifiable);
    assert_eq!(s.settle(1, 10, true), Correction::default());
    assert_eq!(s.settle(1, 10, true), Correction { unverifiable: -1, lost: 3, gaps: 1, ..Correction::default() });
    assert_eq!(s.settle(1, 10, true), Correction::default());
}

#[test]
fn a_set_decoded_before_the_next_message_leaves_no_doubt() {
    let mut s = Counted::default();
    assert_eq!(s.step(0, &held(1, 0, 1)), SequenceEvent::InOrder);
    assert_eq!(s.settle(1, 10, true), Correction::default());
    assert_eq!(s.step(10, &whole(5)), SequenceEvent::InOrder);
    assert_eq!(s.step(16, &whole(5)), SequenceEvent::Gap(1));
}

#[test]
fn an_exporter_that_restarts_is_no_loss() {
    let mut s = Counted::default();
    s.step_up(1000, &whole(1), Some(9_000_000));
    assert_eq!(s.step_up(1, &whole(1), Some(5_000)), SequenceEvent::Reset);
    assert_eq!(s.step_up(2, &whole(1), Some(6_000)), SequenceEvent::InOrder);
}

#[test]
fn the_wrap_of_the_uptime_is_no_restart() {
    let mut s = Counted::default();
    s.step_up(1000, &whole(1), Some(u32::MAX - 500));
    assert_eq!(s.step_up(1002, &whole(1), Some(5_000)), SequenceEvent::Gap(1));
}

#[test]
fn one_stray_message_is_no_gap() {
    let mut s = Counted::default();
    s.step(1_000_000, &whole(10));
    assert_eq!(s.step(7, &whole(10)), SequenceEvent::Reset);
    assert_eq!(s.step(1_000_010, &whole(10)), SequenceEvent::InOrder);
    assert_eq!(s.step(1_000_020, &whole(10)), SequenceEvent::InOrder);
}

#[test]
fn templates_alone_do_not_move_the_number() {
    let mut s = Counted::default();
    for _ in 0..3 {
        assert_eq!(s.step(40, &whole(0)), SequenceEvent::InOrder);
    }
    assert_eq!(s.step(40, &whole(3)), SequenceEvent::InOrder);
    assert_eq!(s.step(43, &whole(3)), SequenceEvent::InOrder);
}

#[test]
fn a_message_that_comes_late_while_all_is_held_is_no_loss() {
    let mut s = Counted::default();
    for (number, message) in [(0, 1), (10, 2), (5, 3)] {
        s.step(number, &held(message, 0, 1));
    }
    for message in [1, 2, 3] {
        s.settle(message, 5, true);
    }
    assert_eq!(s.step(15, &whole(5)), SequenceEvent::InOrder);
    assert_eq!(s.sum, Correction { reordered: 1, ..Correction::default() });
}

#[test]
fn templates_alone_beside_messages_that_change_places() {
    let mut s = Counted::default();
    let got: Vec<_> = [(0, 0), (5, 5), (0, 5), (10, 5), (15, 0), (15, 5), (15, 0), (20, 5)]
        .map(|(number, units)| s.step(number, &whole(units)))
        .to_vec();
    use SequenceEvent::{Gap, InOrder, Reordered};
    assert_eq!(got, [InOrder, Gap(5), Reordered(5), InOrder, InOrder, InOrder, Reordered(0), InOrder]);
    assert_eq!((s.sum.lost, s.sum.duplicates), (0, 0));
}

#[test]
fn a_message_that_comes_twice_while_it_is_held_is_a_duplicate() {
    let mut s = Counted::default();
    let got: Vec<_> = [(0, 1), (0, 2), (5, 3), (5, 4), (10, 5)].map(|(n, m)| s.step(n, &held(m, 0, 1))).to_vec();
    use SequenceEvent::{Duplicate, InOrder, Unverifiable};
    assert_eq!(got, [InOrder, Duplicate, Unverifiable, Duplicate, Unverifiable]);
    for message in 1..6 {
        s.settle(message, 5, true);
    }
    assert_eq!(s.step(15, &whole(1)), InOrder);
    assert_eq!(s.sum, Correction { duplicates: 2, ..Correction::default() });
}

#[test]
fn what_was_sent_before_the_first_message_may_come_after_it() {
    let mut s = Counted::default();
    let got: Vec<_> = [10, 0, 15, 5].map(|n| s.step(n, &whole(5))).to_vec();
    use SequenceEvent::{InOrder, Reordered};
    assert_eq!(got, [InOrder, Reordered(0), InOrder, Reordered(5)]);
    assert_eq!(s.sum.lost, 0);
}

#[test]
fn softflowd_numbers_messages_by_their_ends() {
    let (mut s, mut number) = (Counted::default(), 0);
    for units in [5, 8, 2, 0, 30, 30, 30, 17, 1, 1, 9, 0, 4, 4, 30] {
        number += units;
        s.step(number, &whole(units));
    }
    assert_eq!(s.sum, Correction::default());
    // It counts flow records alone.
    number += 24;
    assert_eq!(s.step(number, &Units { options: 1, ..whole(25) }), SequenceEvent::InOrder);
    // A loss is one, as ever.
    assert_eq!(s.step(number + 7 + 20, &whole(20)), SequenceEvent::Gap(7));
    assert_eq!(s.step(number + 7, &whole(7)), SequenceEvent::Reordered(7));
    assert_eq!(s.step(number + 7, &whole(7)), SequenceEvent::Duplicate);
    assert_eq!(s.sum.lost, 0);
    // It is replaced by one that does as the RFC says.
    number += 31;
    assert_eq!(s.step(number, &whole(4)), SequenceEvent::InOrder);
    let before = s.sum;
    for units in [3, 8, 2, 30, 30, 7, 1, 1] {
        s.step(number, &whole(units));
        number += units;
    }
    assert_eq!((s.sum.lost, s.sum.resets), (before.lost, before.resets + 1));
    assert!(s.sequence.is_next(number));
}

#[test]
fn messages_of_many_sizes_that_get_lost_are_numbered_by_their_starts() {
    let (mut s, mut number, mut lost, mut random) = (Counted::default(), 0, 0, 1_u32);
    let mut dice = |sides: u32| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 16) % sides
    };
    for i in 0..20_000 {
        let units = dice(3) + 1;
        if i > 0 && i < 19_999 && dice(2) == 0 {
            lost += i64::from(units);
        } else {
            s.step(number, &whole(units));
        }
        number += units;
    }
    assert_eq!((s.sum.lost, s.sum.resets, s.sum.reordered), (lost, 0, 0));
}

/// What may happen to a message on its way.
#[derive(Clone, Copy, Debug)]
struct Fate {
    // Units of its data, if any; none is a message of a template.
    units: u32,
    // Whether its data is of the template that comes late.
    held: bool,
    lost: bool,
    twice: bool,
    // By how many places it comes later.
    late: usize,
}

fn fates(protocol: u8) -> impl Strategy<Value = Vec<Fate>> {
    let fate = (1..9_u32, 0..8_u8, any::<bool>(), 0..12_u8, 0..16_u8, 0..40_usize);
    let fate = fate.prop_map(move |(units, kind, held, lost, twice, late)| Fate {
        units: match (protocol, kind) {
            (9, _) => 1,
            (10, 0) => 0,
            _ => units,
        },
        held: protocol == 10 && held && kind > 0,
        lost: lost == 0 && (kind > 0 || protocol != 10),
        twice: twice == 0 && (kind > 0 || protocol != 10),
        late: if late < 4 { late } else { 0 },
    });
    prop::collection::vec(fate, 4..60)
}

/// All that a collector could know if it saw both ends.
fn exact(fates: &[Fate], start: u32) -> (Vec<(u32, usize, Fate)>, Correction) {
    let (mut number, mut sent, mut expected) = (start, Vec::new(), Correction::default());
    let last = fates.len() - 1;
    for (i, &fate) in fates.iter().enumerate() {
        // The first and the last come, in their places: nobody could know what is missing beyond them.
        let fate = match i == 0 || i == last {
            true => Fate { lost: false, late: 0, twice: false, units: fate.units.max(1), ..fate },
            false => fate,
        };
        let place = i + fate.late.min(last.saturating_sub(1 + i));
        if fate.lost {
            expected.lost += i64::from(fate.units);
        } else {
            sent.push((place, number, i, fate));
            if fate.twice {
                sent.push((place, number, i, fate));
                expected.duplicates += 1;
            }
        }
        number = number.wrapping_add(fate.units);
    }
    // Later by places, in the order sent where that is the same.
    sent.sort_by_key(|s| s.0);
    let arrived: Vec<(u32, usize, Fate)> = sent.into_iter().map(|(_, number, i, fate)| (number, i, fate)).collect();
    let (mut furthest, mut seen) = (None::<(usize, u32)>, Vec::new());
    for &(number, i, fate) in &arrived {
        let is_twice = seen.contains(&i);
        seen.push(i);
        // One without units is behind only where units that came are.
        let behind = furthest.is_some_and(|(at, end)| at > i && (fate.units > 0 || end != number));
        expected.reordered += i64::from(behind && !is_twice);
        if furthest.is_none_or(|f| f.0 < i) {
            furthest = Some((i, number.wrapping_add(fate.units)));
        }
    }
    (arrived, expected)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sums_are_those_of_an_exact_account(
        fates in prop_oneof![Just(5_u8), Just(9), Just(10)].prop_flat_map(fates),
        start in prop_oneof![Just(0_u32), Just(1000), any::<u32>(), (0..200_u32).prop_map(|n| n.wrapping_neg())],
        template_at in 1..60_usize,
    ) {
        let (arrived, expected) = exact(&fates, start);
        let mut s = Counted::default();
        let mut waiting = Vec::new();
        let settle_at = template_at.min(arrived.len() - 1);
        for (place, &(number, _, fate)) in arrived.iter().enumerate() {
            if place == settle_at {
                for (message, units) in waiting.drain(..) {
                    s.settle(message, units, true);
                }
            }
            let message = place as u64 + 1;
            if fate.held && place < settle_at {
                waiting.push((message, fate.units));
                s.step(number, &held(message, 0, 1));
            } else {
                s.step(number, &Units { message, ..whole(fate.units) });
            }
        }
        prop_assert_eq!(Correction { gaps: 0, ..s.sum }, expected, "{:?}", arrived);
    }
}
