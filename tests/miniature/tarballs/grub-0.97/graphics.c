/* Copyright (c) The xen.stubdom authors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later */

#include "graphics.h"
#include <stdint.h>

static unsigned char palette[4] = {7};

unsigned graphics_pixel(void)
{
    uint32_t *pixel;

    /* As in GRUB 0.97: an error for gcc 14. */
    pixel = palette;
    return *pixel;
}
