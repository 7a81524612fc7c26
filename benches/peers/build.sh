#!/bin/sh
# Builds the programs of others into .turnstile/peers/, each with the versions that its lock file or pom.xml names. What
# cannot be built here is named, with the reason, and then left out of the comparison.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
to=$here/../../.turnstile/peers
mkdir -p "$to"

left_out() { # WHAT, why
    echo "peers: those in $1 are left out: $2" >&2
    rm -rf "${to:?}/$1"
}

build() { # WHAT, the tools that it needs
    what=$1
    shift
    for tool; do
        command -v "$tool" >/dev/null 2>&1 || {
            left_out "$what" "there is no $tool"
            return 0
        }
    done
    "build_$what" >"$to/$what.log" 2>&1 ||
        left_out "$what" "$(grep -m1 -i error "$to/$what.log" || tail -1 "$to/$what.log")"
}

build_rust() {
    target=${CARGO_TARGET_DIR:-$here/../../target}/peers
    cargo build --release --locked --manifest-path "$here/rust/Cargo.toml" --target-dir "$target" &&
        cp "$target/release/turnstile-peers" "$to/rust"
}

build_go() {
    cd "$here/go" && go build -o "$to/go" .
}

build_java() {
    if ! cmp -s "$here/java/pom.xml" "$to/java/pom.xml"; then
        rm -rf "$to/java"
        mvn --batch-mode --file "$here/java/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
            -DoutputDirectory="$to/java/jars" && cp "$here/java/pom.xml" "$to/java/pom.xml" || return 1
    fi
    javac -cp "$to/java/jars/*" -d "$to/java" "$here"/java/*.java
}

build rust cargo
build go go
build java java javac mvn
