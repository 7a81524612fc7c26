//! Ten records, of which the third is slow; the process dies. What is done again: `cargo run -p kafka-offsets --example crash`

use std::time::Instant;

use kafka_offsets::{CommitPolicy, CommitSchedule, Completions, Epoch, Fetched, OffsetTracker, metadata};

fn main() {
    // The first holder of the partition. Its consumer gives it the records 100 to 109.
    let (now, epoch) = (Instant::now(), Epoch::FIRST);
    let mut tracker = OffsetTracker::new(epoch, 100);
    let mut schedule = CommitSchedule::new(CommitPolicy::default(), epoch, 100, now);
    for offset in 100..110 {
        assert_eq!(tracker.fetched(offset), Fetched::New);
    }

    // Its workers finish all of them but 102 and 107, in whatever order.
    for offset in [104, 100, 109, 101, 105, 103, 106, 108] {
        println!("first holder did {offset}: {:?}", tracker.complete(offset, epoch));
    }

    // A commit is sent and confirmed. Then the process dies.
    let Some(commit) = schedule.offer(now, &tracker) else { return };
    schedule.committed(&commit);
    println!("committed {} with metadata {:?}", commit.offset, commit.metadata.text);

    // The next holder is given the same offset and metadata by the broker.
    let earlier = metadata::decode(commit.offset, &commit.metadata.text).unwrap_or_else(|ignored| {
        println!("metadata ignored: {ignored}"); // Count it, too.
        Completions::none(commit.offset)
    });
    let mut tracker = OffsetTracker::resume(epoch.next(), commit.offset, &earlier);
    for offset in 102..112 {
        println!("next holder fetched {offset}: {:?}", tracker.fetched(offset));
    }
}
