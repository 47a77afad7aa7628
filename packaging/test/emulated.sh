# shellcheck shell=bash disable=SC2154 # Variables that test-install.sh and boards.sh set.
# Tests the packages of another architecture on an emulated Debian. test-install.sh sources this file and roots.sh, and
# sets `architecture` and `packages`.
#
# For arm64 a whole machine with its own systemd is emulated. For armhf only programs are: those of the packages on the
# processor of the first Pi and the Zero, which cannot run Debian's own armhf programs.

emulated() {
    local files code=0
    type debootstrap qemu-arm-static &>/dev/null || boards_cannot "missing; try: apt-get install debootstrap qemu-user-static"
    [[ $(id -u) == 0 ]] || boards_cannot "an emulated Debian needs root"
    mkdir -p "$boards_roots"
    boards_roots=$(realpath "$boards_roots")
    root_for "$architecture" "$boards_roots/$architecture-emulated"
    files=$(mktemp -d)
    # shellcheck disable=SC2064 # Expanded now.
    trap "rm -rf --one-file-system '$files'" EXIT
    GNUPGHOME=$files/key "$here/apt/repository.sh" "$files/web" "$packages"/cellsync-{node,client}_*_"$architecture".deb >/dev/null
    GNUPGHOME=$files/key gpgconf --kill gpg-agent
    rm -r "$files/key"
    cp "$here/apt/README.md" "$here/test/guest.sh" "$files/"
    case $architecture in
        arm64)
            type qemu-system-aarch64 &>/dev/null || boards_cannot "missing; try: apt-get install qemu-system-arm"
            # The kernel for arm64 also runs the program for armhf, whose memory can be measured there without an
            # emulator's.
            if compgen -G "$packages/cellsync-node_*_armhf.deb" >/dev/null; then
                dpkg-deb --fsys-tarfile "$packages"/cellsync-node_*_armhf.deb | tar -x -C "$files" ./usr/bin/cellsync-node
                mkdir "$files/other"
                mv "$files/usr/bin/cellsync-node" "$files/other/"
            fi
            VM_FILES=$files boot_vm arm64 "$boards_roots/arm64-emulated" /srv/files/guest.sh /srv/files || code=$?
            ;;
        armhf)
            # A copy, because the root is reused.
            cp -a "$boards_roots/armhf-emulated/." "$files/root"
            mkdir -p "$files/root/srv/files"
            cp -a "$files"/{web,README.md,guest.sh} "$files/root/srv/files/"
            run_foreign armhf
            IN_ROOT_ALONE=yes in_root "$files/root" /srv/files/guest.sh /srv/files arm1176 || code=$?
            ;;
        *) boards_cannot "cannot emulate $architecture" ;;
    esac
    return "$code"
}
