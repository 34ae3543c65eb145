#!/bin/sh
# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Runs inside the root file system of a lab host while mmdebstrap builds it:
#   setup.sh before     once the essential packages are there, before all others are installed
#   setup.sh after      at the end; needs ROOT_UUID and DISK_ID, the identities the disk is going to have
set -eu

# The modules a lab host needs before its root file system is mounted, and those that udev would otherwise load
# one by one later, when a process costs ten times what it costs on real hardware.
initramfs_modules="virtio_pci virtio_blk ext4 crc32c_generic crc32c e1000 llc stp bridge xen_evtchn xen_gntdev xen_gntalloc
    xenfs xen_privcmd xen_blkback xen_netback"

# What a machine that lives for minutes has no use for, and what only waits or probes under emulation.
masked_units="apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service
    fstrim.timer systemd-tmpfiles-clean.timer systemd-udev-settle.service systemd-networkd-persistent-storage.service
    grub-common.service grub-initrd-fallback.service getty-static.service getty@tty1.service serial-getty@hvc0.service serial-getty@ttyS0.service
    systemd-journal-flush.service systemd-random-seed.service systemd-tmpfiles-setup-dev-early.service
    systemd-hwdb-update.service systemd-journal-catalog-update.service systemd-firstboot.service systemd-pstore.service
    systemd-machine-id-commit.service systemd-update-utmp.service systemd-update-utmp-runlevel.service
    systemd-network-generator.service systemd-binfmt.service systemd-battery-check.service
    systemd-pcrmachine.service systemd-pcrphase.service systemd-pcrphase-initrd.service systemd-pcrphase-sysinit.service
    systemd-tpm2-setup.service systemd-tpm2-setup-early.service systemd-rfkill.service systemd-rfkill.socket
    modprobe@configfs.service modprobe@dm_mod.service modprobe@drm.service modprobe@efi_pstore.service
    modprobe@fuse.service modprobe@loop.service
    sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount sys-fs-fuse-connections.mount
    dev-hugepages.mount dev-mqueue.mount tmp.mount run-lock.mount systemd-udev-load-credentials.service"

# Programs systemd runs at every start to find out about hardware this machine does not have.
masked_generators="systemd-bless-boot-generator systemd-cryptsetup-generator systemd-debug-generator systemd-getty-generator
    systemd-gpt-auto-generator systemd-hibernate-resume-generator systemd-import-generator systemd-integritysetup-generator
    systemd-rc-local-generator systemd-ssh-generator systemd-system-update-generator systemd-tpm2-generator
    systemd-veritysetup-generator"

before() {
    export DEBIAN_FRONTEND=noninteractive
    # There is no disk to install GRUB on yet: the lab writes the boot sector itself.
    echo "grub-pc grub-pc/install_devices_empty boolean true" | debconf-set-selections
    mkdir -p /etc/initramfs-tools/conf.d /etc/initramfs-tools/hooks
    printf 'MODULES=list\nCOMPRESS=lz4\n' > /etc/initramfs-tools/conf.d/lab
    {
        echo '#!/bin/sh'
        # shellcheck disable=SC2016 # expanded when mkinitramfs runs the hook
        echo '[ "${1:-}" = prereqs ] && exit 0'
        echo '. /usr/share/initramfs-tools/hook-functions'
        for module in $initramfs_modules; do
            echo "modinfo -k \"\$version\" $module > /dev/null 2>&1 && force_load $module"
        done
        echo 'exit 0'
    } > /etc/initramfs-tools/hooks/lab
    chmod 755 /etc/initramfs-tools/hooks/lab
    # The modules are named above and the file system is found by its UUID with blkid, so udev has no work in the
    # initramfs; its first pass over all devices would cost ten seconds. Scripts here replace those of the same name.
    mkdir -p /etc/initramfs-tools/scripts/init-top /etc/initramfs-tools/scripts/init-bottom
    printf '#!/bin/sh\nexit 0\n' > /etc/initramfs-tools/scripts/init-top/udev
    cat > /etc/initramfs-tools/scripts/init-bottom/udev <<'END'
#!/bin/sh -e
[ "${1:-}" = prereqs ] && exit 0
# What udev's script does besides ending udev.
mount -n -o move /dev "$rootmnt/dev"
rm -rf /dev
ln -s "$rootmnt/dev" /dev
END
    chmod 755 /etc/initramfs-tools/scripts/init-*/udev
}

