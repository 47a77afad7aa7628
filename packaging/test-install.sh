#!/bin/bash
# test-install.sh [--packages DIR] [--previous DIR] [--arch ARCH]: tests the packages by installing them as a user does.
#
# Five test boards, each with its own systemd, and a laptop install the packages with apt from a signed repository over
# HTTP. --packages is the folder of the packages, by default target/packages. --previous is the folder of the packages
# to upgrade from, by default the same ones under a lower version. Needs root, and: apt-get install debootstrap iproute2
# gpg python3. Exits with 77 where it cannot run.
#
# For an ARCH other than this machine's, there is one emulated board and fewer tests: test/emulated.sh.
set -Eeuo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=packaging/test/boards.sh
. "$here/test/boards.sh"
# shellcheck source=packaging/test/roots.sh
. "$here/test/roots.sh"
# shellcheck source=packaging/test/emulated.sh
. "$here/test/emulated.sh"
# shellcheck source=packaging/test/steps.sh
. "$here/test/steps.sh"
exec </dev/null

architecture=$(dpkg --print-architecture)
packages=$here/../target/packages
previous=
while (($#)); do
    case $1 in
        --arch) architecture=${2:?} ;;
        --packages) packages=${2:?} ;;
        --previous) previous=${2:?} ;;
        *) sed -n '2s/^# //p' "$0" >&2; exit 2 ;;
    esac
    shift 2
done

cells=(board1 board2 board3 board4 board5)
unit=cellsync.service
data=/var/lib/cellsync
config=/etc/cellsync/node.toml
declare -A cell_id=()
web_server='' key_folder=''

finish() {
    local code=$? board
    trap - ERR
    set +e
    if [[ -s $boards_folder/failed/board ]]; then
        board=$(<"$boards_folder/failed/board")
        printf -- '--- journal of %s\n' "$board" >&2
        journalctl --no-pager --lines 60 --directory "$boards_folder/$board/upper/var/log/journal" >&2
    fi
    [[ ! $web_server ]] || { kill "$web_server"; wait "$web_server"; } 2>/dev/null
    [[ ! $key_folder ]] || { gpgconf --homedir "$key_folder" --kill gpg-agent; rm -rf "$key_folder"; }
    boards_end
    exit "$code"
}

# -- queries
# -------------------------------------------------------------------------------------------------------------

# ask BOARD KEY: prints a value from the cell's GET /status.
ask() {
    on "$1" curl --silent --fail --max-time 5 http://127.0.0.1:8080/status |
        python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$2"
}

answers_as() { [[ $(ask "$2" node_id 2>/dev/null) == "$1" ]]; }
has_chunks() { [[ $(ask "$2" chunks 2>/dev/null) == "$1" ]]; }
counts_cells() { [[ $(ask "$2" cells 2>/dev/null) == "$1" ]]; }

property() { on "$1" systemctl show "$unit" --property "$2" --value; }
enabled() { on "$1" systemctl is-enabled "$unit" 2>/dev/null || true; }
active() { on "$1" systemctl is-active "$unit" 2>/dev/null || true; }
is_active() { [[ $(active "$1") == "$2" ]]; }
# Reads both properties at once: the process may end between two queries.
started_after() {
    local now
    now=" $(on "$2" systemctl show "$unit" --property ActiveState,MainPID | xargs) "
    [[ $now == *" ActiveState=active "* && $now != *" MainPID=$1 "* && $now != *" MainPID=0 "* ]]
}

# The running program is the installed file, not one that an upgrade has replaced.
runs_installed_program() {
    # shellcheck disable=SC2016 # expanded on the board
    on "$1" bash -c '[[ $(stat -Lc %d:%i "/proc/$1/exe") == $(stat -c %d:%i /usr/bin/cellsync-node) ]]' - "$(property "$1" MainPID)"
}

package_version() { on "$1" dpkg-query --show --showformat "\${Version}" "$2" 2>/dev/null || true; }

