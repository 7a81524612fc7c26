#!/bin/sh
# Runs a command with all test servers in containers: in-containers.sh COMMAND…
# Where no Docker engine answers, and this is root, it runs one of its own for as long as the command takes; without
# an engine it exits with 69. The images are those in TURNSTILE_REDIS_IMAGE and TURNSTILE_KAFKA_IMAGE, else local
# stand-ins made of this machine's redis-server, Java and libraries, so that no registry is needed.
set -eu

say() { echo "containers: $*" >&2; }
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d /tmp/turnstile.XXXXXX)
engine=
finish() {
    if [ "$engine" ]; then
        kill "$engine" 2>/dev/null || true
        wait "$engine" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

if ! docker version >/dev/null 2>&1; then
    if [ "$(id -u)" != 0 ] || ! command -v dockerd >/dev/null; then
        say "no Docker engine answers, and none can be started here: that takes root and dockerd (./justw setup engine)"
        exit 69
    fi
    # On a socket and in folders of its own, so that nobody else meets it.
    DOCKER_HOST=unix://$work/docker.sock
    export DOCKER_HOST
    dockerd --host "$DOCKER_HOST" --data-root "$work/data" --exec-root "$work/exec" --pidfile "$work/pid" \
        >"$work/log" 2>&1 &
    engine=$!
    tries=0
    until docker version >/dev/null 2>&1; do
        tries=$((tries + 1))
        if [ $tries -gt 300 ] || ! kill -0 "$engine" 2>/dev/null; then
            tail -5 "$work/log" >&2
            say "dockerd does not start here"
            exit 69
        fi
        sleep 0.1
    done
    say "started a Docker engine"
fi

if [ -z "${TURNSTILE_REDIS_IMAGE-}" ] && [ "$(uname)" = Linux ] && command -v redis-server >/dev/null; then
    image=$work/image
    mkdir -p "$image/data" "$image/tmp" "$image/usr/bin"
    server=$(command -v redis-server)
    cp -L "$server" "$image/usr/bin/redis-server"
    # Each library under the name by which it is looked up: "name => /path (…)", or the loader's "/path (…)".
    for library in $(ldd "$server" | sed -n 's/.*[[:space:]]\(\/[^ ]*\) (.*/\1/p'); do
        mkdir -p "$image$(dirname "$library")"
        cp -L "$library" "$image$library"
    done
    TURNSTILE_REDIS_IMAGE=turnstile/redis:local
    tar -C "$image" -c . | docker import --change 'ENTRYPOINT ["/usr/bin/redis-server"]' --change 'WORKDIR /data' \
        --change 'EXPOSE 6379' - "$TURNSTILE_REDIS_IMAGE" >/dev/null
    say "made $TURNSTILE_REDIS_IMAGE out of $("$server" --version | cut -d' ' -f1-3)"
    export TURNSTILE_REDIS_IMAGE
fi

if [ -z "${TURNSTILE_KAFKA_IMAGE-}" ] && [ "$(uname)" = Linux ] && command -v "${JAVA_HOME:+$JAVA_HOME/bin/}java" >/dev/null &&
    [ -e "$here/../.turnstile/kafka/pom.xml" ]; then
    TURNSTILE_KAFKA_IMAGE=turnstile/kafka:local
    "$here/kafka/image.sh" "$TURNSTILE_KAFKA_IMAGE"
    say "made $TURNSTILE_KAFKA_IMAGE out of the jars in .turnstile/kafka and this machine's Java"
    export TURNSTILE_KAFKA_IMAGE
fi

export TURNSTILE_SERVERS=containers
unset TURNSTILE_TEST_REDIS_URL TURNSTILE_TEST_KAFKA_BROKERS
"$@"
