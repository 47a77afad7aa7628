#!/bin/bash
# test-install.sh [--packages DIR] [--previous DIR] [--arch ARCH]: installs the packages as a user does, and looks.
#
# Five boards, each with a systemd of its own, and a laptop take them with apt from a signed repository over HTTP. DIR is
# target/packages unless it is given; the packages that are upgraded are those in --previous, or the same ones as a lower
# version. Needs root, and: apt-get install debootstrap iproute2 gpg python3. Ends with 77 where it cannot run.
#
# With the ARCH of another kind of machine it is one emulated board, and less that is looked at: test/emulated.sh.
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

# -- what is looked at ---------------------------------------------------------------------------------------------------

# A field of what a cell says of itself.
ask() {
    on "$1" curl --silent --fail --max-time 5 http://127.0.0.1:8080/status |
        python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$2"
}

answers_as() { [[ $(ask "$2" node_id 2>/dev/null) == "$1" ]]; }
has_chunks() { [[ $(ask "$2" chunks 2>/dev/null) == "$1" ]]; }
hears() { [[ $(ask "$2" cells 2>/dev/null) == "$1" ]]; }

property() { on "$1" systemctl show "$unit" --property "$2" --value; }
enabled() { on "$1" systemctl is-enabled "$unit" 2>/dev/null || true; }
active() { on "$1" systemctl is-active "$unit" 2>/dev/null || true; }
is_active() { [[ $(active "$1") == "$2" ]]; }
# Asked for both at once: between two questions it may end.
started_after() {
    local now
    now=" $(on "$2" systemctl show "$unit" --property ActiveState,MainPID | xargs) "
    [[ $now == *" ActiveState=active "* && $now != *" MainPID=$1 "* && $now != *" MainPID=0 "* ]]
}

# The program that runs is the one that is installed, not one that was replaced under it.
runs_what_is_installed() {
    # shellcheck disable=SC2016 # expanded on the board
    on "$1" bash -c '[[ $(stat -Lc %d:%i "/proc/$1/exe") == $(stat -c %d:%i /usr/bin/cellsync-node) ]]' - "$(property "$1" MainPID)"
}

package_version() { on "$1" dpkg-query --show --showformat "\${Version}" "$2" 2>/dev/null || true; }

# Says nothing unless it fails; what apt said is kept in BOARD.said.
apt() {
    local board=$1
    shift
    on "$board" env DEBIAN_FRONTEND=noninteractive apt-get --yes --quiet -o Dpkg::Use-Pty=0 "$@" \
        >"$boards_folder/$board.said" 2>&1 ||
        fail "apt-get $* on $board"$'\n'"$(tail -n 20 "$boards_folder/$board.said")"
}

# Files in the disk of a board that are not in the root it began with, or not as they were there.
changes() {
    local kind path
    find "$boards_folder/$1/upper" -mindepth 1 ! -type c -printf '%y %P\n' | while read -r kind path; do
        [[ $kind == d && -d $boards_base/$path ]] || printf '/%s\n' "$path"
    done | sort
}

# What apt, dpkg and systemd note about any package.
of_the_system='/var/(lib/(dpkg|apt|systemd/(timers|random-seed|catalog))|cache/(apt|debconf|man|ldconfig)|log|tmp/systemd-private-[^/]*)(/.*)?|/etc/ld.so.cache'
of_the_user='/etc/(passwd|group|shadow|gshadow)-?|/etc/\.pwd\.lock'
of_the_cell="$data(/.*)?"

# -- the steps -----------------------------------------------------------------------------------------------------------

