//! The metadata: as its format says, and safe whatever it is given.

#![allow(clippy::single_range_in_vec_init)] // A list of one range is what is meant.

mod properties;
mod support;

use kafka_offsets::metadata::{DEFAULT_LIMIT, decode, encode, encode_as};
use kafka_offsets::{Codec, Completions, Ignored};
use proptest::prelude::*;
use support::Random;

/// Commit point, done runs, codec, text. The first two are worked out in the format's description.
const GOLDEN: [(i64, &[std::ops::Range<i64>], Codec, &str); 6] = [
    (300, &[301..303, 305..306], Codec::Gaps, "ko1grAIAA8iLXYuZ"),
    (300, &[301..303, 305..306], Codec::Runs, "ko1rrAIAAAKl-1P8dQ"),
    (0, &[1..2], Codec::Gaps, "ko1gAAEBQB9sOjs"),
    (7, &[8..1_000_000_008], Codec::Gaps, "ko1gBx4BdzWUANuEBss"),
    (
        5_000_000_000,
        &[5_000_000_100..5_000_000_101, 5_000_000_300..5_000_000_302],
        Codec::Runs,
        "ko1rgOSX0BIHAALjqMh9R1bV",
    ),
    (i64::MAX - 9, &[i64::MAX - 5..i64::MAX], Codec::Runs, "ko1r9v________9_AgMB-NEuR6I"),
];

#[test]
fn the_format_is_what_it_was() {
    assert_eq!(crc32fast::hash(b"123456789"), 0xcbf4_3926);
    for (commit_point, done, codec, text) in GOLDEN {
        let completions = Completions::new(commit_point, done.iter().cloned());
        assert_eq!(encode_as(codec, &completions, DEFAULT_LIMIT).text, text);
        assert_eq!(decode(commit_point, text), Ok(completions));
        let described = include_str!("../src/metadata/FORMAT.md");
        assert!(commit_point != 300 || described.contains(&format!("`{text}`")));
    }
}

#[test]
fn one_long_gap_among_short_ones_is_escaped() {
    let done = (1..40).map(|nth| 2 * nth - 1..2 * nth).chain([100..1_000_000]);
    let completions = Completions::new(0, done);
    let text = "ko1gAAA9qqqqqqqqqqqqqAAAH___4AAD0HFAEeAl0A";
    assert_eq!(encode_as(Codec::Gaps, &completions, DEFAULT_LIMIT).text, text);
    assert_eq!(decode(0, text), Ok(completions));
}

#[test]
fn nothing_beyond_the_commit_point_takes_no_metadata() {
    assert_eq!(encode(&Completions::none(5), DEFAULT_LIMIT).text, "");
    assert_eq!(decode(5, ""), Ok(Completions::none(5)));
}

#[test]
fn over_the_limit_the_highest_offsets_are_left_out_and_no_others() {
    let mut random = Random(3);
    let done = (1..200_000).filter(|_| random.below(2) == 0).map(|offset| offset..offset + 1);
    let completions = Completions::new(0, done);
    let mut least = 0;
    for limit in (0..=DEFAULT_LIMIT).step_by(64) {
        let encoded = encode(&completions, limit);
        assert!(encoded.text.len() <= limit && encoded.kept >= least);
        least = encoded.kept;
        properties::written(&completions, limit);
    }
    assert!(least > 12_000, "half of 24,400: {least}");
}

#[test]
fn with_no_room_there_is_no_metadata_and_all_is_counted_as_dropped() {
    let completions = Completions::new(0, [1..4]);
    for limit in 0..14 {
        let encoded = encode(&completions, limit);
        assert_eq!((encoded.text.as_str(), encoded.codec, encoded.kept, encoded.dropped), ("", None, 0, 3));
    }
}

#[test]
fn billions_of_open_or_done_offsets_take_a_few_characters() {
    for done in [5_000_000_000..5_000_000_001, 1..5_000_000_000] {
        let completions = Completions::new(0, [done, 6_000_000_000..i64::MAX]);
        let encoded = encode(&completions, DEFAULT_LIMIT);
        assert_eq!(encoded.dropped, 0);
        assert!(encoded.text.len() < 70, "{}", encoded.text);
        properties::written(&completions, DEFAULT_LIMIT);
    }
}

