#!/usr/bin/python

# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: guests
short_description: Configure, start and stop the guests of a Xen host
version_added: 0.1.0
description:
  - Writes the configurations of all guests of a host from typed parameters, and starts and stops the guests, in one
    execution for the whole list.
  - All guests are planned before anything is written. What this release of Xen cannot do, or would ignore, is refused
    for all guests at once, each with what to do, and nothing is changed.
  - On a host that runs Xen, C(xl create --dryrun) reads what is to be written before it is. What xl refuses is refused,
    and what it says to ignore is a warning.
  - The files are changed in one transaction. Guests are then stopped and started in their order; their consoles are
    listened to at the same time. A guest that fails is named, and the others are not affected.
  - A guest is started paused, so that nothing it writes is lost, and let go when its console is open. A guest that an
    interrupted run has left paused is let go by the next run.
  - A guest's UUID is made of its name, so that its domain is not mistaken for another one with that name.
author:
  - The xen.stubdom authors (@xen-stubdom)
extends_documentation_fragment:
  - xen.stubdom.attributes
attributes:
  check_mode:
    support: full
    details: What an earlier task would make, such as an image, is a warning.
  diff_mode:
    support: full
  idempotent:
    support: partial
    details: A guest that ends by itself is started again; V(restarted) and V(rebooted) do so each time.
  platform:
    support: full
    platforms: linux
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
          - V(saved) writes the guest's memory to C(/var/lib/xen/saved/NAME.save), from where V(running) goes on. Guests
            with a stub domain cannot be saved. What is there of a guest that has run since is discarded, as it does not
            fit the guest's disks any more.
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
          - An HVM guest has one only with V(dom0), as QEMU would look for the file in the stub domain.
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
      cmdline:
        description:
          - Options for the kernel of a PV or PVH guest (V(grub2)). GRUB 2 itself reads nothing of it before release
            2.14, and then variables of its environment whose names begin with C(xen_grub_env_).
        type: str
      ramdisk:
        description: Initial RAM disk of the kernel of a PV or PVH guest (V(grub2)).
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
      stubdomain_memory:
        description:
          - Memory of the stub domain in MiB. Without it, what its image is recorded to need, or else what libxl gives.
        type: int
      stubdomain_kernel:
        description: Kernel of the stub domain. Without it, the one in the firmware directory.
        type: path
      stubdomain_ramdisk:
        description: Root file system of the Linux stub domain. Without it, the one in the firmware directory.
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
            description: What serves the disk. Without it, libxl chooses.
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
            network interface more or less, and what lies in a CD-ROM drive. Network interfaces, CD-ROM drives and
            processors of a guest with a stub domain stay as they are.
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
seealso:
  - module: xen.stubdom.xen_info
"""

EXAMPLES = r"""
- name: Run a PV guest that boots with GRUB 2 from its own disk, and an HVM guest whose QEMU runs in a stub domain
  xen.stubdom.guests:
    defaults:
      state: running
      autostart: true
    guests:
      - name: web
        type: pv
        memory: 512
        disks:
          - target: /srv/guests/web.img
        nics:
          - bridge: xenbr0
        says: "web login:"
        timeout: 300
      - name: files
        type: hvm
        memory: 1024
        disks:
          - target: /srv/guests/files.img
        start_after: [web]

- name: Shut a guest down whose configuration another program has written
  xen.stubdom.guests:
    guests:
      - name: old
        state: stopped

- name: Stop a guest at once, and remove its configuration
  xen.stubdom.guests:
    guests:
      - name: web
        state: absent
        stop: force
