# shellcheck shell=bash disable=SC2154 # Names that test-install.sh and boards.sh set.
# The packages of an architecture that this machine has not, on an emulated Debian. Sourced by test-install.sh, with
# roots.sh; `architecture` and `packages` are set there.
#
# arm64 is a whole machine with a systemd of its own. armhf is an emulator of single programs, on the processor of the first
# Pi and the Zero, which Debian's own armhf does not run on.

emulated() {
    local files code=0
    type debootstrap qemu-arm-static &>/dev/null || boards_cannot "missing; try: apt-get install debootstrap qemu-user-static"
    [[ $(id -u) == 0 ]] || boards_cannot "only root can make an emulated Debian"
    mkdir -p "$boards_roots"
    boards_roots=$(realpath "$boards_roots")
    root_for "$architecture" "$boards_roots/$architecture-emulated"
    files=$(mktemp -d)
    # shellcheck disable=SC2064 # This folder, whatever the name stands for then.
    trap "rm -rf --one-file-system '$files'" EXIT
    GNUPGHOME=$files/key "$here/apt/repository.sh" "$files/web" "$packages"/cellsync-{node,client}_*_"$architecture".deb >/dev/null
    GNUPGHOME=$files/key gpgconf --kill gpg-agent
    rm -r "$files/key"
    cp "$here/apt/README.md" "$here/test/guest.sh" "$files/"
    case $architecture in
        arm64)
            type qemu-system-aarch64 &>/dev/null || boards_cannot "missing; try: apt-get install qemu-system-arm"
            # Its program for armhf runs there too, and its memory is seen without an emulator's.
            if compgen -G "$packages/cellsync-node_*_armhf.deb" >/dev/null; then
                dpkg-deb --fsys-tarfile "$packages"/cellsync-node_*_armhf.deb | tar -x -C "$files" ./usr/bin/cellsync-node
                mkdir "$files/other"
                mv "$files/usr/bin/cellsync-node" "$files/other/"
            fi
            VM_FILES=$files boot_vm arm64 "$boards_roots/arm64-emulated" /srv/files/guest.sh /srv/files || code=$?
            ;;
        armhf)
            # On a copy: the root is used again.
            cp -a "$boards_roots/armhf-emulated/." "$files/root"
            mkdir -p "$files/root/srv/files"
            cp -a "$files"/{web,README.md,guest.sh} "$files/root/srv/files/"
            run_foreign armhf
            IN_ROOT_ALONE=yes in_root "$files/root" /srv/files/guest.sh /srv/files arm1176 || code=$?
            ;;
        *) boards_cannot "no emulation of $architecture" ;;
    esac
    return "$code"
}
