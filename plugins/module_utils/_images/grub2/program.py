# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: what GRUB 2 in a guest does before it has read a menu of the guest.
#
# Sources: grub-core/script/{parser.y,execute.c}, grub-core/commands/{wildcard,regexp,minicmd,syslinuxcfg}.c @ grub 2.06
# and 2.12; the Boot Loader Specification, and blscfg.c of Fedora's GRUB.

from __future__ import annotations

# Menus of GRUB 2, on a file system of their own or below /boot.
MENUS = ("/boot/grub/grub.cfg", "/grub/grub.cfg", "/boot/grub2/grub.cfg", "/grub2/grub.cfg")
# Menus of extlinux and syslinux; Alpine has them directly in the directory of the kernels.
SYSLINUX_MENUS = tuple(
    f"{directory}{menu}"
    for directory in ("/boot", "")
    for menu in ("/extlinux/extlinux.conf", "/extlinux.conf", "/syslinux/syslinux.cfg")
)
# Files of the Boot Loader Specification, one for each entry.
ENTRIES = ("/loader/entries", "/boot/loader/entries")

# Where the image keeps the menu that dom0 gives a guest, and the loader of Linux.
MENU = "menu.cfg"
LOADER = "linux.mod"

# Read before scripts are understood.
EARLY = "normal (memdisk)/grub.cfg\n"
EARLY_ON_CD = "normal (cd)/menu.cfg\n"

# GRUB runs a command before a function of the same name, and knows no function in a function. So the words of an entry
# of the Boot Loader Specification are functions here, two of which are seen while the loader of Linux is not there:
# Fedora's command blscfg is no part of upstream's GRUB (up to 2.12), but guests call it.
# The newest kernel comes first, as with that command: numbers are filled up with zeros and compared as text.
PROGRAM = f"""\
function linux16 {{ linux "$@"; }}
function linuxefi {{ linux "$@"; }}
function initrd16 {{ initrd "$@"; }}
function initrdefi {{ initrd "$@"; }}

function title {{ set bls_title="$*"; }}
function linux {{ set bls_linux="$1"; }}
function initrd {{ set bls_initrd="$bls_initrd $*"; }}
function options {{ set bls_options="$bls_options $*"; }}
function version {{ true; }}
function architecture {{ true; }}
function id {{ true; }}
function grub_users {{ true; }}
function grub_arg {{ true; }}
function grub_class {{ true; }}
function grub_hotkey {{ true; }}

function bls_order {{
  set a=; set b=; set c=; set d=; set e=
  regexp --set=1:a --set=2:b --set=3:c --set=4:d --set=5:e \\
    '[-]([0-9]+)[.]([0-9]+)[.]([0-9]+)-?([0-9]*)[.]?([0-9]*)[^/]*$' "$1"
  regexp --set=1:a '(.....)$' "00000$a"
  regexp --set=1:b '(.....)$' "00000$b"
  regexp --set=1:c '(.....)$' "00000$c"
  regexp --set=1:d '(.....)$' "00000$d"
  regexp --set=1:e '(.....)$' "00000$e"
  set order="$a$b$c$d$e$1"
}}

function bls_entry {{
  set bls_title=; set bls_linux=; set bls_initrd=; set bls_options=
  regexp --set=1:bls_id '([^/]*)[.]conf$' "$1"
  source "$1"
  if [ -z "$bls_title" ]; then set bls_title="$bls_id"; fi
  if [ -n "$bls_linux" ]; then
    menuentry "$bls_title" --id "$bls_id" "$bls_linux" "$bls_options" "$bls_initrd" {{
      linux "$2" $3
      if [ -n "$4" ]; then initrd $4; fi
    }}
  fi
}}

function blscfg {{
  rmmod linux
  for directory in {" ".join(ENTRIES)}; do
    set last="~"
    set next=" "
    while [ -n "$next" ]; do
      set next=
      for file in ($root)$directory/*.conf; do
        if [ -f "$file" ]; then
          bls_order "$file"
          if [ "$order" "<" "$last" -a "$order" ">" "$next" ]; then
            set next="$order"; set newest="$file"
          fi
        fi
      done
      if [ -n "$next" ]; then
        bls_entry "$newest"
        set last="$next"
      fi
    done
  done
  insmod (memdisk)/{LOADER}
}}

insmod (memdisk)/{LOADER}
source (memdisk)/{MENU}
if [ "$menu" != dom0 ]; then
  for device in (*); do
    regexp --set=1:root '^[(](.*)[)]$' "$device"
    for path in {" ".join(MENUS)}; do
      if [ -f "$device$path" ]; then
        regexp --set=1:directory '^(.*)/[^/]*$' "$path"
        set prefix="$device$directory"
        echo "GRUB reads $device$path."
        configfile "$device$path"
      fi
    done
  done
  set prefix=(memdisk)
  for device in (*); do
    regexp --set=1:root '^[(](.*)[)]$' "$device"
    for path in {" ".join(SYSLINUX_MENUS)}; do
      if [ -f "$device$path" ]; then
        echo "GRUB reads $device$path."
        syslinux_configfile "$device$path"
      fi
    done
  done
  set menu=none
  for device in (*); do
    if [ $menu = none -a -d "$device{ENTRIES[0]}" -o $menu = none -a -d "$device{ENTRIES[1]}" ]; then
      regexp --set=1:root '^[(](.*)[)]$' "$device"
      set menu=entries
      set timeout=2
      echo "GRUB reads the entries of $device."
      blscfg
    fi
  done
  if [ $menu = none ]; then
    echo "GRUB found no menu on the disks of this guest: no {" and no ".join(MENUS)}."
  fi
fi
"""
