# shellcheck shell=bash
# Debian systems to install the packages in: made from scratch, run under emulation, booted as whole machines. Sourced by
# a script that runs as root with `set -euo pipefail`, on a machine with
#     debootstrap qemu-user-static qemu-system-arm e2fsprogs
# Where they come from is the mirror in the machine's own apt configuration; a machine that runs in the end has no network.

# The oldest Debian that the packages promise to run on; the 32-bit and the 64-bit Raspberry Pi OS are made from it as well.
readonly debian_suite=bookworm

# root_for ARCH DIR: a small Debian with systemd in the folder DIR, for arm64 or armhf. A DIR that is there already
# is left as it is, so a test works on a copy. That for arm64 holds a kernel for `boot_vm`.
root_for() {
    local arch=$1 root=$2 part=$2.part
    [[ ! -d $root ]] || return 0
    mkdir -p "$(dirname "$root")"
    rm -rf --one-file-system "$part"
    run_foreign "$arch"
    echo "making a Debian root for $arch: minutes, where it is emulated" >&2
    debootstrap --arch="$arch" --variant=minbase --include=systemd,systemd-sysv,dbus,iproute2,curl,ca-certificates \
        "$debian_suite" "$part" "$(debian_mirror)" >"$part.log" 2>&1 || { tail -n 20 "$part.log" >&2; return 1; }
    # A test that dies with the machine is made again: no need to wait for the disk.
    echo force-unsafe-io >"$part/etc/dpkg/dpkg.cfg.d/unsafe-io"
    echo "cellsync-$arch" >"$part/etc/hostname"
    echo "127.0.0.1 localhost cellsync-$arch" >"$part/etc/hosts"
    if [[ $arch != armhf ]]; then
        mkdir -p "$part/etc/initramfs-tools/conf.d"
        # Only what it takes to find the disk: packing every module takes minutes under emulation.
        printf 'MODULES=list\nCOMPRESS=gzip\n' >"$part/etc/initramfs-tools/conf.d/small"
        in_root "$part" apt-get install -y --no-install-recommends initramfs-tools >>"$part.log" 2>&1
        printf '%s\n' virtio_pci virtio_blk ext4 >>"$part/etc/initramfs-tools/modules"
        in_root "$part" apt-get install -y --no-install-recommends "linux-image-$arch" >>"$part.log" 2>&1
    fi || { tail -n 20 "$part.log" >&2; return 1; }
    in_root "$part" apt-get clean
    mv "$part.log" "$root.log"
    mv "$part" "$root"
}

# in_root ROOT COMMAND...: in a chroot, with nothing of our own environment; and with IN_ROOT_ALONE, on no network.
in_root() {
    local root=$1
    shift
    # In a mount namespace of its own, so that nothing stays mounted whatever happens.
    # shellcheck disable=SC2016 # For the inner shell.
    unshare ${IN_ROOT_ALONE:+--net} --mount --fork --pid --kill-child bash -c 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"' "$root" \
        /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@" </dev/null
}

# run_foreign ARCH: lets the kernel run programs of that architecture, as Debian does at the boot of a machine that has
# qemu-user-static and a systemd. The emulator is opened here and now, so it is found inside of a chroot as well.
run_foreign() {
    local formats=/proc/sys/fs/binfmt_misc emulator
    case $1 in
        "$(dpkg --print-architecture)") return ;;
        arm64) emulator=qemu-aarch64 ;;
        armhf) emulator=qemu-arm ;;
        *) echo "no emulator known for $1" >&2; return 1 ;;
    esac
    [[ -e $formats/register ]] || mount -t binfmt_misc binfmt_misc "$formats"
    [[ -e $formats/$emulator ]] || cat "/usr/lib/binfmt.d/$emulator.conf" >"$formats/register"
}

# Where this machine has its Debian from.
debian_mirror() {
    local mirror
    # shellcheck disable=SC2016 # For apt.
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | head -n 1)
    [[ $mirror ]] || { echo "apt names no Debian mirror here" >&2; return 1; }
    echo "$mirror"
}

# boot_vm ARCH ROOT COMMAND...: boots a copy of ROOT as a whole machine with a disk and no network, runs COMMAND in it as
# root once all its services are up, shows what it says, powers off, and gives its exit code. The folder $VM_FILES, if that
# is set, is found in it as /srv/files. $VM_SECONDS (1200) is how long it may take; if it takes longer, or does not come up,
# its console is shown and the exit code is 124.
boot_vm() (
    local arch=$1 root=$2 work code machine console disks boot vm=
    shift 2
    work=$(mktemp -d /var/tmp/vm.XXXXXX)
    disks=(-drive "file=$work/disk,if=virtio,format=raw")
    trap 'kill $vm 2>/dev/null || true; rm -rf "$work"' EXIT
    case $arch in
        arm64) machine=(qemu-system-aarch64 -M virt -cpu cortex-a72) console=ttyAMA0 ;;
        *) echo "no machine known for $arch" >&2; return 1 ;;
    esac
    # Not root's command line but a file, which keeps its quotes. What it says comes out beside the console, which the
    # kernel writes to as well.
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
    # The copy: made without mounting anything.
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
    # Waited for, and not in the foreground, so that a signal ends the machine as well.
    vm=$!
    tail -f --pid="$vm" "$work/output" &
    wait "$vm" || true
    wait
    if ! read -r code 2>/dev/null <"$work/code"; then
        echo "the $arch machine did not get to the end; the last of its console:" >&2
        tail -n 60 "$work/console" >&2
        return 124
    fi
    return "$code"
)
