#!/bin/bash
# build.sh [ARCH...]: builds both packages for these Debian architectures (amd64, arm64, armhf) in target/packages. The
# default is the architecture of this machine.
#
# Needs Rust, a C compiler, and for another architecture what packaging/compile.sh lists. Installs cargo-deb under
# target/tools if it is missing. Builds are reproducible: all times in the packages come from the changelog.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$PWD/target
tools=$target/tools
packages=$target/packages
# The contents of the packages, under the paths that Cargo.toml lists.
gathered=$target/package
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(date -d "$(sed -n 's/^ -- .*>  //p' packaging/debian/changelog | head -n 1)" +%s)}
export SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC
umask 022

triple_of() {
    case $1 in
    amd64) echo x86_64-unknown-linux-gnu ;;
    arm64) echo aarch64-unknown-linux-gnu ;;
    # Selects the name armhf for the package. packaging/compile.sh compiles the programs for an older processor.
    armhf) echo arm-unknown-linux-gnueabihf ;;
    *) echo "unknown architecture $1; use amd64, arm64 or armhf" >&2; return 2 ;;
    esac
}

gather() {
    local binaries=$1
    rm -rf "$gathered"
    mkdir -p "$gathered/bin" "$packages"
    install -m 755 "$binaries"/{cellsync,cellsync-node,cellsync-put,cellsync-get} "$gathered/bin/"
    cargo run --quiet --locked --no-default-features --example pages -- "$gathered/pages"
    packaging/third-party.sh | gzip -9n >"$gathered/third-party.txt.gz"
}

# Fails if a program needs a newer C library than the packages declare, as it does when linked on a newer Debian.
check_needs() {
    local program needs promised
    promised=$(sed -n 's/^depends = .*libc6 (>= \([0-9.]*\)).*/\1/p' Cargo.toml | head -n 1)
    for program in "$gathered"/bin/*; do
        needs=$(strings -a "$program" | sed -n 's/^GLIBC_\([0-9][0-9.]*\)$/\1/p' | sort -V | tail -n 1)
        if [[ $needs && $(printf '%s\n' "$needs" "$promised" | sort -V | tail -n 1) != "$promised" ]]; then
            echo "$program needs libc6 $needs but the packages declare $promised; build on the oldest supported Debian" >&2
            return 1
        fi
    done
}

# Fails if a program cannot run on a Raspberry Pi 5, whose kernel has pages of 16 KiB: it loads no segment that is
# aligned to less.
check_alignment() {
    local program alignment
    for program in "$gathered"/bin/*; do
        while read -r alignment; do
            if ((alignment < 0x4000)); then
                echo "$program has a LOAD segment aligned to $alignment; a Raspberry Pi 5 needs at least 0x4000" >&2
                return 1
            fi
        done < <(readelf --program-headers --wide "$program" | awk '$1 == "LOAD" { print $NF }')
    done
}

pack() {
    local triple=$1 variant
    for variant in node client; do
        # The profile `dist` strips the programs.
        "$tools/bin/cargo-deb" --no-build --no-strip --quiet --target "$triple" --variant "$variant" --output "$packages/"
    done
}

[[ $# -gt 0 ]] || set -- "$(dpkg --print-architecture)"
for arch in "$@"; do
    triple_of "$arch" >/dev/null
done
if [[ ! -x $tools/bin/cargo-deb ]]; then
    env -u CARGO_TARGET_DIR cargo install --quiet --locked --debug --root "$tools" --version 3.8.0 cargo-deb
fi
for arch in "$@"; do
    binaries=$(packaging/compile.sh "$arch" | tail -n 1)
    gather "$binaries"
    check_needs
    [[ $arch == amd64 ]] || check_alignment
    pack "$(triple_of "$arch")"
done
ls -l "$packages"
