/* Copyright (c) The xen.stubdom authors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later */

int tftp_is_next(unsigned short block, unsigned short prevblock);

/* As in GRUB 0.97: the sum is an int, which is never 0. */
int tftp_is_next(unsigned short block, unsigned short prevblock)
{
    if (block != prevblock + (unsigned short) 1)
        return 0;
    return 1;
}
