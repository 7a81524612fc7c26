//! `cargo bench -p turnstile-benches --bench mt_consumer_bytes`: what 10,000 records in flight cost in memory. By itself, since
//! to count what is allocated costs time.

use std::alloc::System;

use anyhow::Result;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use turnstile_benches::parallel::bytes;
use turnstile_benches::report::{Aim, Row};
use turnstile_benches::rounds::alone;
use turnstile_benches::runtime;
use turnstile_testkit::kafka::Kafka;

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const RECORDS: usize = 10_000;

fn main() -> Result<()> {
    let json = std::env::args().any(|argument| argument == "--json");
    runtime()?.block_on(async {
        let server = Kafka::builder().for_measuring().start().await?;
        let in_flight = alone(3, async || bytes(HEAP, &server, RECORDS, RECORDS).await).await?;
        // What it takes to have them in hand: all but one wait.
        let in_hand = alone(3, async || bytes(HEAP, &server, RECORDS, 1).await).await?;
        let note = format!("of which {in_hand:.0} when it only waits");
        let row = Row::alone("mt-consumer/bytes", "bytes", Aim::AtMost(500.0), in_flight).and(&note);
        println!("{}", if json { row.json()? } else { row.line() });
        Ok(())
    })
}
