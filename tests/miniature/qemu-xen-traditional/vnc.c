/* Copyright (c) The xen.stubdom authors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later */

int vnc_display(void)
{
    /* As in qemu-xen-traditional: nobody declared it, an error for gcc 14. */
    return networking_set_addr();
}

int networking_set_addr(void)
{
    return 0;
}
