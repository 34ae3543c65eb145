#!/bin/bash
# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Makes the disks of the guests in /var/tmp from a disk NAME.img that payload.py has written for each: its kernel and
# what it says stay, and its menu and what it lies on become others.
set -eu
cd /var/tmp

take() { # the files of a guest, into ./files
    rm -rf files part
    mkdir files part
    mount -o loop,ro "$1.img" part
    cp -a part/boot files/
    umount part
    rm -f "$1.img"
}

partition() { # a disk with one partition of this kind of table, and a file system in it: NAME TABLE FILE-SYSTEM
    truncate --size=$(($(stat --format=%s "$3") + 4 * 1024 * 1024)) "$1.img"
    printf 'label: %s\nstart=1MiB, size=%sMiB\n' "$2" $(($(stat --format=%s "$3") / 1024 / 1024)) | sfdisk --quiet "$1.img"
    dd if="$3" of="$1.img" bs=1M seek=1 conv=notrunc,sparse status=none
    rm "$3"
}

ext4() { # the files as a file system in ./made
    truncate --size=96M made
    mke2fs -q -F -t ext4 -d files made
}

# A menu of GRUB 2 where Debian has it, on a GPT.
take gpt
ext4
partition gpt gpt made

# A menu of extlinux, behind a partition table as BIOSes know it.
take dos
rm -r files/boot/grub
mkdir files/boot/extlinux
cat > files/boot/extlinux/extlinux.conf << 'EOF'
default dos
timeout 10
label dos
    kernel /boot/vmlinuz
    initrd /boot/initrd.img
    append console=hvc0 quiet panic=1
EOF
ext4
partition dos dos made

# Entries of the Boot Loader Specification, on btrfs.
take bls
rm -r files/boot/grub
mkdir --parents files/boot/loader/entries
cat > files/boot/loader/entries/bls.conf << 'EOF'
title bls
version 1
linux /boot/vmlinuz
initrd /boot/initrd.img
options console=hvc0 quiet panic=1
EOF
truncate --size=160M made
mkfs.btrfs --quiet --mixed --rootdir files made
partition bls gpt made

# A menu where Fedora and openSUSE have it, on a logical volume, whose group is a whole disk.
take lvm
mv files/boot/grub files/boot/grub2
ext4
truncate --size=112M lvm.img
device=$(losetup --find --show lvm.img)
pvcreate --quiet "$device"
vgcreate --quiet guest "$device"
lvcreate --quiet --yes --wipesignatures n --extents 100%FREE --name root guest
dd if=made of=/dev/guest/root bs=1M conv=sparse status=none
vgchange --quiet --activate n guest
losetup --detach "$device"
rm made

# Its menu is given by dom0; beside its disk it has one without anything that boots, which is the first.
take two
rm -r files/boot/grub
ext4
partition two gpt made
truncate --size=32M data
mke2fs -q -F -t ext4 data
partition two-data gpt data

rm -r files part
