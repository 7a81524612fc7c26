//! What kafka-offsets does in memory: marking records as done, and writing down which are.

use std::time::Instant;

use kafka_offsets::metadata::{self, DEFAULT_LIMIT};
use kafka_offsets::{Codec, Completed, Completions, Epoch, OffsetTracker};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

/// Records that are in hand at a time, and done in a random order.
pub const WINDOW: usize = 10_000;

/// Orders in which a window's records are done; enough that a processor does not learn them by heart.
#[must_use]
pub fn orders() -> Vec<Vec<i64>> {
    let mut random = StdRng::seed_from_u64(1);
    let order = |_| {
        let mut order: Vec<i64> = (0..WINDOW as i64).collect();
        order.shuffle(&mut random);
        order
    };
    (0..16).map(order).collect()
}

/// How long a completion takes, in ns, the mean of a window for each order: fetched before, which is not measured.
#[must_use]
pub fn complete(orders: &[Vec<i64>]) -> f64 {
    let epoch = Epoch::FIRST;
    let mut tracker = OffsetTracker::new(epoch, 0);
    let mut took = 0.0;
    let mut base = 0;
    for order in orders {
        for offset in base..base + WINDOW as i64 {
            assert_eq!(tracker.fetched(offset), kafka_offsets::Fetched::New);
        }
        let start = Instant::now();
        let done = order.iter().filter(|nth| tracker.complete(base + **nth, epoch) == Completed::Done).count();
        took += start.elapsed().as_secs_f64();
        assert_eq!(done, WINDOW);
        base += WINDOW as i64;
        assert_eq!(tracker.commit_point(), base);
    }
    took * 1e9 / (orders.len() * WINDOW) as f64
}

/// 100,000 offsets in flight, of which 1 % at random are not done, and the first.
#[must_use]
pub fn one_percent_open() -> Completions {
    let mut random = StdRng::seed_from_u64(1);
    let commit_point = 5_000_000_000;
    let open = rand::seq::index::sample(&mut random, 99_999, 999);
    let mut is_open = vec![false; 100_000];
    open.into_iter().for_each(|nth| is_open[nth + 1] = true);
    let done = (1..100_000_usize).filter(|nth| !is_open[*nth]).map(|nth| commit_point + nth as i64);
    Completions::new(commit_point, done.map(|offset| offset..offset + 1))
}

/// What a commit's metadata comes to.
pub struct Metadata {
    /// Bytes of what is committed.
    pub bytes: usize,
    /// How many done offsets it has no room for.
    pub dropped: u64,
    /// What else there is to say: the size by each codec, how many are kept, how long it takes to write it.
    pub note: String,
}

/// Writes [`one_percent_open`] down, within the limit that a broker has by default.
#[must_use]
pub fn metadata() -> Metadata {
    let completions = one_percent_open();
    let start = Instant::now();
    let best = metadata::encode(&completions, DEFAULT_LIMIT);
    let micros = start.elapsed().as_secs_f64() * 1e6;
    let sizes = Codec::ALL.map(|codec| {
        let bytes = metadata::encode_as(codec, &completions, usize::MAX >> 8).text.len();
        format!("{codec:?} {bytes}")
    });
    let (kept, of) = (best.kept, completions.len());
    let note = format!("{}; kept {kept} of {of}; {micros:.0} µs", sizes.join(", "));
    Metadata { bytes: best.text.len(), dropped: best.dropped, note }
}
