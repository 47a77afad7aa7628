# shellcheck shell=bash
# Boards for tests: machines with a systemd of their own, made of namespaces, on a network of their own. To be sourced.
#
#   boards_begin                 what must be there is looked for; from now on `boards_end` cleans up when the shell ends
#   boards_new NAME...           boards that have never been switched on
#   switch_on NAME...            boots them, and returns when all are up
#   on NAME COMMAND...           runs a command there as root, with its output and exit code
#   power_off NAME               shuts it down in good order
#   pull_the_plug NAME           ends it as a power cut does; what is on its disk stays
#   board_address NAME           prints its address
#   on_the_wire COMMAND...       runs a command of this machine at the switch, whose address is $switch_address
#
# Each board is an overlay over one root that debootstrap made, with fresh pid, mount, uts, ipc, net and cgroup namespaces.
# The switch is a bridge in a network namespace that is connected to nothing else: broadcast reaches all boards, and nothing
# reaches the network of this machine. Only processes hold it all: when they are gone, so are mounts, networks and boards.
#
# A board is not a jail. Its root is this machine's root, but for the capabilities to set its clock and load modules.

# Where roots are kept from one run to the next, and the disks of the boards while they run.
boards_roots=${CELLSYNC_ROOTS:-$(dirname "${BASH_SOURCE[0]}")/../../target/roots}
boards_programs=$(dirname "${BASH_SOURCE[0]}")

# What a Raspberry Pi has that a minimal root has not, as far as the tests look at it.
boards_packages=systemd,systemd-sysv,dbus,iproute2,ca-certificates,curl,man-db

readonly switch_address=10.66.0.1
declare -A board_number=() board_parent=() board_init=()

# Ends with the exit code that says "cannot be tested here".
boards_cannot() {
    printf 'cannot test here: %s\n' "$*" >&2
    exit 77
}

boards_begin() {
    local missing=() program
    [[ $(id -u) == 0 ]] || boards_cannot "only root can make boards"
    for program in unshare:util-linux nsenter:util-linux setpriv:util-linux ip:iproute2 flock:util-linux findmnt:util-linux; do
        type "${program%:*}" &>/dev/null || missing+=("${program#*:}")
    done
    ((${#missing[@]} == 0)) || boards_cannot "missing; try: apt-get install ${missing[*]}"
    boards_cgroups=$(findmnt -n -l -t cgroup2 -O rw -o TARGET | head -n 1)
    [[ $boards_cgroups ]] || boards_cannot "no cgroup2 file system is mounted for writing"
    unshare --fork --pid --mount --uts --ipc --net --cgroup -- true 2>/dev/null || boards_cannot "no new namespaces"

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

# What a run that was killed could not take away.
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

# The switch is a process that does nothing in a network namespace with a bridge.
boards_make_switch() {
    setpriv --pdeathsig KILL unshare --net -- sleep infinity &
    boards_switch=$!
    boards_await 5 boards_switch_is_apart || { echo "no network namespace for the switch" >&2; return 1; }
    on_the_wire ip -batch - <<END
link set lo up
link add switch type bridge stp_state 0 mcast_snooping 0
addr add $switch_address/24 dev switch
link set switch up
END
}

boards_switch_is_apart() { [[ $(readlink "/proc/$boards_switch/ns/net") != "$(readlink /proc/self/ns/net)" ]]; }

on_the_wire() { nsenter --net="/proc/$boards_switch/ns/net" -- "$@"; }

# Waits until a command succeeds, for so many seconds at the most.
boards_await() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.1
    done
}

# The root below all boards, made at the first use. Suite and mirror are those of this machine's own apt.
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
        [[ $mirror ]] || boards_cannot "apt has no source for $suite main"
        echo "making a root of $suite for $architecture in $boards_base"
        rm -rf "$boards_base" "$boards_base.recipe"
        # A root that is half made after a power cut is made again, so its files need not be flushed one by one.
        mkdir -p "$boards_base/etc/dpkg/dpkg.cfg.d"
        echo force-unsafe-io >"$boards_base/etc/dpkg/dpkg.cfg.d/unsafe-io"
        # In a namespace, so that what it mounts does not stay when it is interrupted.
        setpriv --pdeathsig KILL unshare --fork --kill-child --pid --mount --mount-proc -- \
            debootstrap --arch "$architecture" --variant minbase --include "$boards_packages" "$suite" "$boards_base" "$mirror" \
            >"$boards_base.log" 2>&1 || { tail -n 20 "$boards_base.log" >&2; return 1; }
        # Nothing of this machine stays in it, and apt has no source but those that a test writes. The journal is kept over
        # a power cut.
        (
            cd "$boards_base" || exit
            rm -rf etc/dpkg/dpkg.cfg.d/unsafe-io etc/hostname etc/resolv.conf etc/apt/sources.list var/cache/apt var/lib/apt dev
            mkdir -p dev var/log/journal var/cache/apt/archives/partial var/lib/apt/lists/partial
            : >etc/machine-id
            # apt runs when the test says so.
            chroot . systemctl --quiet disable apt-daily.timer apt-daily-upgrade.timer
        )
        printf '%s\n' "$recipe" >"$boards_base.recipe"
    fi
    exec {boards_lock}>&-
}

# Where this machine's apt gets the suite from. Of several that have it, Debian itself.
boards_mirror() {
    # shellcheck disable=SC2016 # apt replaces these
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
        printf '%s does not come up; its console:\n' "$name" >&2
        tail -n 40 "$folder/console" >&2
        return 1
    done
}

boards_is_up_or_off() {
    ! boards_is_off "$1" || return 0
    [[ -s $boards_folder/$1/init ]] || return 1
    board_init[$1]=$(<"$boards_folder/$1/init")
    # Booted, whether or not a service failed meanwhile.
    case $(on "$1" systemctl is-system-running 2>/dev/null || true) in
        running | degraded) ;;
        *) return 1 ;;
    esac
}