# apt BOARD ARGUMENT...: runs apt-get. Its output is in BOARD.out, and printed only if it fails.
apt() {
    local board=$1
    shift
    on "$board" env DEBIAN_FRONTEND=noninteractive apt-get --yes --quiet -o Dpkg::Use-Pty=0 "$@" \
        >"$boards_folder/$board.out" 2>&1 ||
        fail "apt-get $* on $board"$'\n'"$(tail -n 20 "$boards_folder/$board.out")"
}

# Lists the files on a board's disk that were added to its base root, or changed.
changes() {
    local kind path
    find "$boards_folder/$1/upper" -mindepth 1 ! -type c -printf '%y %P\n' | while read -r kind path; do
        [[ $kind == d && -d $boards_base/$path ]] || printf '/%s\n' "$path"
    done | sort
}

# Paths that apt, dpkg and systemd change for any package.
system_paths='/var/(lib/(dpkg|apt|systemd/(timers|random-seed|catalog))|cache/(apt|debconf|man|ldconfig)|log|tmp/systemd-private-[^/]*)(/.*)?|/etc/ld.so.cache'
user_paths='/etc/(passwd|group|shadow|gshadow)-?|/etc/\.pwd\.lock'
cell_paths="$data(/.*)?"

# -- the steps
# -----------------------------------------------------------------------------------------------------------

