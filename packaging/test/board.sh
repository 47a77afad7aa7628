#!/bin/bash
# PID 1 of a board: boards.sh starts this script in new namespaces; it sets the board up and executes systemd.
set -euo pipefail
base=$1 folder=$2 cgroup=$3 switch=$4 address=$5
root=$folder/root

# The first run enters the board's control group and network, then runs again in a new cgroup namespace.
if [[ ${6:-} != inside ]]; then
    # /proc is still the machine's, so this is the script's pid there.
    read -r init _ </proc/self/stat
    echo 0 >"$cgroup/cgroup.procs"

    # `ip` resolves $$, which is 1, in the board's pid namespace. The cable of the previous boot may still be in the
    # switch.
    port=board${address##*.}
    on_the_wire=(nsenter --net="/proc/$switch/ns/net" --)
    "${on_the_wire[@]}" ip link delete "$port" 2>/dev/null || true
    "${on_the_wire[@]}" ip link add "$port" master switch type veth peer name eth0 netns $$
    "${on_the_wire[@]}" ip link set "$port" up
    ip link set lo up
    ip link set eth0 up
    ip addr add "$address/24" broadcast + dev eth0
    ip route add default via "${address%.*}.1"

    echo "$init" >"$folder/init.new"
    mv "$folder/init.new" "$folder/init"
    exec unshare --cgroup -- bash "$0" "$@" inside
fi

# The kernel may not have released the disk after the previous boot.
for ((tries = 50; tries > 0; tries--)); do
    mount -t overlay -o "lowerdir=$base,upperdir=$folder/upper,workdir=$folder/work" board "$root" && break
    sleep 0.1
done
cd "$root"

mount -t proc proc proc
for kernel in proc/sys proc/sysrq-trigger; do
    [[ -e $kernel ]] || continue
    mount --bind "$kernel" "$kernel"
    mount -o remount,bind,ro "$kernel"
done
cat /proc/sys/kernel/random/uuid >"$folder/boot_id"
mount --bind "$folder/boot_id" proc/sys/kernel/random/boot_id
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
cp -a /dev/{null,zero,full,random,urandom,tty} dev
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp

pivot_root . mnt
umount -l mnt
exec env -i container=board PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd
