# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The options of the module guests. They are documented here and not in the module, because Ansible sends a module to
# each host with its documentation, and without the fragments of that.

from __future__ import annotations


class ModuleDocFragment:
    """The options of the module guests."""

    DOCUMENTATION = r"""
options:
  guests:
    description: The guests.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the guest.
        type: str
        required: true
      state:
        description:
          - V(present) writes the configuration, and neither starts nor stops the guest. It is the default.
          - V(running) starts the guest if it does not run, or lets it go on where it was saved.
          - V(stopped) asks the guest to shut down, or ends it at once with O(guests[].stop=force).
          - V(paused) pauses the guest, or starts it paused.
          - V(restarted) stops the guest and starts it with its configuration.
          - V(rebooted) asks the guest to reboot; it keeps the configuration that it was started with.
          - V(saved) writes the guest's memory to C(/var/lib/xen/saved/NAME.save), from where V(running) goes on. Of
            guests with a stub domain only those can be saved whose image is that of M(xen.stubdom.linux_stubdom). What
            is there of a guest that has run since is discarded, as it does not fit the guest's disks any more.
          - A guest that V(paused) has paused is let go before it is asked to shut down or to reboot, and before it is
            saved. One that another program or administrator has paused is left alone, which is an error, unless it is
            ended with O(guests[].stop=force).
          - V(absent) removes the configuration. While the guest runs this needs O(guests[].stop).
        type: str
        choices: [present, running, stopped, paused, restarted, rebooted, saved, absent]
      type:
        description:
          - Kind of guest. Without it, the one that O(guests[].flavour) is for.
          - For the flavour V(grub2) that is V(pvh) where the hypervisor runs such guests and there is a GRUB 2 for
            them, as PVH guests boot kernels of every compression; else V(pv). A guest that has a configuration keeps
            its type, a guest with O(guests[].kernel) or with C(pci) in O(guests[].options) is V(pv).
          - Without O(guests[].type) and O(guests[].flavour) the configuration stays as it is, whoever wrote it.
        type: str
        choices: [pv, pvh, hvm]
      flavour:
        description:
          - How a PV or PVH guest boots, V(grub2) with GRUB 2 for Xen or V(legacy) with PV-GRUB on Mini-OS (PV only).
          - Where the device model of an HVM guest runs, V(linux) in a Linux stub domain (Xen 4.14 and newer) or
            V(minios)
            in a Mini-OS one (up to Xen 4.20).
          - V(dom0) is for guests that are taken over as they are. The boot loader of a PV or PVH guest, named by
            C(bootloader) in O(guests[].options), or the device model of an HVM guest runs in dom0, which needs
            O(guests[].allow_weaker_isolation=true).
          - Without it, V(grub2) for PV and PVH guests, V(linux) for HVM guests.
        type: str
        choices: [grub2, legacy, linux, minios, dom0]
      uuid:
        description: Identity of the guest. Without it, one that is made of the name.
        type: str
      kernel:
        description:
          - The kernel or boot loader of a PV or PVH guest, for example a unikernel or that of NetBSD. Without it, the
            one of O(guests[].flavour).
          - The kernel of an HVM guest (V(linux)), which is Linux, or is started like it (a bzImage). QEMU in the stub
            domain does not see the file, so it is put on a CD with O(guests[].ramdisk) and GRUB 2, from which the
            guest's BIOS starts it, before any disk. That takes one of the drives C(hda) to C(hdd), and the image
            V(i386-pc-eltorito) of M(xen.stubdom.grub_image). A file that has changed is put on the CD by the next
            execution, and is started when the guest starts or reboots the next time.
        type: path
      arch:
        description:
          - Architecture of the guest's kernel, which PV-GRUB has to have too (V(legacy)). V(x86_64) is the default.
        type: str
        choices: [x86_64, x86_32]
      menu:
        description:
          - Where PV-GRUB reads its menu (V(legacy)), for example V((hd0,0\)/boot/grub/menu.lst) on a disk with
            partitions,
            V((hd0\)/boot/grub/menu.lst) on one that is a file system, or V((nd\)/guests/menu.lst) over the network.
          - A path that begins with a slash is on O(guests[].menu_disk) and O(guests[].menu_partition), and is written
            as PV-GRUB counts disks.
          - Without O(guests[].menu) and O(guests[].menu_file) the path comes from DHCP, as option 150.
        type: str
      menu_disk:
        description:
          - The O(guests[].disks[].vdev) of the disk with O(guests[].menu) (V(legacy)). Without it, the first one of the
            list.
        type: str
      menu_partition:
        description:
          - The partition with O(guests[].menu), counted from 1 (V(legacy)). Without it, the disk is one file system.
        type: int
      menu_file:
        description: A file in dom0 that is the menu of PV-GRUB (V(legacy)).
        type: path
      menu_entries:
        description:
          - A menu that dom0 gives the guest, which the guest cannot change. The first entry is the default.
          - With V(grub2) it is put in a GRUB 2 of the guest's own, made of the image V(grub2) of the role
            P(xen.stubdom.stubdom_build#role), in place of the menus on the guest's disks. With V(legacy) it is a file
            in dom0.
          - It is kept in C(/var/lib/xen.stubdom/guests) and removed with the guest (V(absent)). A running guest gets a
            changed one when it boots again.
          - What the boot loader would not read back as it is given, such as a newline in a title, is refused.
        type: list
        elements: dict
        suboptions:
          title:
            description: What the menu shows.
            type: str
            required: true
          kernel:
            description: Path of the kernel in its file system, for example V(/boot/vmlinuz).
            type: str
            required: true
          cmdline:
            description: Options for the kernel; for V(grub2) without quotes and backslashes.
            type: str
          initrd:
            description: Path of the initial RAM disk in the same file system.
            type: str
          disk:
            description: The O(guests[].disks[].vdev) of the disk. Without it, the first one of the list.
            type: str
          partition:
            description: The partition, counted from 1. Without it, the disk is one file system.
            type: int
      menu_timeout:
        description: Seconds until the first of O(guests[].menu_entries) is started. V(3) is the default.
        type: int
      menu_fallback:
        description: Title of the one of O(guests[].menu_entries) that is started where the first one cannot be loaded.
        type: str
      menu_password:
        description:
          - The hash of a password, without which nobody can change an entry of O(guests[].menu_entries) at the console,
            or enter a command there. All entries are started without it.
          - For V(grub2) what C(grub-mkpasswd-pbkdf2) prints from C(grub.pbkdf2) on; GRUB also asks for the user, who is
            C(root). For V(legacy) what C(openssl passwd -1) prints.
          - The file with the menu has the mode V(0600) then.
        type: str
      menu_splash:
        description:
          - Path of the picture behind the menu (V(legacy)), a packed XPM file of 640 by 480 points and 14 colours, on
            the disk and partition of the first of O(guests[].menu_entries). It is seen on a screen, which is
            C(vfb) in O(guests[].options); without one it is refused. A QEMU in dom0 serves that screen.
          - The kernel that is booted cannot start the screen again.
          - GRUB 2 has no driver for the screen of a Xen guest.
        type: str
      look_at_disks:
        description:
          - Whether the disks of a guest that is to be started are looked at before, so that what its boot loader cannot
            boot is refused with the way out (V(grub2), V(legacy)). V(true) is the default.
          - They are not mounted. C(grub-fstest), which is GRUB 2 as a program (Debian package C(grub-common)), reads
            raw images and block devices as a user that owns nothing. What it cannot read, such as other formats, is
            left to the boot.
        type: bool
      cmdline:
        description:
          - Options for the kernel of a PV or PVH guest (V(grub2)). GRUB 2 itself reads nothing of it before release
            2.14, and then variables of its environment whose names begin with C(xen_grub_env_).
          - Options for O(guests[].kernel) of an HVM guest (V(linux)), without quotes and backslashes.
        type: str
      ramdisk:
        description:
          - Initial RAM disk of the kernel of a PV or PVH guest (V(grub2)), or of O(guests[].kernel) (V(linux)).
        type: path
      boot:
        description: Order in which an HVM guest tries to boot, for example V(cd).
        type: str
      firmware:
        description:
          - The firmware of an HVM guest. Without it, the one that libxl chooses, which is a BIOS.
          - V(uefi) needs a file that was built with Xen's drivers (V(linux), V(dom0)), which is looked at. The package
            C(ovmf) of Debian 12 and newer has none; those of Fedora (C(edk2-ovmf-xen)) and openSUSE do.
        type: str
        choices: [bios, uefi]
      bios_path_override:
        description:
          - The file of O(guests[].firmware) (V(linux), V(dom0); Xen 4.8 and newer). Without it, that of the
            distribution.
        type: path
      serial:
        description:
          - Where an HVM guest's serial port leads, as text, or as a list for several. A stub domain can serve one
            V(pty), which is what it has without this parameter.
        type: raw
      vnc:
        description:
          - Whether an HVM guest has a screen over VNC on dom0's loopback (V(minios), V(dom0)).
          - Without it, a guest with a stub domain has none, and with V(dom0) libxl gives it one.
        type: bool
      screen:
        description:
          - Whether a guest with a Linux stub domain has a screen (V(linux); Xen 4.16 and newer), over VNC on the unix
            socket C(/run/xen-stubdom/NAME.vnc) of dom0. Nothing listens on the network.
          - systemd listens there for as long as the guest is configured. One viewer can connect at a time, and is cut
            off when the guest reboots or ends.
          - The stub domain gets twice the memory of the graphics card more.
        type: bool
      screen_owner:
        description: The user that may connect to O(guests[].screen) beside root. Without it, root alone.
        type: str
      screen_group:
        description: The group that may connect to O(guests[].screen).
        type: str
      debug:
        description:
          - Whether root of dom0 gets a shell in the Linux stub domain (V(linux); Xen 4.16 and newer), as root there, by
            C(xl console -t pv -n 4 NAME-dm). For examination, and not for daily use.
          - The guest's hardware stays the same.
        type: bool
      stubdomain_memory:
        description:
          - Memory of the stub domain in MiB. Without it, what its image is recorded to need, with a MiB for each disk
            beyond the first, or else what libxl gives; and more with O(guests[].screen).
        type: int
      stubdomain_kernel:
        description:
          - Kernel of the stub domain. Without it, the one in the firmware directory.
          - That of a Linux stub domain must be one that Xen starts as a PV domain.
        type: path
      stubdomain_ramdisk:
        description:
          - Root file system of the Linux stub domain, an archive that Linux unpacks. Without it, the one in the
            firmware directory.
        type: path
      stubdomain_cmdline:
        description: Options for the kernel of the Linux stub domain, after those that its image is recorded to need.
        type: str
      firmware_override:
        description:
          - An hvmloader (V(minios), V(dom0)), for V(minios) one with ROMBIOS. Without it, the one that comes with the
            image V(ioemu).
        type: path
      device_model_override:
        description:
          - The program in dom0 that serves the stub domain's consoles (V(minios)), or that is the device model
            (V(dom0)). Without it, the one that comes with the image V(ioemu).
        type: path
      memory:
        description: Memory in MiB. Required where the configuration is written.
        type: int
      maxmem:
        description: The most memory that the guest may balloon to, in MiB. Without it, O(guests[].memory).
        type: int
      vcpus:
        description: Virtual processors that the guest starts with. V(1) is the default.
        type: int
      maxvcpus:
        description: The most virtual processors that the guest may have. Without it, O(guests[].vcpus).
        type: int
      cpu_weight:
        description: Share of processor time against other guests, from 1 to 65535. Xen's own default is 256.
        type: int
      cap:
        description: The most processor time that the guest may have, in percent of one processor. V(0) is no limit.
        type: int
      cpus:
        description:
          - Processors of the host on which the guest may run, for example V(2-3,^0), or V(node:0) for those of a NUMA
            node, where the guest's memory is taken from then. A list has one text for each virtual processor.
        type: raw
      cpus_soft:
        description: Processors of the host on which the guest runs preferably, as O(guests[].cpus) (Xen 4.5 and newer).
        type: raw
      pool:
        description: CPU pool of the host in which the guest runs.
        type: str
      seclabel:
        description: Security label of the guest for XSM.
        type: str
      disks:
        description: The guest's disks.
        type: list
        elements: dict
        suboptions:
          format:
            description: Format of the target. V(raw) is the default.
            type: str
            choices: [raw, qcow2, qcow, vhd, qed]
          vdev:
            description:
              - The device that the guest sees, for example V(xvda), V(hda) or V(xvda1).
              - Without it, the next free one of V(xvda), V(xvdb) and so on; for HVM guests V(hda) to V(hdd), then
                V(xvde).
            type: str
          access:
            description: Whether the guest may write to it. V(rw) is the default.
            type: str
            choices: [rw, ro]
          cdrom:
            description: Whether it is a CD-ROM, which needs no target while it is empty. V(false) is the default.
            type: bool
          backendtype:
            description:
              - What serves the disk. Without it, libxl chooses, but for a CD-ROM drive of the flavour V(linux), for
                which V(phy) is the default from Xen 4.19 on. Older releases refuse that for an HVM guest.
            type: str
            choices: [phy, qdisk, tap]
          backend:
            description: The domain that serves the disk (Xen 4.3 and newer). Without it, dom0.
            type: str
          script:
            description: Program that makes the target available, for example V(block-rbd) or V(block-iscsi).
            type: str
          discard:
            description: Whether the guest may give unused blocks back (Xen 4.5 and newer). Without it, libxl chooses.
            type: bool
          direct_io_safe:
            description: Whether the target is read and written past dom0's cache (Xen 4.5 and newer).
            type: bool
          target:
            description:
              - The file or block device in dom0, which has to exist.
              - With O(guests[].disks[].script), what that program understands; with
                O(guests[].disks[].backendtype=qdisk) it
                may be a protocol, as V(rbd:pool/image); with O(guests[].disks[].backend), a file of that domain.
            type: str
      nics:
        description: The guest's network interfaces.
        type: list
        elements: dict
        suboptions:
          mac:
            description: MAC address. Without one, each start makes up another.
            type: str
          bridge:
            description: Bridge in dom0.
            type: str
          model:
            description: Emulated model, for HVM guests.
            type: str
          ip:
            description: Addresses that the interface may use.
            type: str
          script:
            description: Program that connects the interface.
            type: str
          vifname:
            description: Name of the interface in dom0, of up to 15 characters.
            type: str
          type:
            description: V(vif) for an interface without an emulated one, V(ioemu) for both.
            type: str
            choices: [vif, ioemu]
          backend:
            description: The domain that serves the interface. Without it, dom0.
            type: str
          rate:
            description: The most that the guest may send, for example V(10Mb/s).
            type: str
          gatewaydev:
            description: Network interface of dom0 that packets leave by, for the script (Xen 4.3 and newer).
            type: str
          devid:
            description: Number of the interface (Xen 4.9 and newer). Without it, its place in the list.
            type: int
          mtu:
            description: The largest packet in bytes (Xen 4.15 and newer). Without it, that of the bridge.
            type: int
          trusted:
            description: Whether the guest may trust what serves the interface (Xen 4.17 and newer).
            type: bool
      vga:
        description: Graphics card of an HVM guest (Xen 4.3 and newer). Without it, V(cirrus).
        type: str
        choices: [cirrus, stdvga, qxl, none]
      videoram:
        description: Video memory of an HVM guest in MiB. Without it, what O(guests[].vga) needs.
        type: int
      hpet:
        description: Whether an HVM guest has a high precision event timer. Without it, libxl gives it one.
        type: bool
      viridian:
        description: Groups of interfaces of Hyper-V that an HVM guest with Windows finds, for example V(defaults).
        type: list
        elements: str
      smbios:
        description:
          - What an HVM guest finds in its SMBIOS tables, each as V(NAME=VALUE), for example
            V(system_serial_number=1234) (Xen 4.18 and newer).
        type: list
        elements: str
      smbios_firmware:
        description: A file with SMBIOS structures for an HVM guest (Xen 4.3 and newer).
        type: path
      tsc_mode:
        description: How the guest reads its time stamp counter. Without it, Xen chooses.
        type: str
        choices: [default, always_emulate, native, native_paravirt]
      timer_mode:
        description: What becomes of ticks that a PVH or HVM guest has missed. Without it, libxl chooses.
        type: str
        choices:
          - delay_for_missed_ticks
          - no_delay_for_missed_ticks
          - no_missed_ticks_pending
          - one_missed_tick_pending
      localtime:
        description: Whether the guest's clock is the host's local time, not UTC.
        type: bool
      rtc_timeoffset:
        description: How far the guest's clock is ahead of UTC, in seconds.
        type: int
      on_poweroff:
        description: What happens to the domain when the guest powers off. Without it, V(destroy).
        type: str
        choices: [destroy, restart, rename-restart, preserve, coredump-destroy, coredump-restart, soft-reset]
      on_reboot:
        description: What happens to the domain when the guest reboots. Without it, V(restart).
        type: str
        choices: [destroy, restart, rename-restart, preserve, coredump-destroy, coredump-restart, soft-reset]
      on_crash:
        description: What happens to the domain when the guest crashes. Without it, V(destroy).
        type: str
        choices: [destroy, restart, rename-restart, preserve, coredump-destroy, coredump-restart, soft-reset]
      options:
        description:
          - More keys of C(xl.cfg) as they are. Those that have a parameter are refused. A key that is null is left out,
            also where O(replace) would keep it.
          - Passwords in it, such as C(vncpasswd), are masked in the result.
        type: dict
      allow_weaker_isolation:
        description:
          - Whether O(guests[].options) of an HVM guest may have keys that lead past its stub domain, as C(pci),
            C(usbdev),
            C(vfb), C(spice), C(channel) and C(device_model_args) do. Without it, each is refused with what it would do.
            V(false) is the default.
          - With the flavour V(linux), QEMU stays root in the stub domain of a guest with C(pci). With an
            O(guests[].stubdomain_ramdisk) of your own it is yours to pass the devices.
        type: bool
      autostart:
        description:
          - Whether the guest is started with the host, by a link in C(auto) beside the configuration. V(false) is the
            default.
          - C(xendomains) starts guests in the order of these links' names, so that those of guests which
            O(guests[].start_after) orders begin with a number. It waits neither for O(guests[].says) nor for
            O(guests[].start_delay).
        type: bool
      path:
        description: The configuration. Without it, C(NAME.cfg) in O(directory).
        type: path
      mode:
        description:
          - Permission bits of the configuration, as an octal number in quotes.
          - Without it, a new file has V(0644) and one that is there keeps its own. A file that holds a password, such
            as
            C(vncpasswd) in O(guests[].options), has V(0600).
        type: raw
      owner:
        description:
          - Owner of the configuration, a name or number. Without it, it stays; that of a new file is the remote user.
        type: str
      group:
        description:
          - Group of the configuration, a name or number. Without it, it stays; that of a new file is the remote user's.
        type: str
      says:
        description:
          - Text that the guest has to write on its console (PV, PVH) or serial port (HVM) after it was started.
          - Until it was heard, every run with this parameter listens again.
        type: str
      wait_for:
        description:
          - Another condition that has to come after the guest was started, one of these. Until it has come, every run
            with this parameter waits again.
        type: dict
        suboptions:
          pattern:
            description:
              - Regular expression that a line on its console or serial port has to match, within its first 300
                characters.
              - Repeated groups, and more than two things that are repeated as often as they can, are refused.
            type: str
          state:
            description: State of its domain in the words of xl, or V(absent) where it has ended.
            type: str
            choices: [running, blocked, shutdown, crashed, absent]
          node:
            description: Node of xenstore that has a value, below that of the domain, for example V(data/ready).
            type: str
          port:
            description: TCP port that answers to dom0 at the guest's address.
            type: int
          address:
            description:
              - Whether dom0 has to know an address of the guest. It is returned as RV(guests[].address).
              - That is the O(guests[].nics[].ip) of an interface, what dom0's C(dnsmasq) has given its MAC address, or
                an IPv4 address under which dom0 has reached that MAC address.
            type: bool
      timeout:
        description: Seconds to wait for O(guests[].says) or O(guests[].wait_for). V(120) is the default.
        type: int
      live:
        description:
          - Whether changes that a running guest needs no restart for are made while it runs, with the state
            V(running). V(true) is the default.
          - That is so for O(guests[].memory) up to what the guest was started to have at the most, O(guests[].vcpus) up
            to O(guests[].maxvcpus), O(guests[].cpu_weight), O(guests[].cap), O(guests[].cpus), O(guests[].cpus_soft), a
            network interface more or less, and what lies in a CD-ROM drive. Network interfaces and processors of a
            guest with a stub domain stay as they are. Its CD-ROM drives are changed from Xen 4.20 on, with the
            flavour V(linux) and the image of the role xen.stubdom.stubdom_build.
          - What could not be changed is a warning, and stays in RV(guests[].restart_required).
        type: bool
      restart:
        description:
          - Whether a running guest whose configuration has changed, but for what O(guests[].live) changes, is stopped
            and started again, with the state V(running). V(false) is the default.
          - O(guests[].stop) says how it is stopped, and O(guests[].stop_timeout) how long that may take.
        type: bool
      stop:
        description:
          - How the guest is ended where that has to be. V(graceful) asks it to shut down, which is what happens without
            this parameter; V(force) ends it at once.
          - A running guest with the state V(absent) is ended only with this parameter.
        type: str
        choices: [graceful, force]
      stop_timeout:
        description: Seconds to wait for the guest's end, or for its new domain after a reboot. V(120) is the default.
        type: int
      start_after:
        description:
          - Names of guests of this list that have to be started before, and have to have written their
            O(guests[].says), or reached their O(guests[].wait_for).
          - Guests are stopped in the reverse order.
        type: list
        elements: str
      start_delay:
        description:
          - Seconds to wait before the guest is started, after those in O(guests[].start_after). V(0) is the default.
        type: int
  defaults:
    description:
      - Parameters of guests, for those that do not set them. Any parameter of O(guests) but C(name), C(uuid) and
        C(path).
    type: dict
    default: {}
  directory:
    description: Where the configurations are.
    type: path
    default: /etc/xen
  firmware_directory:
    description: Where libxl looks for images. Without it, the known directory that holds C(hvmloader).
    type: path
  replace:
    description:
      - Whether files that were not written by this module may be replaced or removed, and those of guests of another
        type with the same name.
      - A guest that is taken over so keeps its UUID, its MAC addresses and the keys that no parameter has, where the
        list does not set them. What it loses is a warning, and a copy of the file is kept.
    type: bool
    default: false
  backup:
    description: Whether to keep a copy of each file that is changed.
    type: bool
    default: false
  on_failure:
    description:
      - V(continue) starts the other guests after one has failed, but for those that are to start after it.
      - V(stop) starts no further guest.
    type: str
    choices: [continue, stop]
    default: continue
"""
