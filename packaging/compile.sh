#!/bin/bash
# packaging/compile.sh ARCH: the four programs for a Debian architecture, compiled on Debian. The last line it prints is the
# folder that holds them; everything else goes to stderr.
#     amd64   PCs, virtual machines
#     arm64   64-bit Raspberry Pi OS: Pi 3, 4, 5, Zero 2
#     armhf   32-bit Raspberry Pi OS, on any Pi, the Zero and the first one too
# The same sources and the same compilers give the same bytes, whatever the folders are called. That is all the more reason
# to say which compilers: Rust is the one on PATH if it has a standard library for ARCH (`rustup target add`), otherwise
# Debian's, with its standard library compiled from Debian's sources; C is Debian's. Missing Debian packages are installed
# when this runs as root.
set -euo pipefail
cd "$(dirname "$0")/.."
exec 3>&1 1>&2 </dev/null

case ${1:-} in
    amd64) triple=x86_64-unknown-linux-gnu cross=x86-64-linux-gnu ;;
    arm64) triple=aarch64-unknown-linux-gnu cross=aarch64-linux-gnu ;;
    # Not gnueabihf: what Debian has for that is made for ARMv7, and dies on the Zero and on the first Pi. This is ARMv6
    # without hardware floats, which we hardly use; and static, so that it misses no libraries. The price: it cannot load
    # the system's plug-in for `.local` names, so that a cell is named by its address or by a name in /etc/hosts or DNS.
    armhf) triple=arm-unknown-linux-gnueabi cross=arm-linux-gnueabi ;;
    *) echo "usage: packaging/compile.sh amd64|arm64|armhf"; exit 2 ;;
esac
arch=$1

packages=() build_std=()
if [[ $arch == "$(dpkg --print-architecture)" ]]; then
    native=yes compiler=gcc
    packages+=(gcc libc6-dev)
else
    native=no compiler=${cross/x86-64/x86_64}-gcc
    packages+=("gcc-$cross" "libc6-dev-${arch/armhf/armel}-cross")
fi
if [[ ! -d $(rustc --print target-libdir --target "$triple" 2>/dev/null) ]]; then
    packages+=(rustc-web cargo-web)
    # For the standard library, as Debian's has only that of the machine itself. Building it is not stable; the compiler is
    # told that we know.
    if [[ $native == no ]]; then
        packages+=(rust-web-src)
        # Without what prints backtraces: they would be of no use, since the programs have no symbols, and take 6 % of the packages.
    build_std=(-Z build-std=std -Z build-std-features=panic-unwind)
        export RUSTC_BOOTSTRAP=1
    fi
    export PATH=/usr/bin:$PATH RUSTC=/usr/bin/rustc
fi

missing=()
for package in "${packages[@]}"; do
    [[ $(dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
done
if ((${#missing[@]})); then
    install=(apt-get install -y -qq --no-install-recommends "${missing[@]}")
    if [[ $(id -u) != 0 ]]; then
        echo "cannot compile for $arch: Debian packages are missing. As root: ${install[*]}"
        [[ -z ${RUSTC:-} ]] || echo "Those with rust in their name are not needed after: rustup target add $triple"
        exit 1
    fi
    echo "${install[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    "${install[@]}" >/dev/null
fi
echo "$(rustc --version), $(cargo --version), for $triple"

name=${triple//-/_}
export "CC_$name=$compiler" "CARGO_TARGET_${name^^}_LINKER=$compiler"

# What the build machine calls its folders is nobody's business, and would make the bytes differ.
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
cargo_home=$(realpath -m "${CARGO_HOME:-$HOME/.cargo}")
sysroot=$(rustc --print sysroot)
renames=("$cargo_home=/cargo" "$PWD=/cellsync" "$target=/cellsync/target" "$sysroot/lib/rustlib/src/rust=/rust")
# The crates lie in a folder that is named after the registry they were fetched from, which may be a mirror.
cargo fetch --locked --target "$triple" "${build_std[@]}"
for crates in "$cargo_home"/registry/src/*; do renames+=("$crates=/crates"); done
flags=() c_flags=()
# Of two that fit, the later one counts.
for rename in "${renames[@]}"; do
    flags+=("--remap-path-prefix=$rename")
    # The folders may have spaces.
    c_flags+=("'-ffile-prefix-map=$rename'")
done
case $arch in
    arm64) flags+=(--cfg aes_armv8) ;; # AES in hardware, on the boards that have it: looked at as the program runs.
    armhf) flags+=(-Ctarget-feature=+crt-static) ;;
esac
CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f'; echo "${flags[*]}")
export CARGO_ENCODED_RUSTFLAGS
export CC_SHELL_ESCAPED_FLAGS=1 "CFLAGS_$name=${c_flags[*]}"
# For C that asks what time it is.
[[ -n ${SOURCE_DATE_EPOCH:-} ]] || SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null) || SOURCE_DATE_EPOCH=0
export SOURCE_DATE_EPOCH

cargo build --profile dist --no-default-features --locked --bins --target "$triple" --target-dir "$target" "${build_std[@]}"
echo "$target/$triple/dist" >&3