network() {
    echo xenlab > /etc/hostname
    printf '127.0.0.1 localhost\n127.0.1.1 xenlab\n' > /etc/hosts
    # 10.0.2.x are the addresses of QEMU's user networking (docs/system/devices/net.rst).
    echo 'nameserver 10.0.2.3' > /etc/resolv.conf
    # networkd is up seven seconds sooner than ifupdown here, whose scripts start dozens of processes.
    cat > /etc/systemd/network/xenbr0.netdev <<'END'
[NetDev]
Name=xenbr0
Kind=bridge

# whom it has heard is asked at the end of a scenario
[Bridge]
AgeingTimeSec=1h
END
    cat > /etc/systemd/network/eth0.network <<'END'
[Match]
Name=eth0

[Network]
Bridge=xenbr0
LinkLocalAddressing=no
END
    cat > /etc/systemd/network/xenbr0.network <<'END'
# guests are connected to this bridge
[Match]
Name=xenbr0

[Network]
Address=10.0.2.15/24
Gateway=10.0.2.2
LinkLocalAddressing=no
IPv6AcceptRA=no
ConfigureWithoutCarrier=yes
END
    systemctl enable systemd-networkd.service
    systemctl disable systemd-networkd-wait-online.service
}

ssh_server() {
    mkdir -p /root/.ssh
    chmod 700 /root/.ssh
    mv /root/authorized_keys /root/.ssh/authorized_keys
    chown -R root:root /root/.ssh
    chmod 600 /root/.ssh/authorized_keys
    cat > /etc/ssh/sshd_config.d/lab.conf <<'END'
PasswordAuthentication no
PermitRootLogin prohibit-password
UseDNS no
# A play opens many sessions at once, and the emulated host is slow to answer each.
MaxStartups 100
MaxSessions 100
LoginGraceTime 300
END
    # From OpenSSH 9.8 on, one that knocks and does not log in, as those do who wait for the server, is locked out for a while.
    if grep -q PerSourcePenalties /usr/sbin/sshd; then
        echo "PerSourcePenalties no" >> /etc/ssh/sshd_config.d/lab.conf
    fi
    mkdir -p /etc/systemd/system/ssh.service.d
    cat > /etc/systemd/system/ssh.service.d/lab.conf <<'END'
[Service]
# It would test its configuration in a process of its own before it starts.
ExecStartPre=
# What xenlab waits for.
ExecStartPost=/bin/sh -c 'echo "xenlab: the ssh server listens" > /dev/console'
END
    # pam_systemd would ask a logind that is not installed; pam_motd runs scripts at every login.
    sed -i '/pam_motd.so/s/^/# /' /etc/pam.d/sshd
}

system() {
    echo "UUID=$ROOT_UUID / ext4 errors=remount-ro,noatime 0 0" > /etc/fstab
    # Without an identity systemd takes every boot for the first one and runs all its first-boot units.
    od -An -N16 -tx1 /dev/urandom | tr -d ' \n' > /etc/machine-id
    echo >> /etc/machine-id
    mkdir -p /etc/systemd/journald.conf.d /var/lib/xen/images
    printf '[Journal]\nStorage=volatile\n' > /etc/systemd/journald.conf.d/lab.conf
    # Hardware of the emulated machine that nobody uses; udev would load drivers for it one after the other.
    for module in ahci libata lpc_ich i2c_i801 iTCO_wdt pcspkr button psmouse serio_raw evdev sg; do
        echo "blacklist $module"
    done > /etc/modprobe.d/lab.conf
    # networkd asks about wireless devices, for which the kernel would load a subsystem.
    echo "install cfg80211 /bin/false" >> /etc/modprobe.d/lab.conf
    # Of the 268 devices that udev is told of at the start, a lab host needs the disk and the network; each costs a process.
    mkdir -p /etc/systemd/system/systemd-udev-trigger.service.d
    cat > /etc/systemd/system/systemd-udev-trigger.service.d/lab.conf <<'END'
[Service]
ExecStart=
ExecStart=-udevadm trigger --action=add --subsystem-match=block --subsystem-match=net
END
    mkdir -p /etc/systemd/system-generators
    for generator in $masked_generators; do
        ln -s /dev/null "/etc/systemd/system-generators/$generator"
    done
    for unit in $masked_units; do
        ln -sf /dev/null "/etc/systemd/system/$unit"
    done
}