find_packages() {
    local name found
    for name in node client; do
        found=("$packages"/cellsync-"$name"_*_"$architecture".deb)
        [[ ${#found[@]} == 1 && -f ${found[0]} ]] ||
            { echo "expected one package cellsync-$name for $architecture in $packages; build it with packaging/build.sh" >&2; exit 1; }
    done
    version=$(dpkg-deb --field "$packages"/cellsync-node_*_"$architecture".deb Version)
}

# repack VERSION [EDIT]: repacks both packages as VERSION. The shell command EDIT runs in the unpacked cellsync-node.
repack() {
    local name tree=$boards_folder/repack
    for name in node client; do
        rm -rf "$tree"
        dpkg-deb --raw-extract "$packages"/cellsync-"$name"_*_"$architecture".deb "$tree"
        sed -i "s/^Version: .*/Version: $1/" "$tree/DEBIAN/control"
        [[ $name != node ]] || (cd "$tree" && eval "${2:-}")
        dpkg-deb --root-owner-group -Zgzip -z1 --build "$tree" "$boards_folder/cellsync-${name}_${1}_$architecture.deb" >/dev/null
    done
}

publish() { GNUPGHOME=$key_folder "$here/apt/repository.sh" "$boards_folder/web" "$@" >/dev/null; }

make_repository() {
    # Not below $boards_folder: the path of gpg-agent's socket would be too long.
    key_folder=$(mktemp -d)
    # The version to upgrade to; published later.
    after=$version+after
    repack "$after"
    if [[ $previous ]]; then
        cp "$previous"/cellsync-{node,client}_*_"$architecture".deb "$boards_folder/"
        before=$(dpkg-deb --field "$previous"/cellsync-node_*_"$architecture".deb Version)
    else
        before=$version~before
        # With another node.toml, so that the upgrade must replace it.
        repack "$before" "echo '# Previous version.' >>.$config"
    fi
    publish "$packages"/cellsync-{node,client}_*_"$architecture".deb "$boards_folder"/cellsync-{node,client}_"${before}_$architecture.deb"

    setpriv --pdeathsig KILL nsenter --net="/proc/$boards_switch/ns/net" -- \
        python3 -m http.server --bind "$switch_address" --directory "$boards_folder/web" 80 &>"$boards_folder/web.log" &
    web_server=$!
    soon 10 "the web server answers" on_the_wire curl --silent --output /dev/null "http://$switch_address/"
}

fresh_boards() {
    boards_new "${cells[@]}" laptop
    switch_on "${cells[@]}" laptop
    changes board1 >"$boards_folder/fresh"
}

# setup_commands PACKAGE: prints the user's commands from apt/README.md, with the address of the test's web server.
setup_commands() {
    local lines
    lines=$(sed -n '/^sudo curl/,/^```/p' "$here/apt/README.md" | sed "/^\`\`\`/d; s|https://example.org/cellsync|http://$switch_address|g")
    same "the number of commands in apt/README.md" 3 "$(wc -l <<<"$lines")"
    same "the commands in README.md" "$lines" "$(sed -n '/^sudo curl/,/^```/p' "$here/../README.md" |
        sed "/^\`\`\`/d; s|http://192.168.1.10:8000|http://$switch_address|g")"
    # A minimal system has no sudo, and root needs none.
    printf 'set -e\nsudo() { "$@"; }\n%s\n' "${lines//cellsync-node/$1}"
}

run_setup_commands() {
    on "$2" bash -c "$(setup_commands "$1")" >"$boards_folder/$2.out" 2>&1 ||
        fail "the commands of apt/README.md on $2"$'\n'"$(tail -n 20 "$boards_folder/$2.out")"
}

tampered_repository() {
    cp -a "$boards_folder/web" "$boards_folder/changed"
    mv "$boards_folder/changed" "$boards_folder/web/changed"
    local lines
    lines=$(setup_commands cellsync-client)
    lines=${lines//http:\/\/$switch_address/http:\/\/$switch_address\/changed}

    sed -i 's/^Label: .*/Label: Other/' "$boards_folder/web/changed/dists/stable/InRelease"
    must_not "apt refuses an index that was changed" on laptop bash -c "$lines"
    cp "$boards_folder"/web/{,changed/}dists/stable/InRelease

    local deb
    for deb in "$boards_folder"/web/changed/pool/*.deb; do
        printf x | dd of="$deb" bs=1 seek=1000 conv=notrunc status=none
    done
    must_not "apt refuses a package that was changed" on laptop bash -c "$lines"
    rm -r "$boards_folder/web/changed"
    same "the version on the laptop" "" "$(package_version laptop cellsync-client)"
}

install_one() {
    run_setup_commands cellsync-node "$1"
    same "the version on $1" "$version" "$(package_version "$1" cellsync-node)"
    runs_well "$1"
}

# One board has the previous version, for the upgrade.
install_previous() {
    run_setup_commands "cellsync-node=$before" "$1"
    same "the version on $1" "$before" "$(package_version "$1" cellsync-node)"
    runs_well "$1"
}

runs_well() {
    same "the unit on $1" enabled "$(enabled "$1")"
    soon 15 "the service on $1 is active" is_active "$1" active
    same "the state of $1" running "$(on "$1" systemctl is-system-running)"
    must "the cell on $1 answers" ask "$1" node_id
    must "the installed program runs on $1" runs_installed_program "$1"
}

install_on_five() {
    in_parallel "${cells[@]:0:4}" -- install_one &
    local four=$!
    install_previous board5
    wait "$four"
    local board
    for board in "${cells[@]}"; do
        cell_id[$board]=$(ask "$board" node_id)
    done
    same "the number of different cells" 5 "$(printf '%s\n' "${cell_id[@]}" | sort -u | wc -l)"
    must "the packages are fetched over HTTP" grep -q "GET /pool/cellsync-node_.* 200 " "$boards_folder/web.log"
}

runs_unprivileged() {
    local pid
    pid=$(property board1 MainPID)
    same "the user of the process" cellsync "$(on board1 stat -c %U "/proc/$pid")"
    must "the process has no capability" on board1 grep -q '^CapBnd:[[:space:]]*0*$' "/proc/$pid/status"
    must "the process cannot gain privileges" on board1 grep -q '^NoNewPrivs:[[:space:]]*1$' "/proc/$pid/status"
    same "files in $data with another owner" "" "$(on board1 find "$data" ! -user cellsync)"
    must_not "other users can list $data" on board1 setpriv --reuid nobody --clear-groups ls "$data"
    must_not "the user can log in" on board1 runuser -l cellsync -c true
    note "resident memory $(on board1 grep '^VmRSS' "/proc/$pid/status" | tr -dc 0-9) KiB," \
        "package $(($(stat -c %s "$packages"/cellsync-node_*_"$architecture".deb) / 1024)) KiB," \
        "installed $(dpkg-deb --field "$packages"/cellsync-node_*_"$architecture".deb Installed-Size) KiB"
}

no_other_files() {
    local allowed="$system_paths|$user_paths|$cell_paths|/etc/apt/(keyrings/cellsync.gpg|sources.list.d/cellsync.list)"
    # Debian's records of an enabled unit.
    allowed+="|/etc/systemd/system/multi-user.target.wants/$unit|/var/lib/systemd/deb-systemd-helper-enabled(/.*)?"
    on board1 dpkg --listfiles cellsync-node | sed 's|^/lib/|/usr/lib/|' | sort >"$boards_folder/owned"
    same "new files that no package owns" "" "$(changes board1 | comm -23 - "$boards_folder/fresh" | comm -23 - "$boards_folder/owned" |
        grep -vxE "$allowed" || true)"
    same "the new user" cellsync "$(on board1 cat /etc/passwd | grep -vxFf "$boards_base/etc/passwd" | cut -d : -f 1)"
}

forms_colony() {
    local board
    for board in "${cells[@]}"; do
        soon 30 "$board counts five active cells" counts_cells 5 "$board"
    done
}

stores_and_restores() {
    run_setup_commands cellsync-client laptop
    # One part is compressible, the other is not.
    on laptop bash -c 'cd /root && { head -c 3M /dev/urandom; seq 400000; } >album && cp album album.copy'
    must "the client finds the five cells" on laptop bash -c 'cellsync status | grep -qx "5 cells, 5 active"'
    must "cellsync-put succeeds" on laptop cellsync-put /root/album
    restores
    must "the colony has five copies of each chunk" on laptop cellsync check --deep /root/album.manifest
    chunks=$(on laptop cellsync check --json /root/album.manifest | python3 -c 'import json, sys; print(len(json.load(sys.stdin)["chunks"]))')
    ((chunks >= 5)) || fail "the file has $chunks chunks"
    local board
    for board in "${cells[@]}"; do
        soon 10 "$board has all $chunks chunks" has_chunks "$chunks" "$board"
    done
}

restores() {
    on laptop rm -f /root/album
    must "cellsync-get succeeds" on laptop cellsync-get /root/album.manifest
    must "the restored file is the original" on laptop cmp /root/album /root/album.copy
}

client_files() {
    local program
    must "the man page of client.toml documents a setting" on laptop bash -c "man cellsync-client.toml | grep -q CELLSYNC_NODE"
    for program in cellsync cellsync-put cellsync-get; do
        must "$program prints its version" on laptop "$program" --version
        same "the man page of $program" "/usr/share/man/man1/$program.1.gz" "$(on laptop man --where "$program" 2>&1)"
        must "the man page of $program documents an option" on laptop bash -c "man $program | grep -q -e --version"
        must "bash completes $program" on laptop bash -c ". /usr/share/bash-completion/completions/$program && complete -p $program"
        must "zsh completes $program" on laptop grep -q "^#compdef.*$program" "/usr/share/zsh/vendor-completions/_$program"
        must "fish completes $program" on laptop grep -q -e "-c $program" "/usr/share/fish/vendor_completions.d/$program.fish"
    done
}

unit_is_hardened() {
    local output
    must "the exposure score of the service is at most 1.5" on board1 systemd-analyze --no-pager --threshold=15 security "$unit"
    output=$(on board1 systemd-analyze verify "$unit" 2>&1) || fail "systemd-analyze verify: $output"
    same "the warnings of systemd-analyze verify" "" "$output"
    must "the daemon has a man page" on board1 man --where 8 cellsync-node
    note "$(on board1 systemd-analyze --no-pager security "$unit" | tail -n 1 | sed 's/^[^O]*//')"
}

restarts_after_kill() {
    local pid
    pid=$(property board1 MainPID)
    on board1 systemctl kill --signal KILL "$unit"
    soon 30 "systemd starts the cell again" started_after "$pid" board1
    soon 10 "the same cell answers" answers_as "${cell_id[board1]}" board1
    same "the number of restarts" 1 "$(property board1 NRestarts)"
}

# Stops the process of a cell. `watchdog_restarted` waits for the watchdog, while other steps run.
hang() {
    watchdog=$(on board2 busctl get-property org.freedesktop.systemd1 /org/freedesktop/systemd1/unit/cellsync_2eservice \
        org.freedesktop.systemd1.Service WatchdogUSec)
    watchdog=$((${watchdog#t } / 1000000))
    ((watchdog > 0 && watchdog <= 120)) || fail "WatchdogSec of the unit is $watchdog s"
    hung_pid=$(property board2 MainPID)
    hung_since=$SECONDS
    on board2 systemctl kill --kill-whom main --signal STOP "$unit"
    must_not "a stopped cell answers" ask board2 node_id
}

watchdog_restarted() {
    soon $((watchdog + 30 - (SECONDS - hung_since))) "the watchdog restarts the cell" started_after "$hung_pid" board2
    soon 10 "the same cell answers" answers_as "${cell_id[board2]}" board2
    must "the journal names the watchdog" on board2 bash -c "journalctl --unit $unit | grep -qi watchdog"
}

# A power cut on one board, and a shutdown of another.
boards_reboot() {
    pull_the_plug board3
    power_off board4
    switch_on board3 board4
    local board
    for board in board3 board4; do
        soon 30 "the same cell answers on $board" answers_as "${cell_id[$board]}" "$board"
        soon 10 "$board has all its chunks" has_chunks "$chunks" "$board"
        same "the state of $board" running "$(on "$board" systemctl is-system-running)"
    done
    must "the service on board4 stopped cleanly" on board4 bash -c "journalctl --boot -1 --unit $unit | grep -q 'Deactivated successfully'"
}

power_cut_everywhere() {
    local board
    for board in "${cells[@]}"; do
        pull_the_plug "$board"
    done
    switch_on "${cells[@]}"
    for board in "${cells[@]}"; do
        soon 30 "the same cell answers on $board" answers_as "${cell_id[$board]}" "$board"
    done
    forms_colony
    restores
}

upgrade() {
    apt "$1" update
    apt "$1" upgrade
}

upgrade_previous() {
    local pid
    must "the settings of the previous version are unchanged" on board5 dpkg --verify cellsync-node
    pid=$(property board5 MainPID)
    upgrade board5
    same "the version" "$version" "$(package_version board5 cellsync-node)"
    must "the settings are replaced by those of the new version" on board5 dpkg --verify cellsync-node
    must "the new program runs" runs_installed_program board5
    must "the service was restarted" started_after "$pid" board5
    same "the unit" enabled "$(enabled board5)"
    soon 10 "the same cell answers" answers_as "${cell_id[board5]}" board5
    soon 10 "board5 has all its chunks" has_chunks "$chunks" board5
}

upgrade_keeps_admin_changes() {
    local board settings pid
    on board1 bash -c "printf '# mine\nreserve = \"512 MiB\"\n' >>$config"
    settings=$(on board1 sha256sum "$config")
    on board2 systemctl stop "$unit"
    on board3 systemctl --quiet disable --now "$unit"
    on board4 systemctl --quiet mask --now "$unit"
    pid=$(property board1 MainPID)

    publish "$boards_folder"/cellsync-{node,client}_"${after}_$architecture.deb"
    in_parallel "${cells[@]:0:4}" -- upgrade
    for board in "${cells[@]:0:4}"; do
        same "the version on $board" "$after" "$(package_version "$board" cellsync-node)"
    done

    same "the edited settings" "$settings" "$(on board1 sha256sum "$config")"
    must "the running service is restarted" started_after "$pid" board1
    must "the new program runs" runs_installed_program board1
    same "the stopped service" enabled,inactive "$(enabled board2),$(active board2)"
    same "the disabled service" disabled,inactive "$(enabled board3),$(active board3)"
    same "the masked service" masked,inactive "$(enabled board4),$(active board4)"

    on board2 systemctl start "$unit"
    on board3 systemctl --quiet enable --now "$unit"
    on board4 systemctl --quiet unmask "$unit"
    on board4 systemctl start "$unit"
    for board in "${cells[@]:0:4}"; do
        soon 10 "the same cell answers on $board" answers_as "${cell_id[$board]}" "$board"
        soon 10 "$board has all its chunks" has_chunks "$chunks" "$board"
    done
}

cell_processes() { on "$1" find /proc -maxdepth 1 -user cellsync -printf '%P '; }

reinstall() {
    apt board4 remove cellsync-node
    same "the service" inactive "$(active board4)"
    same "the processes that are left" "" "$(cell_processes board4)"
    must "the settings are kept" on board4 test -f "$config"
    must "the data is kept" on board4 test -f "$data/cellsync.cell"
    must_not "the program is still installed" on board4 test -e /usr/bin/cellsync-node
    apt board4 install cellsync-node
    runs_well board4
    same "the cell" "${cell_id[board4]}" "$(ask board4 node_id)"
    soon 10 "board4 has all its chunks" has_chunks "$chunks" board4
}

purge() {
    local output
    apt board4 purge cellsync-node
    same "the processes that are left" "" "$(cell_processes board4)"
    must "the data is kept" on board4 test -f "$data/cellsync.cell"
    # The board is as it was before the installation, except for the repository's key and source.
    same "the remaining files" "" "$(changes board4 | comm -23 - "$boards_folder/fresh" |
        grep -vxE "$system_paths|$user_paths|$cell_paths|/etc/apt/(keyrings/cellsync.gpg|sources.list.d/cellsync.list)" || true)"
    same "the version in dpkg" "" "$(package_version board4 cellsync-node)"
    output=$(sed -n 's/^ *\(rm -r .*\)/\1/p' "$boards_folder/board4.out")
    [[ $output == *"$data"* ]] || fail "apt purge does not print how to delete $data"
    must "the printed command succeeds: $output" on board4 bash -ec "$output"
    must_not "the data still exists" on board4 test -e "$data"
    must_not "the user still exists" on board4 id cellsync
}

# Follows other-disk.conf step by step.
move_to_other_disk() {
    local example disk folder commands
    example=$(on board5 find /usr/share/doc/cellsync-node -name other-disk.conf)
    [[ $example ]] || fail "the package has no example other-disk.conf"
    disk=$(on board5 sed -n 's/^RequiresMountsFor=//p' "$example")
    folder=$(on board5 sed -n 's/^ReadWritePaths=//p' "$example")
    # A bind mount stands for the disk. Everything else follows the example.
    on board5 bash -c "mkdir /disk; echo '/disk $disk none bind,nofail 0 0' >>/etc/fstab"
    # The commands are the most indented lines, except for the line of fstab and the setting.
    commands=$(on board5 sed -n 's/^#          \([a-z].*\)/\1/p' "$example" | grep -v '^data = ')
    must "the commands that mount the disk and move the cell succeed" on board5 bash -ec "$(sed -n '1,3p' <<<"$commands")"
    on board5 bash -c "echo 'data = \"$folder\"' >>$config"
    on board5 install -D -m 0644 "$example" /etc/systemd/system/cellsync.service.d/other-disk.conf
    must "the commands that start the cell succeed" on board5 bash -ec "$(sed -n '4,6p' <<<"$commands")"
    soon 10 "the same cell answers" answers_as "${cell_id[board5]}" board5
    soon 10 "board5 has all its chunks" has_chunks "$chunks" board5
    must "the cell is on the disk" on board5 test -f "/disk/${folder#"$disk"}/cellsync.cell"
    must "the command that deletes the old folder succeeds" on board5 bash -ec "$(sed -n '7p' <<<"$commands")"
    same "the number of commands in the example" 7 "$(wc -l <<<"$commands")"
    on board5 systemctl restart "$unit"
    soon 10 "the cell restarts without the old folder" answers_as "${cell_id[board5]}" board5
    disk_folder=$folder disk_mount=$disk
}

start_without_disk() {
    # A file in its place, because systemd creates the missing source folder of a bind mount.
    on board5 bash -c 'mv /disk /disk.away; touch /disk'
    power_off board5
    switch_on board5
    same "the service without its disk" inactive "$(active board5)"
    must_not "the service starts without its disk" on board5 systemctl start "$unit"
    same "the files below the mount point" "" "$(on board5 find "$disk_mount" -mindepth 1)"

    # Without the line in fstab, the missing marker stops the cell.
    on board5 sed -i '\|^/disk |d' /etc/fstab
    on board5 install -d -o cellsync "$disk_folder"
    on board5 systemctl daemon-reload
    on board5 systemctl start --no-block "$unit"
    soon 20 "the journal reports the missing marker" reports_missing_marker
    same "the files below the mount point" "$disk_folder" "$(on board5 find "$disk_mount" -mindepth 1)"
    on board5 systemctl stop "$unit"
    on board5 rmdir "$disk_folder"

    on board5 bash -c "rm /disk; mv /disk.away /disk; echo '/disk $disk_mount none bind,nofail 0 0' >>/etc/fstab; systemctl daemon-reload"
    on board5 systemctl start "$(on board5 systemd-escape --path --suffix=mount "$disk_mount")"
    soon 15 "the cell starts when the disk is mounted" answers_as "${cell_id[board5]}" board5
}

# The disk of a board whose SD card has died, in a new system where the user has another uid.
disk_of_another_system() {
    on board4 systemctl stop "$unit"
    apt board4 purge cellsync-node
    on board4 chown -R 4242:4242 "$data"
    apt board4 install cellsync-node
    runs_well board4
    same "the cell" "${cell_id[board4]}" "$(ask board4 node_id)"
    soon 10 "board4 has all its chunks" has_chunks "$chunks" board4
    # The client asks board4 for the other cells: a cell that board4 has not seen yet would get no copy.
    soon 30 "board4 counts five active cells" counts_cells 5 board4
    must "board4 accepts new chunks" on laptop bash -c "head -c 100k /dev/urandom | cellsync-put --node $(board_address board4):8080 --copies 5 - -o more.manifest"
    chunks=$((chunks + 1))
    soon 10 "board4 has the new chunk too" has_chunks "$chunks" board4
}

# A new cell must not be created below the mount point of a disk that is not mounted.
install_without_disk() {
    # A file in its place, because systemd creates the missing source folder of a bind mount.
    on board4 bash -c "rm -rf $data; mkdir $data; touch /disk; echo '/disk $data none bind,nofail 0 0' >>/etc/fstab; systemctl daemon-reload"
    apt board4 install cellsync-node
    same "the files below the mount point" "" "$(on board4 find "$data" -mindepth 1)"
    must "the package prints why" grep -q "$data is not mounted" "$boards_folder/board4.out"
    same "the service" inactive "$(active board4)"
    apt board4 purge cellsync-node
}

reports_missing_marker() { on board5 bash -c "journalctl --boot --unit $unit --output cat | grep -q -e --init"; }

find_packages
if [[ $architecture != "$(dpkg --print-architecture)" ]]; then
    emulated
    exit
fi
boards_begin
trap finish EXIT
steps_begin
type gpg python3 &>/dev/null || boards_cannot "missing; try: apt-get install gpg python3"

step "a base root exists" boards_root
step "six boards boot" fresh_boards
step "the packages form a signed repository" make_repository
step "apt refuses a tampered repository" tampered_repository
step "five boards install a cell, which starts" install_on_five
step "the cell has its own user without privileges" runs_unprivileged
step "the package creates no other files" no_other_files
step "the five cells find each other" forms_colony
step "a laptop finds them, stores a file and restores it" stores_and_restores
step "a cell hangs" hang
step "the man pages and completions of the client work" client_files
step "the unit is valid and hardened" unit_is_hardened
step "a killed cell restarts" restarts_after_kill
step "boards return after a power cut and after a shutdown" boards_reboot
step "the watchdog restarts the hung cell" watchdog_restarted
step "the colony survives a power cut of all boards" power_cut_everywhere
step "an upgrade keeps data and service, and replaces unchanged settings" upgrade_previous
step "an upgrade keeps the administrator's changes" upgrade_keeps_admin_changes
step "a package that is removed and installed again is the same cell" reinstall
step "a disk from another system continues as the same cell" disk_of_another_system
step "a purge keeps only the data" purge
step "no cell is created while its disk is not mounted" install_without_disk
step "a cell moves to another disk" move_to_other_disk
step "without its disk a cell does not start and writes nothing" start_without_disk
printf 'all steps passed in %s s\n' "$SECONDS"