"""

RETURN = r"""
guests:
  description: The guests, in the order of the list.
  type: list
  elements: dict
  returned: when no guest was refused
  contains:
    name: {description: Name., type: str, sample: web}
    path: {description: The configuration., type: str, sample: /etc/xen/web.cfg}
    changed: {description: Whether anything was changed for this guest., type: bool, sample: true}
    actions:
      description: What was done, in order.
      type: list
      elements: str
      choices:
        - written
        - removed
        - linked
        - unlinked
        - stopped
        - started
        - restarted
        - restored
        - paused
        - unpaused
        - rebooted
        - saved
        - discarded
        - changed
      sample: [written, started]
    settings:
      description: The keys of the configuration, passwords masked; empty where there is none.
      type: dict
      sample: {name: web, type: pv, memory: 512}
    dropped:
      description:
        - What the guest loses as O(replace) takes its configuration over, by parameter; keys that no parameter has, as
          they are. Passwords are masked.
      type: dict
      sample: {vcpus: 4, options.bootloader: pygrub}
    grub_names:
      description: What legacy PV-GRUB calls each disk.
      type: dict
      sample: {xvda: (hd0)}
    type_reason:
      description: Why the guest has its type, where O(guests[].type) was left out for a guest with GRUB 2; else empty.
      type: str
      sample: The hypervisor runs PVH guests, which unpack their kernels themselves.
    autostart: {description: Whether the guest is started with the host., type: bool, sample: false}
    needed_mib:
      description: Memory that the host has to have free to start the guest, in MiB, its stub domain included.
      type: int
      sample: 514
    state:
      description:
        - The guest's state in the words of xl, or V(absent) where there is no such domain.
        - In check mode, the state that the guest would be in.
      type: str
      sample: blocked
    domid: {description: Number of the domain; null where there is none., type: int, sample: 3}
    device_model:
      description:
        - Where the guest's device model runs, as M(xen.stubdom.xen_info) returns it; null for a guest without one.
      type: dict
      sample: {version: qemu-xen, domid: 4, state: running, stub_domain: true}
    said:
      description: Whether the guest wrote its text, or what it was waited for came; null where it was not waited for.
      type: bool
      sample: true
    address:
      description: The address of the guest, where it was waited for; null else.
      type: str
      sample: 192.0.2.7
    console:
      description: The last of what the guest wrote on its console or serial port while it was listened to.
      type: str
      sample: "web login:"
    hypervisor_log:
      description:
        - What the hypervisor has logged since the start, but for lines about other domains and those of every start.
      type: list
      elements: str
      sample: []
    toolstack_log:
      description: What xl has said of a start that failed.
      type: list
      elements: str
      sample: []
    restart_required:
      description:
        - The keys in which the configuration differs from the one that the guest runs with; V(unknown) where it is
          known
          only that it differs.
      type: list
      elements: str
      sample: [memory]
    changed_live:
      description: The keys that were changed while the guest ran, in check mode those that would be.
      type: list
      elements: str
      sample: [vcpus]
    seconds:
      description: How long C(xl create) took; null where nothing was started.
      type: float
      sample: 9.8
    failed: {description: Whether this guest is not as asked for., type: bool, sample: false}
    msg: {description: Why it is not; empty where it is., type: str, sample: ""}
acted:
  description: Names of the guests that were started, stopped or otherwise changed as domains.
  type: list
  elements: str
  returned: when no guest was refused
  sample: [web]
restart_required:
  description: Names of the guests that run with an older configuration.
  type: list
  elements: str
  returned: when no guest was refused
  sample: []
memory:
  description: Memory of the host before guests were started, in MiB; null where Xen does not run.
  type: dict
  returned: when no guest was refused
  contains:
    free_mib: {description: Memory that no domain had., type: int, sample: 2900}
    needed_mib: {description: What the guests that were to be started needed together., type: int, sample: 514}
saved_at_shutdown:
  description:
    - The settings of C(xendomains) by which the host would try to save guests with a stub domain when it goes down,
      which fails; null where it does not, or there are none.
  type: str
  returned: when no guest was refused
  sample: /etc/default/xendomains
backup_files:
  description: Path of the copy by path of the file.
  type: dict
  returned: with O(backup=true), or when a file was replaced that another program or administrator has written
  sample: {/etc/xen/web.cfg: "/etc/xen/web.cfg.123.2026-01-31@12:00:00~"}
