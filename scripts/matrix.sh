#!/bin/sh
# Runs the tests of Redis once for each server program: matrix.sh COMMAND…, where COMMAND builds tests and takes --test NAME.
# The programs are those in TURNSTILE_REDIS_SERVERS, by commas, which all have to be there; else redis-server,
# valkey-server, and what `setup redis8` has brought, as far as they are there. One line about each at the end.
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
asked=${TURNSTILE_REDIS_SERVERS-}
programs=${asked:-redis-server,valkey-server,$here/.turnstile/redis8/redis-server}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cd "$here"
names=
for file in crates/redis-*/tests/*.rs integration-tests/tests/*.rs; do
    name=$(basename "$file" .rs)
    case $name in kafka_*) ;; *) names="$names --test $name" ;; esac
done
# shellcheck disable=SC2086 # a list
"$@" $names --no-run --message-format json >"$work/built"
# Of other crates' tests with the same names nothing is wanted.
sed -n 's/.*"package_id":"[^"]*\/\(crates\/redis-[a-z-]*\|integration-tests\)#.*"kind":\["test"\].*"executable":"\([^"]*\)".*/\1 \2/p' \
    "$work/built" >"$work/tests"

one() { # PROGRAM: all tests on it; those that failed are in $work/failed
    : >"$work/failed"
    # With TLS built in it asks for a certificate.
    case $("$1" --port 0 --tls-port 1 2>&1) in
        *"configure TLS"*) without='' && cp "$work/tests" "$work/run" ;;
        *) without=", without TLS, which it lacks" && sed '/\/tls-/d' "$work/tests" >"$work/run" ;;
    esac
    while read -r folder test; do
        (cd "$folder" && TURNSTILE_SERVERS=processes TURNSTILE_REDIS_SERVER=$1 "$test" </dev/null) ||
            basename "$test" >>"$work/failed"
    done <"$work/run"
}

status=0
for program in $(echo "$programs" | tr , ' '); do
    version=$("$program" --version 2>/dev/null | cut -d' ' -f1,3) || true
    if [ "$version" ]; then
        echo "matrix: $version ($program)" >&2
        one "$program"
        if [ -s "$work/failed" ]; then
            status=1
            echo "matrix: $version: FAILED: $(paste -sd' ' "$work/failed")" >>"$work/told"
        else
            echo "matrix: $version: passed, $(wc -l <"$work/run") test programs$without" >>"$work/told"
        fi
    elif [ "$asked" ]; then
        status=69
        echo "matrix: $program: not there" >>"$work/told"
    else
        echo "matrix: $program: skipped, it is not there" >>"$work/told"
    fi
done
cat "$work/told" >&2
exit $status
