/* Copyright (c) The xen.stubdom authors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later */

#include <signal.h>

/* A constant until glibc 2.34. */
static char sig_alt_stack[SIGSTKSZ];

char *caml_signal_stack(void)
{
    return sig_alt_stack;
}
