/* Copyright (c) The xen.stubdom authors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later */

int arp_asks_for(const char *asked, unsigned own);

/* As in GRUB 0.97: four bytes of a long are set, and all of it is compared. */
int arp_asks_for(const char *asked, unsigned own)
{
    unsigned long tmp;
    char *byte = (char *)&tmp;

    while (byte < (char *)&tmp + 3)
        *byte++ = *asked++;
    return tmp == own;
}