"""

import contextlib
from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.stubdom.plugins.module_utils._common import files, masking
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import Several
from ansible_collections.xen.stubdom.plugins.module_utils._common.module import run_module
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import run_program
from ansible_collections.xen.stubdom.plugins.module_utils._guests import (
    acting,
    host,
    items,
    lives,
    spec,
    wanted,
)
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen


def run(module: AnsibleModule) -> Dict[str, Any]:
    params, check_mode = module.params, module.check_mode
    xen = Xen(run_program)
    options = items.Options(params["replace"], params["backup"], check_mode)
    asked = wanted.read(params)

    backups: Dict[str, str] = {}
    with contextlib.nullcontext() if check_mode else files.lock():
        observed = host.observe(xen, params["firmware_directory"])
        listed = items.plan_all(observed, asked, options, module.no_log_values.update)
        items.refuse(listed)
        memory = items.memory(listed, observed)
        saving = items.saved_at_shutdown(listed, observed)
        if not check_mode:
            backups = items.write(listed, options, later=False)
    if check_mode:
        acting.foresee(listed)
    else:
        if observed.running and any(change.needed for change in items.changes(listed)):
            # What was written may be what a guest has to be started again for.
            items.look_again(xen, listed)
        acting.act(xen, listed, stop_on_failure=params["on_failure"] == "stop")
        backups.update(items.write(listed, options, later=True))

    guests = [describe(item, check_mode=check_mode) for item in listed]
    result: Dict[str, Any] = {
        "changed": any(guest["changed"] for guest in guests),
        "guests": guests,
        "acted": [item.name for item in listed if set(item.done) - lives.QUIET],
        "restart_required": [guest["name"] for guest in guests if guest["restart_required"]],
        "memory": memory,
        "saved_at_shutdown": saving,
        "diff": files.difference(items.changes(listed)),
    }
    if params["backup"] or backups:
        result["backup_files"] = backups
    failed = {item.name: item.failure for item in listed if item.failure is not None}
    if failed:
        others = "; the others are as asked for." if len(listed) > 1 else "."
        count = f"{len(failed)} of {len(listed)} guest{'s' if len(listed) > 1 else ''}"
        raise Several(f"{count} failed{others}", failed, result)
    result["warnings"] = [warning for item in listed for warning in item.warnings]
    return result


def describe(item: items.Item, *, check_mode: bool) -> Dict[str, Any]:
    """What is returned about a guest, in check mode that which would be."""
    steps = item.steps if check_mode else item.done
    names = (lives.actions(steps), item.written_names())
    actions = [name for part in (names if item.deferred else reversed(names)) for name in part]
    facts = dict(item.guest.facts)
    if check_mode:
        facts["changed_live"] = [*item.guest.changes] if "change" in steps else []
        left = set(facts["restart_required"]) - set(facts["changed_live"])
        facts["restart_required"] = [] if "start" in steps else sorted(left)
    return {
        "name": item.name,
        "path": item.wanted.path,
        "changed": bool(actions),
        "actions": actions,
        "settings": masking.masked(item.settings),
        "dropped": masking.masked(item.dropped),
        "grub_names": item.grub_names,
        "type_reason": item.type_reason,
        "autostart": item.autostart,
        "needed_mib": item.needed_mib,
        **facts,
        "state": lives.predicted(item.guest, item.wanted, steps) if check_mode else facts["state"],
        "failed": item.failure is not None,
        "msg": "" if item.failure is None else str(item.failure),
    }


ARGUMENTS: Dict[str, Any] = {
    "guests": {"type": "list", "elements": "dict", "default": [], "options": spec.argument_spec()},
    "defaults": {"type": "dict", "default": {}},
    "directory": {"type": "path", "default": "/etc/xen"},
    "firmware_directory": {"type": "path"},
    "replace": {"type": "bool", "default": False},
    "backup": {"type": "bool", "default": False},
    "on_failure": {"type": "str", "choices": ["continue", "stop"], "default": "continue"},
}


def main() -> None:
    run_module(run, argument_spec=ARGUMENTS, supports_check_mode=True)


if __name__ == "__main__":
    main()
