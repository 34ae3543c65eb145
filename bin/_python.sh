# shellcheck shell=sh
# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# To be sourced: sets $python to Debian's own Python, which is installed first where it is missing.

python=/usr/bin/python3

if ! "$python" -c 'import ensurepip, venv' 2> /dev/null; then
    echo "$(basename "$0"): installs the Debian packages python3 python3-venv" >&2
    as_root=
    [ "$(id -u)" = 0 ] || as_root=sudo
    if ! { $as_root apt-get -q update && $as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -q -y --no-install-recommends install python3 python3-venv; } >&2; then
        echo "$(basename "$0"): Python could not be installed." >&2
        echo "Install the Debian packages python3 and python3-venv, or run this as root, on Debian 12 or newer." >&2
        exit 1
    fi
fi