#[test]
fn what_others_wrote_is_told_from_what_is_damaged_newer_or_for_another_offset() {
    let text = encode(&Completions::new(300, [301..303]), DEFAULT_LIMIT).text;
    for foreign in ["x", "k", "ko", "ko0", "kox", "{\"offset\":1}", "hostname-4711", "é", "ko²", "\0"] {
        assert_eq!(decode(300, foreign), Err(Ignored::Foreign), "{foreign}");
    }
    assert_eq!(decode(300, &text.replacen('1', "2", 1)), Err(Ignored::Newer { version: 2 }));
    assert_eq!(decode(301, &text), Err(Ignored::OtherOffset { made_for: 300, committed: 301 }));
    for end in 3..text.len() {
        assert!(matches!(decode(300, &text[..end]), Err(Ignored::Damaged { .. })), "{}", &text[..end]);
    }
    for more in ["=", "A", "AAAA", " ", "\n", "é"] {
        assert!(matches!(decode(300, &format!("{text}{more}")), Err(Ignored::Damaged { .. })), "{more:?}");
    }
}

/// Each differs in one place from what is read.
#[test]
fn what_is_not_as_the_format_says_is_refused_although_its_checksum_is_right() {
    const TOP: [u8; 9] = [0xf5, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]; // 2⁶³ − 11
    let readable = |codec, committed, body: &[&[u8]]| {
        let text = properties::with_checksum(codec, &body.concat());
        properties::any_text(committed, &text);
        match decode(committed, &text) {
            Ok(_) => true,
            Err(Ignored::Damaged { .. }) => false,
            Err(ignored) => panic!("{ignored}"),
        }
    };
    let gaps = |body: &[u8]| readable(Codec::Gaps, 5, &[&[5], body]);
    assert!(gaps(&[0, 3, 0b1100_1000]));
    assert!(!gaps(&[0, 3, 0b1100_1001]), "a bit is left");
    assert!(!gaps(&[0, 3, 0b1100_1000, 0]), "a byte is left");
    assert!(!gaps(&[0, 3, 0b1100_0000]), "the last gap is empty");
    assert!(!gaps(&[0, 3, 0b1101_1111]), "it ends within a value");
    assert!(!gaps(&[0, 4, 0b1100_1000, 0]), "the fourth is a 0");
    assert!(!gaps(&[0, 0]), "there are no values");
    assert!(!gaps(&[0]) && !gaps(&[]), "there is no number of values");
    assert!(gaps(&[31, 1, 0, 0, 0, 1]) && !gaps(&[32, 1, 0, 0, 0, 1]), "a parameter above 31");
    assert!(gaps(&[0, 0x83, 0, 0b1100_1000]), "a number with a superfluous byte");
    let endless = [&[0], &[0x83, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80][..], &[2], &[0b1100_1000]].concat();
    assert!(!gaps(&endless), "a number of more than 64 bits");

    let runs =
        |offset: &[u8], committed, values: &[u8]| readable(Codec::Runs, committed, &[offset, &[0, 0, 1], values]);
    let top = i64::MAX - 10;
    let long = |zeros: usize| {
        // Open by 2^zeros, and one done.
        let mut bits = vec![false; zeros];
        bits.push(true);
        bits.extend(vec![false; zeros]);
        bits.push(true);
        bits.chunks(8)
            .map(|byte| (0..8).map(|at| u8::from(byte.get(at) == Some(&true)) << (7 - at)).sum())
            .collect::<Vec<u8>>()
    };
    assert!(runs(&TOP, top, &long(3)) && !runs(&TOP, top, &long(4)), "an offset above 2⁶³ − 2");
    assert!(runs(&[5], 5, &long(62)) && !runs(&[5], 5, &long(63)) && !runs(&[5], 5, &long(64)));
}

