#!/bin/sh
# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# host.sh LOWER WORK PORT: one played host, in mount and process namespaces of its own. Its sshd is process 1 there, so
# that all ends with it. What it writes is in memory, over a file system that all hosts share.
set -e
lower=$1 work=$2 port=$3
mount -t tmpfs -o size=400m none "$work"
mkdir "$work/upper" "$work/scratch" "$work/root"
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$work/upper,workdir=$work/scratch" "$work/root"
root=$work/root
# A real /proc has no directory xen without a hypervisor, so that it is put together.
mkdir "$root/.proc"
mount -t proc proc "$root/.proc"
mount -t tmpfs none "$root/proc"
for file in self thread-self mounts meminfo cpuinfo stat uptime loadavg filesystems version sys net cmdline; do
    ln -s "/.proc/$file" "$root/proc/$file"
done
mkdir "$root/proc/xen"
echo control_d > "$root/proc/xen/capabilities"
mount -t tmpfs none "$root/sys"
mkdir "$root/sys/hypervisor"
echo xen > "$root/sys/hypervisor/type"
mount -t tmpfs none "$root/dev"
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts "$root/dev/pts"
for device in null zero random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs none "$root/run"
mkdir -p "$root/run/sshd" "$root/run/lock"
mount -t tmpfs -o mode=1777 none "$root/tmp"
# One terminal for the consoles of all guests, which write nothing.
chroot "$root" /usr/local/sbin/xl terminal &
exec chroot "$root" /usr/sbin/sshd -D -p "$port" -o ListenAddress=127.0.0.1 -o UsePAM=no -o MaxStartups=500 \
    -o MaxSessions=500 -E /run/sshd.log