# Ansible sends a module and what it imports as source in a zip file, which Python compiles anew for each task: half of a
# task's time here. What it has compiled before is kept by the source's hash, as importlib keeps hash-based pyc files.
python_cache() {
    mkdir -p /var/cache/zipimport
    packages=$(python3 -c 'import site; print(site.getsitepackages()[0])')
    mkdir -p "$packages"
    cat > "$packages/usercustomize.py" <<'END'
import _imp
import marshal
import os
import zipimport

compile_source = zipimport._compile_source


def compiled(path, source):
    content = source.encode() if isinstance(source, str) else source
    kept = f"/var/cache/zipimport/{_imp.source_hash(len(content), content).hex()}"
    try:
        with open(kept, "rb") as file:
            return marshal.loads(file.read())
    except OSError:
        code = compile_source(path, source)
    try:
        with open(f"{kept}.{os.getpid()}", "wb") as file:
            file.write(marshal.dumps(code))
        os.replace(file.name, kept)
    except OSError:
        # Another account than root writes nothing there.
        pass
    return code


zipimport._compile_source = compiled
END
}

# The loader as an administrator would set it up: Debian's own files with some lines filled in.
boot_loader() {
    sed -i -e 's/^GRUB_TIMEOUT=.*/GRUB_TIMEOUT=0/' \
        -e 's/^GRUB_CMDLINE_LINUX=.*/GRUB_CMDLINE_LINUX="console=hvc0 net.ifnames=0 lsm=capability cryptomgr.notests"/' \
        -e 's/^#GRUB_TERMINAL=.*/GRUB_TERMINAL=serial/' /etc/default/grub
    cat >> /etc/default/grub <<'END'

# The only terminal of this machine is its first serial port.
GRUB_SERIAL_COMMAND="serial --unit=0 --speed=115200"
END
    sed -i -e 's/^#\? *GRUB_CMDLINE_XEN_DEFAULT=.*/GRUB_CMDLINE_XEN_DEFAULT="com1=115200,8n1 console=com1 loglvl=all guest_loglvl=all"/' \
        -e 's/^#\? *XEN_OVERRIDE_GRUB_DEFAULT=.*/XEN_OVERRIDE_GRUB_DEFAULT=1/' /etc/default/grub.d/xen.cfg
    grep -q '^GRUB_CMDLINE_XEN_DEFAULT=' /etc/default/grub.d/xen.cfg
    grep -q '^XEN_OVERRIDE_GRUB_DEFAULT=1' /etc/default/grub.d/xen.cfg

    mkdir -p /boot/grub
    cp -r /usr/lib/grub/i386-pc /boot/grub/
    cp /usr/share/grub/unicode.pf2 /boot/grub/
    printf '# GRUB Environment Block\n%s' "$(printf '%1000s' '' | tr ' ' '#')" | head -c 1024 > /boot/grub/grubenv
    # Xen's image is compressed, and its menu entry leaves it to the core image to know how to read that (20_linux_xen).
    grub-mkimage -O i386-pc -o /boot/grub/i386-pc/core.img -p '(hd0,msdos1)/boot/grub' \
        biosdisk part_msdos ext2 gzio search_fs_uuid normal

    # update-grub asks grub-probe about the disk below "/". That disk does not exist yet, so for this one call the answers
    # are those grub-probe gives on the finished machine (xenlab lets update-grub run there again and compares).
    mv /usr/sbin/grub-probe /usr/sbin/grub-probe.real
    cat > /usr/sbin/grub-probe <<END
#!/bin/sh
for word; do
    case "\$word" in
        --target=*) target="\${word#--target=}" ;;
        -t) target= ;;
        *) [ -n "\${target-unset}" ] || target="\$word" ;;
    esac
done
case "\${target-}" in
    device) echo /dev/vda1 ;;
    disk) echo /dev/vda ;;
    drive) echo '(hd0,msdos1)' ;;
    partmap) echo msdos ;;
    fs) echo ext2 ;;
    fs_uuid) echo "$ROOT_UUID" ;;
    partuuid) echo "$DISK_ID-01" ;;
    abstraction | cryptodisk_uuid | compatibility_hint | hints_string) ;;
    *) exit 1 ;;
esac
END
    chmod 755 /usr/sbin/grub-probe
    mkdir -p /dev/disk/by-uuid
    touch "/dev/disk/by-uuid/$ROOT_UUID"
    update-grub
    rm -r /dev/disk
    mv /usr/sbin/grub-probe.real /usr/sbin/grub-probe
    grep -q '^[[:space:]]*multiboot2.*/boot/xen' /boot/grub/grub.cfg
}

case "$1" in
    before) before ;;
    after)
        network
        ssh_server
        system
        python_cache
        boot_loader
        rm -f /root/setup.sh
        # Else the first boot takes the image for a system that has just been upgraded (ConditionNeedsUpdate=).
        touch /etc/.updated /var/.updated
        ;;
    *) exit 2 ;;
esac
