/* Copyright (c) The xen.stubdom authors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later */

#include "graphics.h"
#include <polarssl/sha1.h>
#include <stdio.h>
#include <xenguest.h>

int arp_asks_for(const char *asked, unsigned own);
int tftp_is_next(unsigned short block, unsigned short prevblock);

int main(int argc, char *argv[])
{
    printf("The miniature speaks: pv-grub %s, %u blocks, %d words, pixel %u, address %d, block %d\n",
           argv[1] ? argv[1] : "(no menu)", sha1_blocks(100), xc_cpuid_words(), graphics_pixel(),
           arp_asks_for("abcd", 0x64636261), tftp_is_next(0, argc ? 65535 : 1));
    return 0;
}
