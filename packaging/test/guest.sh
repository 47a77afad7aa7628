#!/bin/bash
# guest.sh FOLDER [CPU]: run as root in an emulated Debian, whose apt repository is FOLDER/web. Installs both packages with the
# three lines that a user types, makes the cell one of five on the loopback interface, stores a file, loses cells, gets it
# back, and takes the package away again.
#
# Under a systemd the installed service is one of the five. Where there is none (an emulator of single programs) its folder
# is used all the same, and the programs run on the processor CPU.
set -Eeuo pipefail
folder=$1
cpu=${2:-}
doing=start
trap 'echo "FAIL  $doing, line $LINENO: $BASH_COMMAND"' ERR
# shellcheck disable=SC2034 # Read by the trap.
step() { printf 'ok    %s\n' "$1"; doing="after: $1"; }
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
# Debian's own programs are made for newer processors than the first Pi's: only ours run on that.
ours() { env ${cpu:+QEMU_CPU="$cpu"} "$@"; }
are_there() { ours cellsync status --loopback | grep -qx "$1 cells, $1 active"; }

cells=()
# A cell beside the installed one.
another_cell() {
    if has_systemd; then
        systemd-run --quiet --unit="cell$1" --uid=cellsync --property=StateDirectory="cell$1" \
            cellsync-node --init --data "/var/lib/cell$1" --loopback --listen 127.0.0.1:0
    else
        # Not by way of `ours`: the process that is to be killed is the cell.
        env ${cpu:+QEMU_CPU="$cpu"} \
            cellsync-node --init --data "/var/lib/cell$1" --loopback --listen 127.0.0.1:0 >"/var/log/cell$1" 2>&1 &
        cells+=($!)
    fi
}

resident() { sed -n 's/^VmRSS:[[:space:]]*//p' "/proc/$1/status"; }

# The memory of a process, when the emulator's own is not in it.
measure() {
    has_systemd || return 0
    sleep 20
    note "resident memory of the installed cell on $(dpkg --print-architecture): $(resident "$(systemctl show -P MainPID cellsync)")"
    local other=$folder/other/cellsync-node pid
    [[ -x $other ]] || return 0
    # The program for 32-bit boards, which a 64-bit kernel runs as well.
    "$other" --init --data /root/other --loopback --listen 127.0.0.1:0 --udp-port 5999 >/root/other.log 2>&1 &
    pid=$!
    sleep 20
    note "of the program of armhf, on the same kernel: $(resident $pid)"
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
    step "the service has started by itself, and starts again"
else
    setpriv --reuid=cellsync --regid=cellsync --init-groups env ${cpu:+QEMU_CPU="$cpu"} \
        cellsync-node --config /etc/cellsync/node.toml >/var/log/cell1 2>&1 &
    cells+=($!)
    step "the installed cell starts"
fi
for number in 2 3 4 5; do
    another_cell "$number"
done
await 120 are_there 5
step "five cells find each other"
measure

cd /root
{ head -c 1500000 /dev/urandom; seq 200000; } >album
cp album album.copy
ours cellsync-put --loopback album >/root/put.log 2>&1 || { cat /root/put.log; false; }
ours cellsync check --loopback --deep album.manifest
step "a file is stored, five copies of each chunk"

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
    step "killed, the service starts again as the same cell"
else
    kill -KILL "${cells[@]:0:3}"
    wait "${cells[@]:0:3}" || true
fi
rm album
ours cellsync-get --loopback album.manifest
cmp album album.copy
step "with cells gone the file comes back"

if has_systemd; then
    first=$(systemctl show -P MainPID cellsync)
    systemctl kill --kill-whom main --signal STOP cellsync
    await 150 restarted
    step "a cell that hangs is started again by the watchdog"
else
    kill "${cells[@]:3}"
    wait "${cells[@]:3}"
fi

apt-get remove -y cellsync-node >>/root/apt.log 2>&1
[[ -e /etc/cellsync/node.toml && -e /var/lib/cellsync/cellsync.cell && ! -e /usr/bin/cellsync-node ]]
said=$(apt-get purge -y cellsync-node cellsync-client 2>&1)
[[ $said == *"rm -r /var/lib/cellsync"* && ! -e /etc/cellsync && -e /var/lib/cellsync/cellsync.cell ]]
step "removed and purged: the chunks are still there"
echo "all of it in $SECONDS s"
