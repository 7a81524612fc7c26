#!/bin/sh
# Packages the crates as they would be published: package.sh [OPTION OF cargo package…]
# Others already have names such as redis-lock, so each crate that lacks the prefix goes out as turnstile-NAME. Its library
# keeps its name: `redis-lock = { package = "turnstile-redis-lock", … }` is all that a user writes.
set -eu

cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}/published
tree=$(mktemp -d /tmp/turnstile.XXXXXX)
trap 'rm -rf "$tree"' EXIT
git ls-files -z | tar --null -T - -c | tar -x -C "$tree"
cd "$tree"
for manifest in crates/*/Cargo.toml; do
    folder=$(dirname "$manifest")
    name=$(basename "$folder")
    sed -i '/^publish.workspace/d' "$manifest"
    cp LICENSE-* "$folder"
    case $name in turnstile-*) continue ;; esac
    sed -i "s/^name = \"$name\"/name = \"turnstile-$name\"/" "$manifest"
    printf '\n[lib]\nname = "%s"\n' "$(echo "$name" | tr - _)" >>"$manifest"
    sed -i "s/^$name = { path/$name = { package = \"turnstile-$name\", path/" Cargo.toml
done
CARGO_TARGET_DIR=$target cargo package --workspace --exclude turnstile-integration-tests --exclude turnstile-benches \
    --allow-dirty "$@"
