# shellcheck shell=bash
# Debian root folders for other architectures: creates them, runs programs in them, and boots them as emulated machines.
# Source this from a script that runs as root with `set -euo pipefail`, on a machine with
#     debootstrap qemu-user-static qemu-system-arm e2fsprogs
# Debian's packages come from the mirror in the apt configuration of this machine. Emulated machines have no network.

# The oldest Debian that the packages support. The 32-bit and 64-bit Raspberry Pi OS have a release that is based on it.
readonly debian_suite=bookworm

# root_for ARCH DIR: creates a small Debian with systemd in DIR, for arm64 or armhf. An existing DIR is reused, so tests
# must work on a copy. The root for arm64 contains a kernel for `boot_vm`.
root_for() {
    local arch=$1 root=$2 part=$2.part
    [[ ! -d $root ]] || return 0
    mkdir -p "$(dirname "$root")"
    rm -rf --one-file-system "$part"
    run_foreign "$arch"
    echo "creating a Debian root for $arch; under emulation this takes minutes" >&2
    debootstrap --arch="$arch" --variant=minbase --include=systemd,systemd-sysv,dbus,iproute2,curl,ca-certificates \
        "$debian_suite" "$part" "$(debian_mirror)" >"$part.log" 2>&1 || { tail -n 20 "$part.log" >&2; return 1; }
    # No fsync of each file: an incomplete root is created again.
    echo force-unsafe-io >"$part/etc/dpkg/dpkg.cfg.d/unsafe-io"
    echo "cellsync-$arch" >"$part/etc/hostname"
    echo "127.0.0.1 localhost cellsync-$arch" >"$part/etc/hosts"
    if [[ $arch != armhf ]]; then
        mkdir -p "$part/etc/initramfs-tools/conf.d"
        # Only the modules for the disk: packing all modules takes minutes under emulation.
        printf 'MODULES=list\nCOMPRESS=gzip\n' >"$part/etc/initramfs-tools/conf.d/small"
        in_root "$part" apt-get install -y --no-install-recommends initramfs-tools >>"$part.log" 2>&1
        printf '%s\n' virtio_pci virtio_blk ext4 >>"$part/etc/initramfs-tools/modules"
        in_root "$part" apt-get install -y --no-install-recommends "linux-image-$arch" >>"$part.log" 2>&1
    fi || { tail -n 20 "$part.log" >&2; return 1; }
    in_root "$part" apt-get clean
    mv "$part.log" "$root.log"
    mv "$part" "$root"
}

# in_root ROOT COMMAND...: runs a command in a chroot, with an empty environment, and without a network if IN_ROOT_ALONE
# is set.
in_root() {
    local root=$1
    shift
    # In a new mount namespace, so that no mount remains.
    # shellcheck disable=SC2016 # The inner shell expands this.
    unshare ${IN_ROOT_ALONE:+--net} --mount --fork --pid --kill-child bash -c 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"' "$root" \
        /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@" </dev/null
}

# run_foreign ARCH: registers the emulator for programs of that architecture with the kernel, as the package
# qemu-user-static does at boot under systemd. The kernel opens the emulator at registration, so programs in a chroot
# find it too.
run_foreign() {
    local formats=/proc/sys/fs/binfmt_misc emulator
    case $1 in
        "$(dpkg --print-architecture)") return ;;
        arm64) emulator=qemu-aarch64 ;;
        armhf) emulator=qemu-arm ;;
        *) echo "no emulator for the architecture $1" >&2; return 1 ;;
    esac
    [[ -e $formats/register ]] || mount -t binfmt_misc binfmt_misc "$formats"
    [[ -e $formats/$emulator ]] || cat "/usr/lib/binfmt.d/$emulator.conf" >"$formats/register"
}

# Prints the Debian mirror of this machine.
debian_mirror() {
    local mirror
    # shellcheck disable=SC2016 # apt expands this.
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | head -n 1)
    [[ $mirror ]] || { echo "no Debian mirror in the apt configuration of this machine" >&2; return 1; }
    echo "$mirror"
}

