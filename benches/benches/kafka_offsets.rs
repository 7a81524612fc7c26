//! kafka-offsets by criterion: one completion, and the metadata of a commit.

use std::hint::black_box;
use std::time::Duration;

use criterion::Criterion;
use kafka_offsets::metadata::{DEFAULT_LIMIT, decode, encode};
use turnstile_benches::offsets::{WINDOW, complete, one_percent_open, orders};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let orders = orders();
    criterion.bench_function("kafka-offsets/complete", |bencher| {
        bencher.iter_custom(|times| {
            // Whole windows only: their mean stands for `times` completions.
            let windows = (times as usize).div_ceil(WINDOW).clamp(1, orders.len());
            Duration::from_secs_f64(complete(&orders[..windows]) * times as f64 / 1e9)
        });
    });
    let completions = one_percent_open();
    let text = encode(&completions, DEFAULT_LIMIT).text;
    criterion.bench_function("kafka-offsets/metadata/encode", |bencher| {
        bencher.iter(|| encode(black_box(&completions), DEFAULT_LIMIT));
    });
    criterion.bench_function("kafka-offsets/metadata/decode", |bencher| {
        bencher.iter(|| decode(completions.commit_point(), black_box(&text)));
    });
    criterion.final_summary();
}
