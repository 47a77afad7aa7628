# shellcheck shell=bash
# Test boards: containers made of namespaces, each with its own systemd, on a private network. Source this file.
#
#   boards_begin                 checks the requirements; from then on `boards_end` cleans up when the shell exits
#   boards_new NAME...           creates boards that have never booted
#   switch_on NAME...            boots boards, and returns when all of them are up
#   on NAME COMMAND...           runs a command on a board as root, with its output and exit code
#   power_off NAME               shuts a board down
#   pull_the_plug NAME           simulates a power cut; the board keeps its disk
#   board_address NAME           prints a board's address
#   on_the_wire COMMAND...       runs a command of this machine in the network of the switch, at address $switch_address
#
# A board is an overlay on a common base root from debootstrap, with new pid, mount, uts, ipc, net and cgroup
# namespaces. The switch is a bridge in a network namespace without another connection: broadcasts reach all boards, and
# no packet reaches the network of this machine. Processes alone keep the mounts, networks and boards alive: all vanish
# when these end.
#
# A board is no security boundary. Its root is this machine's root, without the capabilities to set the clock, load
# modules or access I/O ports.

# The folder of the base roots, which are reused between runs, and of the boards' disks during a run.
boards_roots=${CELLSYNC_ROOTS:-$(dirname "${BASH_SOURCE[0]}")/../../target/roots}
boards_programs=$(dirname "${BASH_SOURCE[0]}")

# Packages that the tests need and a minimal root does not have.
boards_packages=systemd,systemd-sysv,dbus,iproute2,ca-certificates,curl,man-db

readonly switch_address=10.66.0.1
declare -A board_number=() board_parent=() board_init=()

# Exits with 77: the test cannot run here.
boards_cannot() {
    printf 'cannot run this test here: %s\n' "$*" >&2
    exit 77
}

