#!/bin/bash
# guest.sh FOLDER [CPU]: tests both packages from the apt repository FOLDER/web, as root in an emulated Debian. Installs
# them with the user's commands from FOLDER/README.md, runs the cell as one of five on the loopback interface, stores a
# file, kills cells, restores the file, and removes the packages.
#
# With systemd, the installed service is one of the five cells. Without it (when only programs are emulated), a cell is
# started on the service's data folder, and the programs run on the processor CPU.
set -Eeuo pipefail
folder=$1
cpu=${2:-}
current_step=start
trap 'echo "FAIL  $current_step, line $LINENO: $BASH_COMMAND"' ERR
# shellcheck disable=SC2034 # Read by the trap.
step() { printf 'ok    %s\n' "$1"; current_step="after: $1"; }
note() { printf '      %s\n' "$*"; }

await() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@" &>/dev/null; do
        if ((SECONDS >= deadline)); then return 1; fi
        sleep 0.5
    done
}

has_systemd() { [[ -d /run/systemd/system ]]; }
# Only the programs of the packages run on CPU. Debian's need a newer processor than the first Pi's.
packaged() { env ${cpu:+QEMU_CPU="$cpu"} "$@"; }
has_active_cells() { packaged cellsync status --loopback | grep -qx "$1 cells, $1 active"; }

cells=()
# Starts a cell in addition to the installed one.
another_cell() {
    if has_systemd; then
        systemd-run --quiet --unit="cell$1" --uid=cellsync --property=StateDirectory="cell$1" \
            cellsync-node --init --data "/var/lib/cell$1" --loopback --listen 127.0.0.1:0
    else
        # Without `packaged`, so that $! is the process of the cell.
        env ${cpu:+QEMU_CPU="$cpu"} \
            cellsync-node --init --data "/var/lib/cell$1" --loopback --listen 127.0.0.1:0 >"/var/log/cell$1" 2>&1 &
        cells+=($!)
    fi
}

resident() { sed -n 's/^VmRSS:[[:space:]]*//p' "/proc/$1/status"; }

# Prints the memory of cells, if it does not include an emulator's.
measure() {
    has_systemd || return 0
    sleep 20
    note "resident memory of the installed cell on $(dpkg --print-architecture): $(resident "$(systemctl show -P MainPID cellsync)")"
    local other=$folder/other/cellsync-node pid
    [[ -x $other ]] || return 0
    # The program for armhf, which a 64-bit kernel runs too.
    "$other" --init --data /root/other --loopback --listen 127.0.0.1:0 --udp-port 5999 >/root/other.log 2>&1 &
    pid=$!
    sleep 20
    note "resident memory of the program for armhf on the same kernel: $(resident $pid)"
    kill $pid
    wait $pid
}

ip link set lo up 2>/dev/null || true
rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*
lines=$(sed -n '/^sudo curl/,/^```/p' "$folder/README.md" | sed "/^\`\`\`/d; s|https://example.org/cellsync|file://$folder/web|g")
[[ $(wc -l <<<"$lines") == 3 ]]
sudo() { "$@"; }
eval "${lines//install cellsync-node/install -y cellsync-node cellsync-client}" >/root/apt.log 2>&1 || { tail -n 30 /root/apt.log; false; }
dpkg --verify cellsync-node cellsync-client
[[ $(stat -c %U:%a /var/lib/cellsync/cellsync.cell) == cellsync:* ]]
step "the packages are installed"

echo 'loopback = true' >>/etc/cellsync/node.toml
if has_systemd; then
    [[ $(systemctl is-enabled cellsync) == enabled ]]
    await 60 systemctl is-active cellsync
    [[ $(stat -c %U "/proc/$(systemctl show -P MainPID cellsync)") == cellsync ]]
    systemctl restart cellsync
    step "the service has started, and restarts"
else
    setpriv --reuid=cellsync --regid=cellsync --init-groups env ${cpu:+QEMU_CPU="$cpu"} \
        cellsync-node --config /etc/cellsync/node.toml >/var/log/cell1 2>&1 &
    cells+=($!)
    step "the installed cell starts"
fi
for number in 2 3 4 5; do
    another_cell "$number"
done
await 120 has_active_cells 5
step "five cells find each other"
measure

cd /root
{ head -c 1500000 /dev/urandom; seq 200000; } >album
cp album album.copy
packaged cellsync-put --loopback album >/root/put.log 2>&1 || { cat /root/put.log; false; }
packaged cellsync check --loopback --deep album.manifest
step "a file is stored in five copies"

if has_systemd; then
    first=$(systemctl show -P MainPID cellsync)
    restarted() {
        local now
        now=" $(systemctl show --property ActiveState,MainPID cellsync | xargs) "
        [[ $now == *" ActiveState=active "* && $now != *" MainPID=$first "* && $now != *" MainPID=0 "* ]]
    }
    id=$(curl -fsS http://127.0.0.1:8080/status)
    systemctl kill --signal KILL cell2 cell3 cell4 cellsync
    await 60 restarted
    [[ $(curl -fsS http://127.0.0.1:8080/status | grep -o '"node_id":"[^"]*"') == $(grep -o '"node_id":"[^"]*"' <<<"$id") ]]
    step "the killed service restarts as the same cell"
else
    kill -KILL "${cells[@]:0:3}"
    wait "${cells[@]:0:3}" || true
fi
rm album
packaged cellsync-get --loopback album.manifest
cmp album album.copy
step "the file is restored without the killed cells"

if has_systemd; then
    first=$(systemctl show -P MainPID cellsync)
    systemctl kill --kill-whom main --signal STOP cellsync
    await 150 restarted
    step "the watchdog restarts a hung cell"
else
    kill "${cells[@]:3}"
    wait "${cells[@]:3}"
fi

apt-get remove -y cellsync-node >>/root/apt.log 2>&1
[[ -e /etc/cellsync/node.toml && -e /var/lib/cellsync/cellsync.cell && ! -e /usr/bin/cellsync-node ]]
output=$(apt-get purge -y cellsync-node cellsync-client 2>&1)
[[ $output == *"rm -r /var/lib/cellsync"* && ! -e /etc/cellsync && -e /var/lib/cellsync/cellsync.cell ]]
step "after removal and purge the chunks are kept"
echo "all steps passed in $SECONDS s"
