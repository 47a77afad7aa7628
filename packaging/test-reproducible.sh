#!/bin/bash
# test-reproducible.sh [ARCH]: builds the current commit again, in a folder with another name, and compares the packages
# with those in target/packages, which packaging/build.sh must have built from the same commit.
set -euo pipefail
cd "$(dirname "$0")/.."

arch=${1:-$(dpkg --print-architecture)}
trial=$(mktemp -d "$PWD/target/once more.XXXXXX")
trap 'rm -rf "$trial"' EXIT
git clone --quiet . "$trial/elsewhere"
mkdir "$trial/elsewhere/target"
ln -s "$PWD/target/tools" "$trial/elsewhere/target/tools"
(
    # Other things that differ between machines.
    umask 077
    export TZ=Pacific/Apia LANG=C.UTF-8 LC_ALL=C.UTF-8
    env -u CARGO_TARGET_DIR "$trial/elsewhere/packaging/build.sh" "$arch" >/dev/null
)

compared=0
for package in "$trial/elsewhere/target/packages"/*.deb; do
    # Prints the position of the first difference.
    cmp "$package" "target/packages/${package##*/}"
    compared=$((compared + 1))
done
[[ $compared == 2 ]] || { echo "expected 2 packages for $arch, built $compared" >&2; exit 1; }
sha256sum target/packages/*_"$arch".deb
