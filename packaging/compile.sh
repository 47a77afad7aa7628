#!/bin/bash
# compile.sh ARCH: compiles the four programs for a Debian architecture, on Debian. The last line of standard output is
# the folder that contains them; everything else goes to standard error.
#     amd64   PCs, virtual machines
#     arm64   64-bit Raspberry Pi OS: Pi 3, 4, 5, Zero 2
#     armhf   32-bit Raspberry Pi OS on any Pi, including the Zero and the first one
# Builds are reproducible: the same sources and compilers give the same bytes in any folder. The Rust compiler is the
# one on PATH if it has a standard library for ARCH (`rustup target add`); otherwise it is Debian's, and for another
# architecture the standard library is compiled from Debian's sources. The C compiler is Debian's. As root, this script
# installs missing Debian packages.
set -euo pipefail
cd "$(dirname "$0")/.."
exec 3>&1 1>&2 </dev/null

case ${1:-} in
    amd64) triple=x86_64-unknown-linux-gnu cross=x86-64-linux-gnu ;;
    arm64) triple=aarch64-unknown-linux-gnu cross=aarch64-linux-gnu ;;
    # Not gnueabihf: Debian's libraries for it contain ARMv7 code, which crashes on the Zero and on the first Pi. This
    # target is ARMv6 without hardware floating point, which the programs hardly use; and static, because the system has
    # no libraries for it. A static program cannot load the system's resolver for `.local` names: configure cells by
    # address, or by a name in /etc/hosts or DNS.
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
    # Debian's compiler has a standard library only for the machine's own architecture. Compiling another one is an
    # unstable feature, which RUSTC_BOOTSTRAP enables.
    if [[ $native == no ]]; then
        packages+=(rust-web-src)
        # Without backtraces: they are useless in programs without symbols, and take 6 % of the packages.
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
        echo "cannot compile for $arch: Debian packages are missing; as root, run: ${install[*]}"
        [[ -z ${RUSTC:-} ]] || echo "the packages for Rust are not needed after: rustup target add $triple"
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

# Paths of the build machine must not be in the programs: they are private, and would make the bytes differ.
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
cargo_home=$(realpath -m "${CARGO_HOME:-$HOME/.cargo}")
sysroot=$(rustc --print sysroot)
renames=("$cargo_home=/cargo" "$PWD=/cellsync" "$target=/cellsync/target" "$sysroot/lib/rustlib/src/rust=/rust")
# The folder of the crates is named after the registry that they were fetched from, which may be a mirror.
cargo fetch --locked --target "$triple" "${build_std[@]}"
for crates in "$cargo_home"/registry/src/*; do renames+=("$crates=/crates"); done
flags=() c_flags=()
# If two prefixes match a path, the last one applies.
for rename in "${renames[@]}"; do
    flags+=("--remap-path-prefix=$rename")
    # Quoted, because a path may contain spaces.
    c_flags+=("'-ffile-prefix-map=$rename'")
done
case $arch in
    arm64) flags+=(--cfg aes_armv8) ;; # Uses AES instructions if the board has them, detected at run time.
    armhf) flags+=(-Ctarget-feature=+crt-static) ;;
esac
CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f'; echo "${flags[*]}")
export CARGO_ENCODED_RUSTFLAGS
export CC_SHELL_ESCAPED_FLAGS=1 "CFLAGS_$name=${c_flags[*]}"
# For C code that contains the time of its compilation.
[[ -n ${SOURCE_DATE_EPOCH:-} ]] || SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null) || SOURCE_DATE_EPOCH=0
export SOURCE_DATE_EPOCH

cargo build --profile dist --no-default-features --locked --bins --target "$triple" --target-dir "$target" "${build_std[@]}"
echo "$target/$triple/dist" >&3
