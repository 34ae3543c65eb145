#!/bin/sh
# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# git-checkout.sh REPOSITORY REVISION DIRECTORY: clones into DIRECTORY-remote; DIRECTORY is a link to it.
set -e
if [ ! -d "$3-remote" ]; then
	mkdir -p "$(dirname "$3")"
	rm -rf "$3-remote.tmp"
	$GIT clone --quiet "$1" "$3-remote.tmp"
	$GIT -C "$3-remote.tmp" checkout --quiet -b dummy "$2"
	mv "$3-remote.tmp" "$3-remote"
fi
rm -f "$3"
ln -s "$(basename "$3")-remote" "$3"