# boot_vm ARCH ROOT COMMAND...: boots a copy of ROOT as an emulated machine with a disk and without a network. Once its
# services are up, runs COMMAND in it as root, prints the output, powers off, and returns the exit code. The folder
# $VM_FILES, if set, is /srv/files in the machine. The timeout is $VM_SECONDS (default 1200); after it, or if the boot
# fails, prints the console and returns 124.
boot_vm() (
    local arch=$1 root=$2 work code machine console disks boot vm=
    shift 2
    work=$(mktemp -d /var/tmp/vm.XXXXXX)
    disks=(-drive "file=$work/disk,if=virtio,format=raw")
    trap 'kill $vm 2>/dev/null || true; rm -rf "$work"' EXIT
    case $arch in
        arm64) machine=(qemu-system-aarch64 -M virt -cpu cortex-a72) console=ttyAMA0 ;;
        *) echo "no emulated machine for the architecture $arch" >&2; return 1 ;;
    esac
    # The command is in a file, which preserves its quotes. Its output has a port of its own, because the kernel writes
    # to the console.
    cat >"$work/unit" <<UNIT
[Unit]
After=multi-user.target
[Service]
Environment=HOME=/root
ExecStart=/bin/bash -c '(. /trial/command) </dev/null >/dev/virtio-ports/output 2>&1; echo \$? >/dev/virtio-ports/code'
ExecStopPost=/usr/bin/systemctl --no-block poweroff
UNIT
    printf '%q ' "$@" >"$work/command"
    printf '/dev/vda / ext4 defaults 0 0\n' >"$work/fstab"
    if [[ -n ${VM_FILES:-} ]]; then
        truncate -s $(($(du -sm --apparent-size "$VM_FILES" | cut -f 1) * 2 + 16))M "$work/files"
        mkfs.ext4 -q -F -d "$VM_FILES" "$work/files"
        printf '/dev/vdb /srv/files ext4 ro,nofail 0 0\n' >>"$work/fstab"
        disks+=(-drive "file=$work/files,if=virtio,format=raw,readonly=on")
    fi
    : >"$work/output"
    truncate -s 3G "$work/disk"
    # Copies the root without a mount.
    mkfs.ext4 -q -F -d "$root" "$work/disk"
    {
        echo "mkdir /trial"
        echo "write $work/command /trial/command"
        echo "rm /etc/fstab"
        echo "write $work/fstab /etc/fstab"
        echo "write $work/unit /etc/systemd/system/trial.service"
        echo "mkdir /etc/systemd/system/multi-user.target.wants"
        echo "symlink /etc/systemd/system/multi-user.target.wants/trial.service ../trial.service"
        echo "symlink /etc/systemd/system/serial-getty@$console.service /dev/null"
    } >"$work/edits"
    debugfs -w -f "$work/edits" "$work/disk" >"$work/edits.log" 2>&1
    boot=$root/boot
    timeout "${VM_SECONDS:-1200}" "${machine[@]}" -accel tcg,thread=multi -m 1024 -smp 2 -nic none -no-reboot \
        -display none -monitor none -serial "file:$work/console" \
        -kernel "$(ls "$boot"/vmlinuz-* | tail -n 1)" -initrd "$(ls "$boot"/initrd.img-* | tail -n 1)" \
        -append "root=/dev/vda rw console=$console quiet systemd.show_status=1" "${disks[@]}" \
        -device virtio-serial \
        -chardev "file,id=output,path=$work/output" -device virtserialport,chardev=output,name=output \
        -chardev "file,id=code,path=$work/code" -device virtserialport,chardev=code,name=code </dev/null &
    # In the background, so that a signal ends the machine too.
    vm=$!
    tail -f --pid="$vm" "$work/output" &
    wait "$vm" || true
    wait
    if ! read -r code 2>/dev/null <"$work/code"; then
        echo "the $arch machine did not run the command to its end; the last lines of its console:" >&2
        tail -n 60 "$work/console" >&2
        return 124
    fi
    return "$code"
)
