# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """Options of the modules that change the Xen command line."""

    DOCUMENTATION = r"""
options:
  loader:
    description:
      - The boot loader. V(auto) selects the one that is installed, and of several the one with an entry for Xen.
      - V(grub2) is GRUB 2 as Debian, Ubuntu, Fedora, RHEL, openSUSE, Arch, Alpine and Gentoo configure it.
      - V(efi_cfg) is C(xen.cfg), which C(xen.efi) reads when the firmware or systemd-boot starts it.
      - V(extlinux) is C(/etc/update-extlinux.conf) of Alpine, or a menu of extlinux or syslinux that is kept by hand.
      - V(grub_legacy) is C(menu.lst) of GRUB 0.97, with the comments that Debian's update-grub keeps there.
    type: str
    choices: [auto, grub2, efi_cfg, extlinux, grub_legacy]
    default: auto
  root:
    description:
      - The file tree whose files are changed, for example the mount point of an image that is being built.
      - In another tree than V(/), nothing of the tree is run and the loader's configuration is not generated;
        RV(unchecked) lists what could not be checked. A file that C(sh -n) rejects is refused. To have the tree's own
        programs run, run the module in a chroot of the tree instead.
    type: path
    default: /
  regenerate:
    description:
      - Whether the loader's configuration is generated again where it does not pass what the files contain. What it
        passes is then verified.
      - With V(false), the host may be one on which no hypervisor is installed yet.
    type: bool
    default: true
  backup:
    description:
      - Whether to keep a copy of each file that is changed, and of the loader's configuration where that is generated
        again.
    type: bool
    default: false
"""

    ENTRIES = r"""
options:
  entries:
    description:
      - Which entries for Xen are changed where the loader's own menu is edited. That is C(xen.cfg), whose sections are
        entries, C(menu.lst) of GRUB 0.97, and a menu of GRUB 2, extlinux or syslinux that no program has written.
      - V(all) changes all of them.
      - V(default) changes only the entry that the next boot starts, as RV(effective) shows it; one that is selected for
        the next boot alone counts. It is refused where that entry does not start Xen, where it is not known, and where
        a program writes the menu, as all entries have their options in common there.
    type: str
    choices: [all, default]
    default: all
"""
