//! What it costs to mark offsets as done, and to write down which are.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Result, ensure};
use kafka_offsets::metadata::{DEFAULT_LIMIT, encode};
use kafka_offsets::{Completed, Completions, Epoch, Fetched, OffsetTracker};
use rand::seq::SliceRandom;

use crate::lab::metrics::Marks;

const WINDOW: i64 = 10_000;
const ROUNDS: i64 = 100;
const IN_FLIGHT: i64 = 100_000;

/// Measures both, the median of several runs.
pub fn measure() -> Result<Marks> {
    let mut random = rand::rng();
    let mut tracker = OffsetTracker::new(Epoch::FIRST, 0);
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let mut offsets: Vec<i64> = (round * WINDOW..(round + 1) * WINDOW).collect();
        for offset in &offsets {
            ensure!(tracker.fetched(*offset) == Fetched::New, "{offset} is taken for done");
        }
        offsets.shuffle(&mut random);
        let begun = Instant::now();
        let done = offsets.iter().filter(|offset| tracker.complete(**offset, Epoch::FIRST) == Completed::Done).count();
        times.push(begun.elapsed().as_nanos() as f64 / WINDOW as f64);
        ensure!(done == offsets.len() && tracker.commit_point() == (round + 1) * WINDOW, "the account is wrong");
    }

    let first = 5_000_000_000;
    let done = (first + 1..first + IN_FLIGHT).filter(|_| rand::random_range(0..100) > 0);
    let completions = Completions::new(first, done.map(|offset| offset..offset + 1));
    let mut encodings = Vec::new();
    let mut encoded = encode(&completions, DEFAULT_LIMIT);
    for _ in 0..20 {
        let begun = Instant::now();
        encoded = black_box(encode(black_box(&completions), DEFAULT_LIMIT));
        encodings.push(begun.elapsed().as_nanos() as f64 / 1e3);
    }
    Ok(Marks {
        complete_ns: median(times),
        metadata_bytes: encoded.text.len() as u64,
        kept_percent: 100.0 * encoded.kept as f64 / completions.len().max(1) as f64,
        encode_us: median(encodings),
        in_flight: IN_FLIGHT as u64,
    })
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
