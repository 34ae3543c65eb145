/* Copyright (c) The xen.stubdom authors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later */

#include "graphics.h"
#include <polarssl/sha1.h>
#include <stdio.h>
#include <xenguest.h>

int main(int argc, char *argv[])
{
    (void)argc;
    printf("The miniature speaks: pv-grub %s, %u blocks, %d words, pixel %u\n", argv[1] ? argv[1] : "(no menu)",
           sha1_blocks(100), xc_cpuid_words(), graphics_pixel());
    return 0;
}