#[test]
fn a_change_of_any_character_is_noticed() {
    let completions = Completions::new(300, [301..303, 305..306, 400..700]);
    for codec in Codec::ALL {
        let text = encode_as(codec, &completions, DEFAULT_LIMIT).text;
        for at in 0..text.len() {
            for by in 0..0x80 {
                let mut changed = text.clone().into_bytes();
                changed[at] = by;
                let changed = String::from_utf8(changed).unwrap();
                assert!(changed == text || decode(300, &changed).is_err(), "{changed}");
            }
        }
    }
}

/// What the fuzz target is started with.
#[test]
fn the_properties_hold_on_the_corpus() {
    let mut seeds = vec![vec![], vec![0; 64], vec![0xff; 64], (0..=255).collect()];
    seeds.extend(GOLDEN.map(|(.., text)| text.as_bytes().to_vec()));
    let mut random = Random(4);
    for length in 0..300 {
        // Dense ones, and the more sparse the longer.
        let mask = random.next() as u8;
        seeds.push((0..length / 4).map(|_| random.next() as u8 & mask).collect());
    }
    for seed in seeds {
        properties::all(&seed);
    }
}

fn any_completions() -> impl Strategy<Value = Completions> {
    let length = prop_oneof![8 => 1..4i64, 4 => 1..300i64, 1 => 1..1i64 << 40];
    let runs = prop::collection::vec((length.clone(), length), 0..200);
    let commit_point = prop_oneof![0..1000i64, 0..1i64 << 62];
    (commit_point, runs).prop_map(|(commit_point, runs)| {
        let mut at = commit_point;
        let runs = runs.into_iter().map(|(open, done)| {
            let start = at + open;
            at = start + done;
            start..at
        });
        Completions::new(commit_point, runs)
    })
}

proptest! {
    #[test]
    fn what_is_read_was_done_when_it_was_written(completions in any_completions(), limit in prop_oneof![9 => 0..600usize, 1 => Just(DEFAULT_LIMIT)]) {
        properties::written(&completions, limit);
    }

    #[test]
    fn a_changed_character_makes_it_unreadable(completions in any_completions(), at: usize, by: u8) {
        properties::damaged(&completions, at, by);
    }

    #[test]
    fn any_text_is_refused_or_has_its_checksum(committed: i64, text: String, more in "ko1[gr][A-Za-z0-9_-]{0,60}") {
        properties::any_text(committed, &text);
        properties::any_text(committed, &more);
    }

    #[test]
    fn any_body_with_a_right_checksum_is_refused_or_in_order(body: Vec<u8>) {
        properties::any_body(&body);
    }

    /// With parameters and a number of values that can be, so that the values are reached.
    #[test]
    fn any_values_are_refused_or_in_order(k in 0..40u8, other in 0..40u8, count in 0..20u8, values: Vec<u8>, high: bool) {
        let mut offset = vec![5];
        if high {
            offset = vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        }
        properties::any_body(&[&offset, &[k, count][..], &values[..]].concat());
        properties::any_body(&[&offset, &[k, other, count][..], &values[..]].concat());
    }

    #[test]
    fn completions_are_what_they_are_made_of(
        commit_point in 0..50i64,
        done in prop::collection::vec((0..100i64, 0..10i64), 0..20),
        end in 0..120i64,
    ) {
        let ranges = done.iter().map(|(start, length)| *start..start + length);
        let naive = |offset| offset > commit_point && ranges.clone().any(|range| range.contains(&offset));
        let mut completions = Completions::new(commit_point, ranges.clone());
        for offset in 0..120 {
            prop_assert_eq!(completions.contains(offset), naive(offset));
        }
        prop_assert_eq!(completions.len(), (0..120).filter(|offset| naive(*offset)).count() as u64);
        prop_assert_eq!(completions.end(), (0..120).rev().find(|offset| naive(*offset)).map_or(commit_point, |last| last + 1));
        completions.truncate(end);
        for offset in 0..120 {
            prop_assert_eq!(completions.contains(offset), offset < end && naive(offset));
        }
    }
}
