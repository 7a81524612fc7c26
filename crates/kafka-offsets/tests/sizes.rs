//! What the codecs take, beside what a plain bit set and plain run lengths would take. The table in the format's
//! description is this test's output.

mod support;

use kafka_offsets::metadata::{DEFAULT_LIMIT, encode, encode_as};
use kafka_offsets::{Codec, Completions};
use support::Random;

/// 100,000 offsets in flight; `open` says which are not done.
fn in_flight(mut open: impl FnMut(i64) -> bool) -> Completions {
    let commit_point = 5_000_000_000;
    let done = (1..100_000).filter(|nth| !open(*nth)).map(|nth| commit_point + nth);
    Completions::new(commit_point, done.map(|offset| offset..offset + 1))
}

fn cases() -> Vec<(&'static str, Completions)> {
    let mut random = Random(1);
    let mut share = |per_mille: u64| in_flight(|_| random.below(1000) < per_mille);
    let [sparse, one, five, half, most] = [1, 10, 50, 500, 990].map(&mut share);
    let mut random = Random(2);
    let (mut open, mut left) = (false, 0);
    let heaps = in_flight(|_| {
        if left == 0 {
            open = !open;
            left = 1 + random.below(if open { 200 } else { 2000 });
        }
        left -= 1;
        open
    });
    let mut gap = one.runs().to_vec();
    gap.push(one.end() + 1..one.end() + 3_000_000_000);
    vec![
        ("0.1 % open, at random", sparse),
        ("1 % open, at random", one.clone()),
        ("5 % open, at random", five),
        ("half open, at random", half),
        ("99 % open, at random", most),
        ("heaps: up to 200 open, up to 2,000 done", heaps),
        ("every third open", in_flight(|nth| nth % 3 == 0)),
        ("only the first open", in_flight(|_| false)),
        ("1 % open, and a gap of 3 billion", Completions::new(one.commit_point(), gap)),
    ]
}

/// As characters of base64, with neither header nor checksum.
fn plain_bits(completions: &Completions) -> u64 {
    let span = (completions.end() - completions.commit_point() - 1) as u64;
    span.div_ceil(8) * 4 / 3
}

fn plain_runs(completions: &Completions) -> u64 {
    let bytes = |length: i64| u64::from((length | 1).ilog2() / 7 + 1);
    let mut after = completions.commit_point();
    let mut sum = 0;
    for run in completions.runs() {
        sum += bytes(run.start - after) + bytes(run.end - run.start);
        after = run.end;
    }
    sum * 4 / 3
}

#[test]
fn the_codecs_never_take_much_more_than_a_plain_bit_set_or_plain_run_lengths_and_mostly_far_less() {
    println!(
        "| 100,000 in flight | `g` | `r` | plain bit set | plain run lengths | kept in 4,096 |\n|---|---|---|---|---|---|"
    );
    for (name, completions) in cases() {
        let [gaps, runs] =
            [Codec::Gaps, Codec::Runs].map(|codec| encode_as(codec, &completions, 200_000).text.len() as u64);
        let (bits, plain) = (plain_bits(&completions), plain_runs(&completions));
        let best = encode(&completions, DEFAULT_LIMIT);
        let kept = best.kept as f64 * 100.0 / completions.len() as f64;
        println!("| {name} | {gaps} | {runs} | {bits} | {plain} | {kept:.0} % by `{}` |", best.codec.unwrap().letter());
        assert!(best.text.len() <= DEFAULT_LIMIT);
        assert_eq!(best.kept + best.dropped, completions.len());
        assert!(gaps.min(runs) <= 32 + bits.min(plain) * 21 / 20, "{name}");
    }
}
