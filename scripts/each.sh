#!/bin/sh
# Checks that each crate builds by itself: with no features, with its own defaults, and with all that it has. Cargo joins
# the features of all crates that it builds together, so a crate that forgets one is found only alone.
# All features but turnstile-core's `_shuttle`, which replaces its threads by a scheduler's, and those that want the
# system's OpenSSL and libsasl2: `each.sh --system` has these too.
set -eu

cd "$(dirname "$0")/.."
system=
if [ "${1-}" = --system ]; then system=yes; fi

features() { # CRATE: its features, by commas
    sed -n '/^\[features\]/,/^\[[^f]/s/^\([a-z][a-z0-9-]*\) = .*/\1/p' "crates/$1/Cargo.toml" |
        if [ "$system" ]; then cat; else grep -Ev '^(kafka-)?(ssl|sasl)$' || true; fi | paste -sd, -
}

for crate in $(ls crates); do
    all=$(features "$crate")
    set -- "" "--no-default-features"
    if [ "$all" ]; then set -- "$@" "--features $all"; fi
    for how; do
        echo "each: $crate $how"
        # shellcheck disable=SC2086 # words
        cargo check --quiet -p "$crate" $how
    done
done

# The fuzz target compiles as it is; without the fuzzer, which only a nightly compiler can use.
echo "each: kafka-offsets-fuzz"
CUSTOM_LIBFUZZER_PATH=/dev/null cargo check --quiet --manifest-path crates/kafka-offsets/fuzz/Cargo.toml
