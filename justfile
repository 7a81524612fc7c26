# Every command that a person or CI runs here. `./justw` is `just`, fetched first where it is missing.

set positional-arguments
set ignore-comments

# Features that are off by default and on in all checks. Not `--all-features`: turnstile-core's `_shuttle` replaces its
# threads and locks by a scheduler's, and is for one test alone.
features := "--features redis-streams/serde,redis-streams/cluster,redis-lua/cluster,redis-lua/sentinel,redis-lua/tls,kafka-partitions/group,turnstile-testkit/kafka"

# Lists the recipes.
[private]
default:
    @"{{ just_executable() }}" --justfile "{{ justfile() }}" --list --unsorted

# Brings what is missing: a C toolchain, redis-server, Java, Kafka's jars; by name also `browser` and `engine`.
setup *parts:
    @scripts/setup.sh "$@"

# What building, and servers for tests need; says nothing when all is there.
_ready:
    @[ -n "${TURNSTILE_TEST_REDIS_URL-}" ] || redis=redis; exec scripts/setup.sh --quiet compiler ${redis-} kafka

# Each strategy on real servers, under contention and faults: claims checked, numbers measured.
lab *args: _ready
    @cargo run --release -p turnstile-cli -- lab "$@"

# All tests.
test: unit integration

# Tests that need no server; the core's also under all interleavings of its threads.
unit: (_setup "compiler")
    #!/bin/sh
    set -eux
    # By name, for the reason that `integration` has: no other crate has tests of these names.
    cargo test --workspace {{ features }} --lib --bins \
        $(for file in crates/turnstile-core/tests/*.rs; do echo "--test $(basename "$file" .rs)"; done)
    cargo test -p turnstile-core --features _shuttle --lib interleavings

# Tests on real servers and of whole crates, or those of some crates: `integration redis-lock`.
integration *crates: _ready
    #!/bin/sh
    set -eu
    [ $# -gt 0 ] || set -- $(ls crates | grep -v turnstile-core) integration-tests
    targets= # By name and not by `-p CRATE`, with which cargo would build half of the dependencies anew.
    for crate; do
        for file in "crates/$crate"/tests/*.rs "$crate"/tests/*.rs "crates/$crate"/tests/*/main.rs; do
            if [ -e "$file" ]; then targets="$targets --test $(basename "${file%/main.rs}" .rs)"; fi
        done
    done
    set -x
    cargo test --workspace {{ features }} $targets

# The tests of Redis on each server program that is there: redis-server, valkey-server, what `setup redis8` brings.
matrix: (_setup "compiler")
    @scripts/matrix.sh cargo test --workspace {{ features }}

# Random faults over all strategies at once, every history checked, for so many minutes. The same seed, the same faults.
soak minutes="10" seed="": _ready
    @cargo run --release -p turnstile-cli -- lab --soak "${1}m" ${2:+--seed "$2"}

# The same with all servers in containers; makes stand-in images where TURNSTILE_{REDIS,KAFKA}_IMAGE name none.
containers *crates: (_setup "compiler" "redis" "kafka" "engine")
    @scripts/in-containers.sh "{{ just_executable() }}" --justfile "{{ justfile() }}" integration "$@"

# Benchmarks by criterion.
bench *args: _ready
    cargo bench -p turnstile-benches "$@"

# Ours and the raw client in pairs; `--json` for one line a pair.
ratios *args: _ready
    @cargo bench -p turnstile-benches --bench ratios -- "$@"

# The same work done by other libraries and by ours, by turns in one run; what cannot be built here is named.
peers *args: _ready
    @benches/peers/build.sh
    @cargo bench -p turnstile-benches --bench peers -- "$@"

# Formatting, clippy, rustdoc and doctests, with no warnings.
lint: (_setup "compiler")
    cargo fmt --all --check
    rustfmt --check --edition 2024 benches/peers/rust/src/main.rs
    cargo clippy --workspace {{ features }} --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace {{ features }} --no-deps
    cargo test --workspace {{ features }} --doc

# Each crate by itself: with no features, its defaults and all; `--system` also with those that want OpenSSL and libsasl2.
each *args: (_setup "compiler")
    @scripts/each.sh "$@"

# The API's documentation, and the book where mdbook is there.
doc: (_setup "compiler")
    cargo doc --workspace {{ features }} --no-deps
    @if command -v mdbook >/dev/null; then mdbook build docs; else echo "docs/ is not built: there is no mdbook (cargo install mdbook)"; fi

# The packages as they would be published, under the names that are free there; `--no-verify` does not build them.
package *args: (_setup "compiler")
    @scripts/package.sh "$@"

# Licences and sources of all that is depended on, by cargo-deny.
audit:
    @if command -v cargo-deny >/dev/null; then cargo deny --locked check licenses bans sources; else echo "there is no cargo-deny (cargo install cargo-deny)"; exit 69; fi

# What CI runs.
ci:
    .ci/run

_setup *parts:
    @scripts/setup.sh --quiet "$@"
