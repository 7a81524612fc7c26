#!/bin/sh
# Makes a stand-in for Apache's Kafka image where no registry can be reached: image.sh NAME:TAG
# It has this machine's Java and C libraries, the jars in .turnstile/kafka and the script `run` beside this one. Like
# Apache's it takes its settings from KAFKA_* variables; it has none of its tools.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
jars=$here/../../.turnstile/kafka
image=$(mktemp -d /tmp/turnstile.XXXXXX)
trap 'rm -rf "$image"' EXIT

java=${JAVA_HOME:-$(java -XshowSettings:properties -version 2>&1 | sed -n 's/^ *java\.home = //p')}
mkdir -p "$image/bin" "$image/tmp" "$image/etc/kafka/docker" "$image/opt/java/bin" "$image/opt/kafka/config" "$image/opt/kafka/libs"
chmod 1777 "$image/tmp"
cp "$jars"/*.jar "$image/opt/kafka/libs"
cp "$here/run" "$image/etc/kafka/docker/run"
cp -L "$(command -v sh)" "$image/bin/sh"
cp -L "$java/bin/java" "$image/opt/java/bin/java"
# What is left out is for compilers and screens. Some systems have links to files that are not installed.
tar -C "$java" --dereference --ignore-failed-read --exclude=src.zip --exclude=ct.sym --exclude='lib*awt*' -c conf lib 2>/dev/null |
    tar -C "$image/opt/java" -x
# Each library under the name by which it is looked up: "name => /path (…)", or the loader's "/path (…)".
for library in $(ldd "$(command -v sh)" "$java/bin/java" "$java/lib/server/libjvm.so" "$java"/lib/lib[jnvz]*.so |
    sed -n 's/.*[[:space:]]\(\/[^ ]*\) (.*/\1/p' | sort -u); do
    case $library in "$java"/*) continue ;; esac
    mkdir -p "$image$(dirname "$library")"
    cp -L "$library" "$image$library"
done
# The wrapper of Kafka's image copies these; all that they say is said by variables.
for file in server.properties log4j2.yaml tools-log4j2.yaml; do
    : >"$image/etc/kafka/docker/$file"
done
tar -C "$image" -c . | docker import --change 'CMD ["/etc/kafka/docker/run"]' --change 'EXPOSE 9092' - "$1" >/dev/null
