/* Copyright (c) The xen.stubdom authors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <signal.h>

/* A constant until glibc 2.34, which also undoes what the command line says of it. */
static char sig_alt_stack[SIGSTKSZ];

char *caml_signal_stack(void)
{
    return sig_alt_stack;
}