on() {
    local name=$1
    shift
    # A test's failure is explained with the journal of the board it spoke to last, wherever it did so.
    echo "$name" >"$boards_folder/last"
    nsenter --target "${board_init[$name]:?$name is off}" --all -- /usr/bin/env -i HOME=/root TERM=dumb LANG=C.UTF-8 \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

power_off() {
    # It may be off before it could answer.
    on "$1" systemctl poweroff 2>/dev/null || true
    boards_await 60 boards_is_off "$1" || printf '%s does not go off\n' "$1" >&2
    pull_the_plug "$1"
}

boards_is_off() { ! kill -0 "${board_parent[$1]}" 2>/dev/null; }

# Without its PID 1 the kernel kills all others of the board, and takes its mounts and its network away.
pull_the_plug() {
    local name=$1 cgroup=$boards_cgroups/cellsync-boards.$$.$1
    # In the first moments of a boot the two are not told apart yet; they die together.
    kill -KILL "$(cat "$boards_folder/$name/init" 2>/dev/null || echo "${board_parent[$name]}")" 2>/dev/null || true
    wait "${board_parent[$name]}" 2>/dev/null || true
    unset "board_parent[$name]" "board_init[$name]"
    boards_await 10 boards_no_cgroup "$cgroup" || printf '%s leaves its control group %s\n' "$name" "$cgroup" >&2
}

boards_no_cgroup() { [[ ! -d $1 ]] || find "$1" -depth -type d -exec rmdir {} + 2>/dev/null; }

# Whatever happened, nothing stays but the root.
boards_end() {
    local name
    trap '' HUP INT TERM
    for name in "${!board_parent[@]}"; do
        pull_the_plug "$name"
    done
    [[ ! ${boards_switch:-} ]] || { kill "$boards_switch" && wait "$boards_switch"; } 2>/dev/null || true
    [[ ! ${boards_folder:-} ]] || rm -rf "$boards_folder"
}