boards_begin() {
    local missing=() program
    [[ $(id -u) == 0 ]] || boards_cannot "test boards need root"
    for program in unshare:util-linux nsenter:util-linux setpriv:util-linux ip:iproute2 flock:util-linux findmnt:util-linux; do
        type "${program%:*}" &>/dev/null || missing+=("${program#*:}")
    done
    ((${#missing[@]} == 0)) || boards_cannot "missing; try: apt-get install ${missing[*]}"
    boards_cgroups=$(findmnt -n -l -t cgroup2 -O rw -o TARGET | head -n 1)
    [[ $boards_cgroups ]] || boards_cannot "no writable cgroup2 file system is mounted"
    unshare --fork --pid --mount --uts --ipc --net --cgroup -- true 2>/dev/null || boards_cannot "the kernel denies new namespaces"

    mkdir -p "$boards_roots"
    boards_roots=$(realpath "$boards_roots")
    boards_sweep
    trap boards_end EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    boards_folder=$boards_roots/boards.$$
    mkdir "$boards_folder"
    boards_make_switch
}

# Removes what killed runs have left.
boards_sweep() {
    local left
    for left in "$boards_roots"/boards.* "$boards_cgroups"/cellsync-boards.*; do
        local owner=${left##*boards.}
        [[ -d $left && ! -d /proc/${owner%%.*} ]] || continue
        case $left in
            "$boards_roots"/*) rm -rf "$left" ;;
            *) find "$left" -depth -type d -exec rmdir {} + || true ;;
        esac
    done
}

# The switch is an idle process in a network namespace with a bridge.
boards_make_switch() {
    setpriv --pdeathsig KILL unshare --net -- sleep infinity &
    boards_switch=$!
    boards_await 5 boards_switch_is_apart || { echo "cannot create the network namespace of the switch" >&2; return 1; }
    on_the_wire ip -batch - <<END
link set lo up
link add switch type bridge stp_state 0 mcast_snooping 0
addr add $switch_address/24 dev switch
link set switch up
END
}

boards_switch_is_apart() { [[ $(readlink "/proc/$boards_switch/ns/net") != "$(readlink /proc/self/ns/net)" ]]; }

on_the_wire() { nsenter --net="/proc/$boards_switch/ns/net" -- "$@"; }

# boards_await SECONDS COMMAND...: retries a command until it succeeds. Fails after SECONDS.
boards_await() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.1
    done
}

# Creates the base root of all boards if there is none. Suite and mirror come from the apt configuration of this
# machine.
boards_root() {
    local architecture suite mirror recipe
    architecture=$(dpkg --print-architecture)
    # shellcheck source=/dev/null
    suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    recipe="$suite $architecture $boards_packages 1"
    boards_base=$boards_roots/$suite-$architecture
    exec {boards_lock}>"$boards_base.lock"
    flock "$boards_lock"
    if [[ $(cat "$boards_base.recipe" 2>/dev/null) != "$recipe" ]]; then
        type debootstrap &>/dev/null || boards_cannot "missing; try: apt-get install debootstrap"
        mirror=$(boards_mirror "$suite")
        [[ $mirror ]] || boards_cannot "no apt source on this machine has $suite main"
        echo "creating a base root of $suite for $architecture in $boards_base"
        rm -rf "$boards_base" "$boards_base.recipe"
        # No fsync of each file: an incomplete root is created again.
        mkdir -p "$boards_base/etc/dpkg/dpkg.cfg.d"
        echo force-unsafe-io >"$boards_base/etc/dpkg/dpkg.cfg.d/unsafe-io"
        # In a mount namespace, so that no mount remains if it is interrupted.
        setpriv --pdeathsig KILL unshare --fork --kill-child --pid --mount --mount-proc -- \
            debootstrap --arch "$architecture" --variant minbase --include "$boards_packages" "$suite" "$boards_base" "$mirror" \
            >"$boards_base.log" 2>&1 || { tail -n 20 "$boards_base.log" >&2; return 1; }
        # Removes what comes from this machine, and all apt sources: tests write their own. The folder of the journal
        # makes it persistent.
        (
            cd "$boards_base" || exit
            rm -rf etc/dpkg/dpkg.cfg.d/unsafe-io etc/hostname etc/resolv.conf etc/apt/sources.list var/cache/apt var/lib/apt dev
            mkdir -p dev var/log/journal var/cache/apt/archives/partial var/lib/apt/lists/partial
            : >etc/machine-id
            # apt must run only when a test runs it.
            chroot . systemctl --quiet disable apt-daily.timer apt-daily-upgrade.timer
        )
        printf '%s\n' "$recipe" >"$boards_base.recipe"
    fi
    exec {boards_lock}>&-
}

# Prints the URI from which this machine's apt gets the suite, preferably one of Debian itself.
boards_mirror() {
    # shellcheck disable=SC2016 # apt expands these
    apt-get indextargets --format '$(RELEASE) $(REPO_URI) $(ORIGIN)' 'Created-By: Packages' 'Component: main' |
        awk -v suite="$1" '$1 == suite && (!uri || $3 == "Debian") { uri = $2 } $1 == suite && $3 == "Debian" { exit }
            END { print uri }'
}

boards_new() {
    local name folder
    [[ ${boards_base:-} ]] || boards_root
    for name in "$@"; do
        board_number[$name]=$((10 + ${#board_number[@]}))
        folder=$boards_folder/$name
        mkdir -p "$folder"/{root,work,upper/etc}
        printf '%s\n' "$name" >"$folder/upper/etc/hostname"
        tr -d - </proc/sys/kernel/random/uuid >"$folder/upper/etc/machine-id"
        printf '127.0.0.1 localhost\n127.0.1.1 %s\n' "$name" >"$folder/upper/etc/hosts"
    done
}

board_address() { echo "10.66.0.${board_number[$1]}"; }

switch_on() {
    local name folder cgroup
    for name in "$@"; do
        folder=$boards_folder/$name
        cgroup=$boards_cgroups/cellsync-boards.$$.$name
        mkdir "$cgroup"
        rm -f "$folder/init"
        setpriv --pdeathsig KILL --bounding-set -sys_time,-sys_module,-sys_rawio -- \
            unshare --fork --kill-child --pid --mount --uts --ipc --net -- \
            setsid bash "$boards_programs/board.sh" "$boards_base" "$folder" "$cgroup" "$boards_switch" "$(board_address "$name")" \
            </dev/null >"$folder/console" 2>&1 &
        board_parent[$name]=$!
    done
    for name in "$@"; do
        folder=$boards_folder/$name
        boards_await 60 boards_is_up_or_off "$name" && ! boards_is_off "$name" && continue
        printf '%s has not booted; its console:\n' "$name" >&2
        tail -n 40 "$folder/console" >&2
        return 1
    done
}

boards_is_up_or_off() {
    ! boards_is_off "$1" || return 0
    [[ -s $boards_folder/$1/init ]] || return 1
    board_init[$1]=$(<"$boards_folder/$1/init")
    # Booted, even if a service has failed.
    case $(on "$1" systemctl is-system-running 2>/dev/null || true) in
        running | degraded) ;;
        *) return 1 ;;
    esac
}

on() {
    local name=$1
    shift
    # When a test fails, the journal of the board used last is printed.
    echo "$name" >"$boards_folder/last"
    nsenter --target "${board_init[$name]:?$name is off}" --all -- /usr/bin/env -i HOME=/root TERM=dumb LANG=C.UTF-8 \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

power_off() {
    # The board may be off before the command returns.
    on "$1" systemctl poweroff 2>/dev/null || true
    boards_await 60 boards_is_off "$1" || printf '%s has not shut down within 60 s; killing it\n' "$1" >&2
    pull_the_plug "$1"
}

boards_is_off() { ! kill -0 "${board_parent[$1]}" 2>/dev/null; }

# When PID 1 of a board dies, the kernel kills its other processes and removes its mounts and its network.
pull_the_plug() {
    local name=$1 cgroup=$boards_cgroups/cellsync-boards.$$.$1
    # Early in the boot PID 1 is not known yet. It dies with its parent.
    kill -KILL "$(cat "$boards_folder/$name/init" 2>/dev/null || echo "${board_parent[$name]}")" 2>/dev/null || true
    wait "${board_parent[$name]}" 2>/dev/null || true
    unset "board_parent[$name]" "board_init[$name]"
    boards_await 10 boards_no_cgroup "$cgroup" || printf 'cannot remove the control group %s of %s\n' "$cgroup" "$name" >&2
}

boards_no_cgroup() { [[ ! -d $1 ]] || find "$1" -depth -type d -exec rmdir {} + 2>/dev/null; }

# Removes everything except the base root.
boards_end() {
    local name
    trap '' HUP INT TERM
    for name in "${!board_parent[@]}"; do
        pull_the_plug "$name"
    done
    [[ ! ${boards_switch:-} ]] || { kill "$boards_switch" && wait "$boards_switch"; } 2>/dev/null || true
    [[ ! ${boards_folder:-} ]] || rm -rf "$boards_folder"
}