find_packages() {
    local name found
    for name in node client; do
        found=("$packages"/cellsync-"$name"_*_"$architecture".deb)
        [[ ${#found[@]} == 1 && -f ${found[0]} ]] ||
            { echo "not one cellsync-$name for $architecture in $packages; packaging/build.sh makes it" >&2; exit 1; }
    done
    version=$(dpkg-deb --field "$packages"/cellsync-node_*_"$architecture".deb Version)
}

# repack VERSION [EDIT]: our packages as another version, after a shell command in the unpacked cellsync-node.
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

a_repository() {
    # Not on the long path of this folder: a socket must fit in.
    key_folder=$(mktemp -d)
    # Published later; made while there is nothing to wait for.
    after=$version+after
    repack "$after"
    if [[ $previous ]]; then
        cp "$previous"/cellsync-{node,client}_*_"$architecture".deb "$boards_folder/"
        before=$(dpkg-deb --field "$previous"/cellsync-node_*_"$architecture".deb Version)
    else
        before=$version~before
        # Other settings than today's, so that the upgrade has to change the file.
        repack "$before" "echo '# Of the version before.' >>.$config"
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

# What apt/README.md tells the user to type, with the address of our web server.
three_lines() {
    local lines
    lines=$(sed -n '/^sudo curl/,/^```/p' "$here/apt/README.md" | sed "/^\`\`\`/d; s|https://example.org/cellsync|http://$switch_address|g")
    same "the number of lines to type" 3 "$(wc -l <<<"$lines")"
    same "what the first README says to type" "$lines" "$(sed -n '/^sudo curl/,/^```/p' "$here/../README.md" |
        sed "/^\`\`\`/d; s|http://192.168.1.10:8000|http://$switch_address|g")"
    # A minimal system has no sudo, and root needs none.
    printf 'set -e\nsudo() { "$@"; }\n%s\n' "${lines//cellsync-node/$1}"
}

type_three_lines() {
    on "$2" bash -c "$(three_lines "$1")" >"$boards_folder/$2.said" 2>&1 ||
        fail "the three lines on $2"$'\n'"$(tail -n 20 "$boards_folder/$2.said")"
}

changed_on_the_way() {
    cp -a "$boards_folder/web" "$boards_folder/changed"
    mv "$boards_folder/changed" "$boards_folder/web/changed"
    local lines
    lines=$(three_lines cellsync-client)
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
    type_three_lines cellsync-node "$1"
    same "the version on $1" "$version" "$(package_version "$1" cellsync-node)"
    runs_well "$1"
}

# The last board has been there for longer.
install_the_one_before() {
    type_three_lines "cellsync-node=$before" "$1"
    same "the version on $1" "$before" "$(package_version "$1" cellsync-node)"
    runs_well "$1"
}

runs_well() {
    same "the unit on $1" enabled "$(enabled "$1")"
    soon 15 "the service on $1 is active" is_active "$1" active
    same "the state of $1" running "$(on "$1" systemctl is-system-running)"
    must "the cell on $1 answers" ask "$1" node_id
    must "what runs on $1 is what is installed" runs_what_is_installed "$1"
}

install_on_five() {
    together "${cells[@]:0:4}" -- install_one &
    local four=$!
    install_the_one_before board5
    wait "$four"
    local board
    for board in "${cells[@]}"; do
        cell_id[$board]=$(ask "$board" node_id)
    done
    same "the number of different cells" 5 "$(printf '%s\n' "${cell_id[@]}" | sort -u | wc -l)"
    must "packages came over HTTP" grep -q "GET /pool/cellsync-node_.* 200 " "$boards_folder/web.log"
}

its_own_user() {
    local pid
    pid=$(property board1 MainPID)
    same "the user of the process" cellsync "$(on board1 stat -c %U "/proc/$pid")"
    must "the process has no capability" on board1 grep -q '^CapBnd:[[:space:]]*0*$' "/proc/$pid/status"
    must "the process can get no more" on board1 grep -q '^NoNewPrivs:[[:space:]]*1$' "/proc/$pid/status"
    same "what others own in $data" "" "$(on board1 find "$data" ! -user cellsync)"
    must_not "others can look into $data" on board1 setpriv --reuid nobody --clear-groups ls "$data"
    must_not "the user can log in" on board1 runuser -l cellsync -c true
    note "resident memory $(on board1 grep '^VmRSS' "/proc/$pid/status" | tr -dc 0-9) KiB," \
        "package $(($(stat -c %s "$packages"/cellsync-node_*_"$architecture".deb) / 1024)) KiB," \
        "installed $(dpkg-deb --field "$packages"/cellsync-node_*_"$architecture".deb Installed-Size) KiB"
}

nothing_elsewhere() {
    local allowed="$of_the_system|$of_the_user|$of_the_cell|/etc/apt/(keyrings/cellsync.gpg|sources.list.d/cellsync.list)"
    # How Debian notes that a unit is enabled.
    allowed+="|/etc/systemd/system/multi-user.target.wants/$unit|/var/lib/systemd/deb-systemd-helper-enabled(/.*)?"
    on board1 dpkg --listfiles cellsync-node | sed 's|^/lib/|/usr/lib/|' | sort >"$boards_folder/owned"
    same "what is there and no package owns" "" "$(changes board1 | comm -23 - "$boards_folder/fresh" | comm -23 - "$boards_folder/owned" |
        grep -vxE "$allowed" || true)"
    same "the new user" cellsync "$(on board1 cat /etc/passwd | grep -vxFf "$boards_base/etc/passwd" | cut -d : -f 1)"
}

a_colony() {
    local board
    for board in "${cells[@]}"; do
        soon 30 "$board hears all five" hears 5 "$board"
    done
}

laptop_stores() {
    type_three_lines cellsync-client laptop
    # Half of it can be compressed, half cannot.
    on laptop bash -c 'cd /root && { head -c 3M /dev/urandom; seq 400000; } >album && cp album album.copy'
    must "the client finds the five cells" on laptop bash -c 'cellsync status | grep -qx "5 cells, 5 active"'
    must "put" on laptop cellsync-put /root/album
    comes_back
    must "the colony has five copies of each chunk" on laptop cellsync check --deep /root/album.manifest
    chunks=$(on laptop cellsync check --json /root/album.manifest | python3 -c 'import json, sys; print(len(json.load(sys.stdin)["chunks"]))')
    ((chunks >= 5)) || fail "the file has $chunks chunks"
    local board
    for board in "${cells[@]}"; do
        soon 10 "$board has all $chunks chunks" has_chunks "$chunks" "$board"
    done
}

comes_back() {
    on laptop rm -f /root/album
    must "get" on laptop cellsync-get /root/album.manifest
    must "it is what was stored" on laptop cmp /root/album /root/album.copy
}

programs_of_the_client() {
    local program
    for program in cellsync cellsync-put cellsync-get; do
        must "$program says its version" on laptop "$program" --version
        same "the man page of $program" "/usr/share/man/man1/$program.1.gz" "$(on laptop man --where "$program" 2>&1)"
        must "the man page of $program names an option" on laptop bash -c "man $program | grep -q -e --version"
        must "bash completes $program" on laptop bash -c ". /usr/share/bash-completion/completions/$program && complete -p $program"
        must "zsh completes $program" on laptop grep -q "^#compdef.*$program" "/usr/share/zsh/vendor-completions/_$program"
        must "fish completes $program" on laptop grep -q -e "-c $program" "/usr/share/fish/vendor_completions.d/$program.fish"
    done
}

unit_is_sound() {
    local said
    must "the exposure of the service is 1.5 or better" on board1 systemd-analyze --no-pager --threshold=15 security "$unit"
    said=$(on board1 systemd-analyze verify "$unit" 2>&1) || fail "systemd-analyze verify: $said"
    same "what systemd-analyze verify finds" "" "$said"
    must "the daemon has its man page" on board1 man --where 8 cellsync-node
    note "$(on board1 systemd-analyze --no-pager security "$unit" | tail -n 1 | sed 's/^[^O]*//')"
}

killed() {
    local pid
    pid=$(property board1 MainPID)
    on board1 systemctl kill --signal KILL "$unit"
    soon 30 "systemd starts the cell again" started_after "$pid" board1
    soon 10 "the same cell answers" answers_as "${cell_id[board1]}" board1
    same "the number of restarts" 1 "$(property board1 NRestarts)"
}

# A cell hangs from here on; the watchdog has time until `hung_was_found`.
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

hung_was_found() {
    soon $((watchdog + 30 - (SECONDS - hung_since))) "the watchdog has the cell started again" started_after "$hung_pid" board2
    soon 10 "the same cell answers" answers_as "${cell_id[board2]}" board2
    must "the journal says why" on board2 bash -c "journalctl --unit $unit | grep -qi watchdog"
}

# One in good order, one not.
boards_come_back() {
    pull_the_plug board3
    power_off board4
    switch_on board3 board4
    local board
    for board in board3 board4; do
        soon 30 "the same cell is back on $board" answers_as "${cell_id[$board]}" "$board"
        soon 10 "$board has all its chunks" has_chunks "$chunks" "$board"
        same "the state of $board" running "$(on "$board" systemctl is-system-running)"
    done
    must "board4 went in good order" on board4 bash -c "journalctl --boot -1 --unit $unit | grep -q 'Deactivated successfully'"
}

house_in_the_dark() {
    local board
    for board in "${cells[@]}"; do
        pull_the_plug "$board"
    done
    switch_on "${cells[@]}"
    for board in "${cells[@]}"; do
        soon 30 "the same cell is back on $board" answers_as "${cell_id[$board]}" "$board"
    done
    a_colony
    comes_back
}

upgrade() {
    apt "$1" update
    apt "$1" upgrade
}

upgrade_from_before() {
    local pid
    must "the settings are as installed before" on board5 dpkg --verify cellsync-node
    pid=$(property board5 MainPID)
    upgrade board5
    same "the version" "$version" "$(package_version board5 cellsync-node)"
    must "the settings are those of the new version" on board5 dpkg --verify cellsync-node
    must "the new program runs" runs_what_is_installed board5
    must "the service was restarted" started_after "$pid" board5
    same "the unit" enabled "$(enabled board5)"
    soon 10 "the same cell answers" answers_as "${cell_id[board5]}" board5
    soon 10 "board5 has all its chunks" has_chunks "$chunks" board5
}

upgrade_keeps_what_the_admin_did() {
    local board settings pid
    on board1 bash -c "printf '# mine\nreserve = \"512 MiB\"\n' >>$config"
    settings=$(on board1 sha256sum "$config")
    on board2 systemctl stop "$unit"
    on board3 systemctl --quiet disable --now "$unit"
    on board4 systemctl --quiet mask --now "$unit"
    pid=$(property board1 MainPID)

    publish "$boards_folder"/cellsync-{node,client}_"${after}_$architecture.deb"
    together "${cells[@]:0:4}" -- upgrade
    for board in "${cells[@]:0:4}"; do
        same "the version on $board" "$after" "$(package_version "$board" cellsync-node)"
    done

    same "the settings that were edited" "$settings" "$(on board1 sha256sum "$config")"
    must "the service that ran was restarted" started_after "$pid" board1
    must "the new program runs" runs_what_is_installed board1
    same "the service that was stopped" enabled,inactive "$(enabled board2),$(active board2)"
    same "the service that was disabled" disabled,inactive "$(enabled board3),$(active board3)"
    same "the service that was masked" masked,inactive "$(enabled board4),$(active board4)"

    on board2 systemctl start "$unit"
    on board3 systemctl --quiet enable --now "$unit"
    on board4 systemctl --quiet unmask "$unit"
    on board4 systemctl start "$unit"
    for board in "${cells[@]:0:4}"; do
        soon 10 "the same cell answers on $board" answers_as "${cell_id[$board]}" "$board"
        soon 10 "$board has all its chunks" has_chunks "$chunks" "$board"
    done
}

processes_of_the_cell() { on "$1" find /proc -maxdepth 1 -user cellsync -printf '%P '; }

remove_and_install_again() {
    apt board4 remove cellsync-node
    same "the service" inactive "$(active board4)"
    same "the processes that are left" "" "$(processes_of_the_cell board4)"
    must "the settings are kept" on board4 test -f "$config"
    must "the data is kept" on board4 test -f "$data/cellsync.cell"
    must_not "the program is gone" on board4 test -e /usr/bin/cellsync-node
    apt board4 install cellsync-node
    runs_well board4
    same "the cell" "${cell_id[board4]}" "$(ask board4 node_id)"
    soon 10 "board4 has all its chunks" has_chunks "$chunks" board4
}

purge() {
    local said
    apt board4 purge cellsync-node
    same "the processes that are left" "" "$(processes_of_the_cell board4)"
    must "the data is kept" on board4 test -f "$data/cellsync.cell"
    # As on board1 before it had the package, but for the lines that the user typed.
    same "what is left" "" "$(changes board4 | comm -23 - "$boards_folder/fresh" |
        grep -vxE "$of_the_system|$of_the_user|$of_the_cell|/etc/apt/(keyrings/cellsync.gpg|sources.list.d/cellsync.list)" || true)"
    same "what dpkg remembers" "" "$(package_version board4 cellsync-node)"
    said=$(sed -n 's/^ *\(rm -r .*\)/\1/p' "$boards_folder/board4.said")
    [[ $said == *"$data"* ]] || fail "apt purge says how to delete $data"
    must "what it says can be done: $said" on board4 bash -ec "$said"
    must_not "the data is deleted" on board4 test -e "$data"
    must_not "the user is deleted" on board4 id cellsync
}

# The example of the package, step by step.
another_disk() {
    local example disk folder commands
    example=$(on board5 find /usr/share/doc/cellsync-node -name other-disk.conf)
    [[ $example ]] || fail "there is an example for a data folder on another disk"
    disk=$(on board5 sed -n 's/^RequiresMountsFor=//p' "$example")
    folder=$(on board5 sed -n 's/^ReadWritePaths=//p' "$example")
    # A folder elsewhere stands for the disk: it can be mounted, and be away. All else is as the example says.
    on board5 bash -c "mkdir /disk; echo '/disk $disk none bind,nofail 0 0' >>/etc/fstab"
    # Its commands are the lines that are indented furthest, but for the line in fstab and the setting.
    commands=$(on board5 sed -n 's/^#          \([a-z].*\)/\1/p' "$example" | grep -v '^data = ')
    must "the example mounts the disk and moves the cell" on board5 bash -ec "$(sed -n '1,3p' <<<"$commands")"
    on board5 bash -c "echo 'data = \"$folder\"' >>$config"
    on board5 install -D -m 0644 "$example" /etc/systemd/system/cellsync.service.d/other-disk.conf
    must "the example starts it there" on board5 bash -ec "$(sed -n '4,6p' <<<"$commands")"
    soon 10 "the same cell answers" answers_as "${cell_id[board5]}" board5
    soon 10 "board5 has all its chunks" has_chunks "$chunks" board5
    must "it is on the disk" on board5 test -f "/disk/${folder#"$disk"}/cellsync.cell"
    must "the example deletes the old folder" on board5 bash -ec "$(sed -n '7p' <<<"$commands")"
    same "the number of commands in the example" 7 "$(wc -l <<<"$commands")"
    on board5 systemctl restart "$unit"
    soon 10 "it needs the old folder no more" answers_as "${cell_id[board5]}" board5
    disk_folder=$folder disk_mount=$disk
}

without_the_disk() {
    # A file is in its place, or systemd would make the folder that it is to mount.
    on board5 bash -c 'mv /disk /disk.away; touch /disk'
    power_off board5
    switch_on board5
    same "the service without its disk" inactive "$(active board5)"
    must_not "it starts without its disk" on board5 systemctl start "$unit"
    same "what is below the mount point" "" "$(on board5 find "$disk_mount" -mindepth 1)"

    # Nobody has said that there should be a disk: then its marker is missed.
    on board5 sed -i '\|^/disk |d' /etc/fstab
    on board5 install -d -o cellsync "$disk_folder"
    on board5 systemctl daemon-reload
    on board5 systemctl start --no-block "$unit"
    soon 20 "the journal says what is missing" marker_is_missed
    same "what is below the mount point" "$disk_folder" "$(on board5 find "$disk_mount" -mindepth 1)"
    on board5 systemctl stop "$unit"
    on board5 rmdir "$disk_folder"

    on board5 bash -c "rm /disk; mv /disk.away /disk; echo '/disk $disk_mount none bind,nofail 0 0' >>/etc/fstab; systemctl daemon-reload"
    on board5 systemctl start "$(on board5 systemd-escape --path --suffix=mount "$disk_mount")"
    soon 15 "a disk that comes late brings the cell" answers_as "${cell_id[board5]}" board5
}

# A card has died. Its disk is in a new system, where the user has another number.
a_saved_disk() {
    on board4 systemctl stop "$unit"
    apt board4 purge cellsync-node
    on board4 chown -R 4242:4242 "$data"
    apt board4 install cellsync-node
    runs_well board4
    same "the cell" "${cell_id[board4]}" "$(ask board4 node_id)"
    soon 10 "board4 has all its chunks" has_chunks "$chunks" board4
    must "it takes new ones" on laptop bash -c "head -c 100k /dev/urandom | cellsync-put --node $(board_address board4):8080 --copies 5 - -o more.manifest"
    chunks=$((chunks + 1))
    soon 10 "board4 has the new one as well" has_chunks "$chunks" board4
}

# A cell that was told to be elsewhere must not begin anew on the card.
a_disk_that_is_awaited() {
    # A file is in its place, or systemd would make the folder that it is to mount.
    on board4 bash -c "rm -rf $data; mkdir $data; touch /disk; echo '/disk $data none bind,nofail 0 0' >>/etc/fstab; systemctl daemon-reload"
    apt board4 install cellsync-node
    same "what is below the mount point" "" "$(on board4 find "$data" -mindepth 1)"
    must "the user is told why" grep -q "$data is not mounted" "$boards_folder/board4.said"
    same "the service" inactive "$(active board4)"
    apt board4 purge cellsync-node
}

marker_is_missed() { on board5 bash -c "journalctl --boot --unit $unit --output cat | grep -q -e --init"; }

find_packages
if [[ $architecture != "$(dpkg --print-architecture)" ]]; then
    emulated
    exit
fi
boards_begin
trap finish EXIT
steps_begin
type gpg python3 &>/dev/null || boards_cannot "missing; try: apt-get install gpg python3"

step "there is a root to boot from" boards_root
step "six boards boot" fresh_boards
step "the packages make a signed repository" a_repository
step "apt refuses what was changed on the way" changed_on_the_way
step "five boards install a cell, and it starts by itself" install_on_five
step "the cell has a user of its own, and no rights" its_own_user
step "no file is anywhere else" nothing_elsewhere
step "the five find each other" a_colony
step "a laptop finds them, stores a file and gets it back" laptop_stores
step "a cell hangs" hang
step "the client's pages and completions are where they belong" programs_of_the_client
step "the unit is sound and confined" unit_is_sound
step "a cell that is killed starts again" killed
step "boards come back, after a power cut and after a shutdown" boards_come_back
step "the watchdog has found the cell that hung" hung_was_found
step "the house goes dark, and everything comes back" house_in_the_dark
step "an upgrade keeps data and service, and renews the settings" upgrade_from_before
step "an upgrade keeps what the admin did" upgrade_keeps_what_the_admin_did
step "a package removed and installed again is the same cell" remove_and_install_again
step "a disk saved from another system goes on as the same cell" a_saved_disk
step "a purge leaves nothing but the data" purge
step "no cell is made where a disk is awaited" a_disk_that_is_awaited
step "a cell moves to another disk" another_disk
step "without its disk a cell does not start, and writes nothing" without_the_disk
printf 'all of it in %s s\n' "$SECONDS"
