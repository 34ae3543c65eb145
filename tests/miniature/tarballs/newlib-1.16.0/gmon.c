/* Copyright (c) The xen.stubdom authors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later */

/* The end of the program's text, declared as it was in 1988. */
extern etext;

void *_gmon_end(void)
{
    return &etext;
}
