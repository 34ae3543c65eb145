# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: what process 1 of the Linux stub domain does. It follows "Toolstack to Linux
# ioemu stubdomain protocol" of docs/misc/stubdom.txt @ stable-4.20; names of files and arguments are those of
# tools/libs/light/libxl_dm.c of the same release. Every process that is started costs time out of the 30 seconds that
# libxl waits, so the shell's own words do what they can: busybox-static of Debian runs its applets without a file each.

INIT = r"""#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

say() {
    read -r seconds _ < /proc/uptime
    echo "stub domain: $seconds s: $*"
}

fail() {
    say "failed: $*"
    poweroff -f
}

# Waits until a file or directory is there that the kernel makes when dom0's side has connected.
comes() {
    tries=100
    until [ "$1" "$2" ]; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || return
        usleep 50000
    done
}
appears() { comes "$1" "$2" || fail "$3 does not appear"; }

# Each line of a list is a module and its parameters.
load() {
    while read -r module parameters; do
        insmod "$1/$module.ko" $parameters || fail "module $module"
    done < "$1/order"
}

read -r words < /proc/cmdline
has_word() { case " $words " in *" $1 "*) ;; *) return 1 ;; esac; }

say "Linux runs"
load /modules
# Read-only and compressed, so that only those parts of QEMU take memory that are used.
mount -t squashfs -o ro,loop /host.squashfs /host || fail "the host's files"
load /host/modules/base
# Only for a guest with PCI devices, which says so here (_guests/virtualisation.py). libxl passes them when QEMU runs.
! has_word stubdom.pci=yes || load /host/modules/pci
export PATH=/bin:/host/bin

# From QEMU 8.2 on, the one in dom0 reads the console only of a frontend that says it is connected, which Linux never
# does for its first console (hw/char/xen_console.c, con_event; drivers/tty/hvc/hvc_xen.c).
backend=$(xenstore read console/backend)
[ "$(xenstore read "$backend/state")" != 2 ] || xenstore write console/state 4
# What goes wrong from now on is to be read in the log, for which there was no reader before.
dmesg -n 5

# Who takes over QEMU gets no further: when it has opened what it needs it gives up root, all capabilities and all
# files but the guest's disks; it can make no namespace, and learns no addresses of the kernel, into which nothing more
# is loaded then.
mkdir -p /run/empty/dev
echo 0 > /proc/sys/user/max_user_namespaces
echo 2 > /proc/sys/kernel/kptr_restrict

# QEMU reserves more address space than this domain has memory.
echo 1 > /proc/sys/vm/overcommit_memory

# A shell for somebody in dom0 who examines this domain. Its console is that of a serial port more than the guest has
# (_guests/virtualisation.py).
debug=
examine() {
    export PS1='stub domain:\w\$ '
    while :; do
        # Who leads a session controls the terminal that he opens, so that ^C ends what runs there.
        setsid sh -c 'exec sh -i <> /dev/hvc4 >&0 2>&0'
        usleep 500000
    done
}
! has_word stubdom.debug=yes || { debug=yes; examine 2> /run/examine & }

domid=$(xenstore read domid)
target=$(xenstore read target) || fail "xenstore does not tell the guest"
arguments=$(xenstore read "/local/domain/$target/vm")/image/dm-argv
names=$(xenstore list "$arguments" | sort) || fail "xenstore does not tell QEMU's arguments"
paths=
for name in $names; do paths="$paths $arguments/$name"; done
xenstore read $paths > /run/arguments || fail "xenstore does not tell QEMU's arguments"

# What QEMU said of its devices when the guest was saved comes out of console 2. Until that is raw, Linux treats it as
# somebody's typing: it sends back what it reads, into the same file. Of a ^D it does not (n_tty_receive_char_special,
# drivers/tty/n_tty.c), and 4095 of them fill its buffer, so that nothing else is read before.
receive() {
    exec 5<> /dev/hvc2
    stty raw -echo <&5 2> /run/stty
    # Not head: busybox's takes what is behind the line, too.
    read -r _ length <&5
    case $length in '' | *[!0-9]*) fail "what was saved of the devices is not of a stub domain like this one" ;; esac
    mkfifo /run/incoming
    head -c "$length" <&5 > /run/incoming &
    exec 5< /run/incoming
}

set --
network=
while IFS= read -r argument; do
    # What is not printable is written as in C (sanitise_value, tools/xs-clients/xenstore_client.c).
    case $argument in
        *\\*) argument=$(printf '%b' "$argument") ;;
    esac
    case $argument in
        '$STUBDOM_RESTORE_INCOMING_ARG') receive; argument=fd:5 ;;
        type=tap,* | tap,*) network=yes ;;
        # QEMU makes no port for it (serial_parse, system/vl.c).
        /dev/hvc4) [ -z "$debug" ] || argument=none ;;
    esac
    set -- "$@" "$argument"
done < /run/arguments

bridge() {
    # vif-N is the PV interface of the guest's interface N. QEMU joins a tap that is there already.
    number=$1 interface=$2 tap=vif$target.$1-emu
    tunctl -t "$tap" > /run/tap || fail "tap of interface $number: $(cat /run/tap)"
    # libxl gives both interfaces the same address, and a bridge keeps for itself what is sent to a port's address.
    # fe:ff:ff:ff:ff:ff is that of dom0's side. Each has one of its own, as they meet on the bridges of dom0.
    ifconfig "$interface" hw ether "$(printf 'fe:ff:%02x:%02x:%02x:fe' $((domid / 256)) $((domid % 256)) "$number")"
    brctl addbr "br$number"
    brctl addif "br$number" "$interface"
    brctl addif "br$number" "$tap"
    ifconfig "$interface" 0.0.0.0 up
    ifconfig "$tap" 0.0.0.0 up
    ifconfig "br$number" 0.0.0.0 up
}

if [ -n "$network" ]; then
    load /host/modules/network
    echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6
    for device in /sys/bus/xen/devices/vif-*; do
        appears -d "$device/net" "the interface of ${device##*/}"
        for interface in "$device"/net/*; do bridge "${device##*vif-}" "${interface##*/}"; done
    done
fi
echo 1 > /proc/sys/kernel/modules_disabled

# Has QEMU see a disk. Until a saved guest goes on, it has them open for reading only, and then opens them again.
show_disk() {
    IFS=: read -r major minor < "/sys/class/block/$1/dev"
    rm -f "/run/empty/dev/$1"
    mknod -m 666 "/run/empty/dev/$1" b "$major" "$minor"
}

# libxl names the disks xvda and so on, in QEMU's arguments too.
for disk in $(sed -n 's/.*file=\/dev\/\(xvd[a-z]*\).*/\1/p' /run/arguments); do
    appears -b "/dev/$disk" "disk $disk"
    show_disk "$disk"
done
dmesg -c > /dev/null

# A picture only for a guest that is to have one: whoever configures it says so here (_guests/virtualisation.py).
screen=
! has_word stubdom.screen=vnc || { screen=yes; set -- "$@" -vnc unix:/run/vnc; }

say "starting QEMU for domain $target: $*"
mkfifo /run/qmp.in /run/qmp.out
exec 3<> /run/qmp.out 4<> /run/qmp.in 6> /run/state
read -r give_up_root < /host/give-up-root
# Linux shows no more than the first 64 bytes of a device's registers to a program that opens them without CAP_SYS_ADMIN
# (pci_read_config, drivers/pci/pci-sysfs.c), and the tables of MSI-X in /dev/mem to one with CAP_SYS_RAWIO only
# (xen_pt_msix_init, hw/xen/xen_pt_msi.c), so that QEMU stays root, if without files, where there is such a device.
if has_word stubdom.pci=yes; then
    give_up_root=${give_up_root%,user=*}
    give_up_root=${give_up_root% -runas *}
    mknod -m 600 /run/empty/dev/mem c 1 1
    mkdir -p /run/empty/sys/hypervisor
    mount -o bind /sys/hypervisor /run/empty/sys/hypervisor
fi
# libxl has QEMU save the state of its devices to /dev/fdset/1 (tools/libs/light/libxl_qmp.c). QEMU truncates what it
# saves to (qemu_dup_flags, util/osdep.c), so that this is a file and no console, and forgets the set when nobody is
# connected to its QMP any more, so that somebody always is.
xen-qemu "$@" $give_up_root -L /host/share -add-fd fd=6,set=1 \
    -chardev pipe,id=stubdom-qmp,path=/run/qmp -mon chardev=stubdom-qmp,mode=control 3>&- 4>&- &
qemu=$!
own=/local/domain/$domid/device-model/$target

# Dom0 writes console 1 to the file that libxl takes the state from. Two rings (struct xencons_interface, io/console.h)
# more than the state, and its last byte is in that file: dom0 takes what is in a ring only after it has written what it
# took before.
send() {
    {
        head -c 4608 /dev/zero | tr '\0' '\004'
        echo " $(wc -c < /run/state)"
        cat /run/state
        head -c 4097 /dev/zero
    } > /run/sent
    exec 8<> /dev/hvc1
    stty raw -echo <&8 2> /run/stty
    timeout 20 cat /run/sent >&8
}

# The answer to what was asked, without the events on the way, which libxl passes over.
ask() {
    printf '%s\n' "$1" >&4
    while read -r answer <&3; do
        case $answer in '{"timestamp": '*) ;; *) return ;; esac
    done
}

refuse() { answer=$(printf '{"error": {"class": "GenericError", "desc": "%s"}, "id": %s}\r' "$1" "$id"); }

# From Xen 4.20 on libxl changes a medium (cdrom_insert_*, libxl_disk.c @ stable-4.20). It has QEMU eject the old one,
# and asks for a set of open files to be closed. It takes the disk from this domain, and gives it another one, without
# sectors for an empty drive. It asks until there is a set with the drive's number, and has QEMU open that. QEMU opens
# the disk itself, so that a set is only a name for it.
name_media() {
    sets=
    [ -n "$ejected" ] || for device in /sys/bus/xen/devices/vbd-*; do
        [ -d "$device/block" ] || continue
        number=${device##*-}
        sets="$sets${sets:+, }{\"fdset-id\": $number, \"fds\": [{\"fd\": 0, \"opaque\": \"stub-devid:$number\"}]}"
    done
    ejected=
    answer=$(printf '{"return": [%s], "id": %s}\r' "$sets" "$id")
}

insert() {
    number=${1#*'"/dev/fdset/'}
    number=${number%%[!0-9]*}
    for path in "/sys/bus/xen/devices/vbd-$number/block"/*; do disk=${path##*/}; done
    show_disk "$disk"
    ask "${1%%'"/dev/fdset/'*}\"/dev/$disk\"${1#*'"/dev/fdset/'"$number"'"'}"
}

# QEMU looks for a device in /sys: before 9.1 under the address that it has in dom0, since then under that which it has
# here (xen_host_pci_sysfs_path, hw/xen/xen-host-pci-device.c). Linux's xen-pciback writes that to xenstore.
show_device() {
    address=${1#*'"hostaddr":"'}
    address=${address%%'"'*}
    backend=$(xenstore read device/pci/0/backend)
    number=0
    until [ "$(xenstore read "$backend/dev-$number")" = "$address" ]; do
        number=$((number + 1))
        [ "$number" -lt 32 ] || return
    done
    # Its function has two digits there (xen_pcibk_publish_pci_dev, drivers/xen/xen-pciback/xenbus.c).
    own=$(xenstore read "$backend/vdev-$number")
    own=${own%.*}.${own#"${own%?}"}
    # libxl does not wait until Linux has looked for it on its bus.
    comes -e "/sys/bus/pci/devices/$own/config" || return
    for name in "$own" "$address"; do
        shown=/run/empty/sys/bus/pci/devices/$name
        mkdir -p "$shown"
        [ -e "$shown/config" ] || mount -o bind "/sys/bus/pci/devices/$own" "$shown"
    done
}

answer() {
    id=${1#*'"id":'}
    id=${id%%[!0-9]*}
    case $1 in
        '{"execute":"qmp_capabilities"'*) answer=$(printf '{"return": {}, "id": %s}\r' "$id") ;;
        '{"execute":"xen-save-devices-state"'*)
            # Dom0 would write it behind the first.
            if [ -e /run/sent ]; then
                refuse "the state of the devices was saved before; that is possible once after a start"
            else
                ask "$1"
                case $answer in
                    *'"error": '*) ;;
                    *) send || refuse "dom0 does not read the state of the devices" ;;
                esac
            fi ;;
        '{"execute":"eject"'*)
            ask "$1"
            case $answer in *'"error": '*) ;; *) ejected=yes ;; esac ;;
        '{"execute":"device_add"'*'"xen-pci-passthrough"'*) show_device "$1"; ask "$1" ;;
        '{"execute":"query-fdsets"'*) name_media ;;
        '{"execute":"blockdev-change-medium"'*'"/dev/fdset/'*) insert "$1" ;;
        *) ask "$1" ;;
    esac
}

# libxl connects for each of its commands. It gets a proxy of its own and the greeting that QEMU says only once. Who
# connects next waits until this proxy has gone: its ring is not to be found any more.
serve() {
    read -r greeting <&3
    ask '{"execute": "qmp_capabilities"}'
    while [ -d /proc/$qemu ]; do
        mkfifo /run/answers
        exec 7<> /run/answers
        rm /run/answers
        printf '%s\n' "$greeting" >&7
        connected= ejected=
        vchan-socket-proxy --mode=server 0 "$own/qmp-vchan" - <&7 | while read -r asked; do
            [ -n "$connected" ] || xenstore rm "$own/qmp-vchan"
            connected=yes
            answer "$asked"
            printf '%s\n' "$answer" >&7
        done
    done
}
serve 2> /run/serve &

# QEMU's VNC has no password: who may look is decided in dom0, by the socket that leads here. Each viewer asks for a
# proxy of its own, as the one before may have left something in the ring of his (tools/vchan/vchan-socket-proxy.c).
show() {
    viewer= proxy=
    while [ -d /proc/$qemu ]; do
        # The first of two comes at once; the other one may be missed, so dom0 asks again.
        xenstore watch -n 2 "$own/vnc-viewer" > /run/viewer
        asked=$(xenstore read "$own/vnc-viewer")
        [ "$asked" != "$viewer" ] || continue
        viewer=$asked
        [ -z "$proxy" ] || { kill $proxy; wait $proxy; }
        vchan-socket-proxy --mode=server 0 "$own/vnc-vchan" /run/vnc &
        proxy=$!
    done
}
[ -z "$screen" ] || show 2> /run/show &

until [ "$(xenstore read "$own/state" 2> /run/state)" = running ] || ! [ -d /proc/$qemu ]; do usleep 500000; done
if [ -d /proc/$qemu ]; then
    read -r _ total _ < /proc/meminfo
    # Who it is, what it may do and how much memory is left, as the kernel has it.
    say "QEMU runs; $(sed -n 's/^Uid:\s*\([0-9]*\).*/user \1/p;s/^CapEff:\s*/capabilities /p' /proc/$qemu/status |
        tr '\n' ,) $(sed -n 's/^MemAvailable: *//p' /proc/meminfo) of $total kB available"
fi
wait $qemu
status=$?
# Linux counts whom it kills for want of memory (oom_kill_process, mm/oom_kill.c). Here that is who has most of it.
! grep -q '^oom_kill [1-9]' /proc/vmstat || fail "QEMU was killed, as the memory of the stub domain is used up"
fail "QEMU ended with status $status"
"""
