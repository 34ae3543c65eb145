/* Copyright (c) The xen.stubdom authors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later */

#ifndef POSIX_UNISTD_H
#define POSIX_UNISTD_H

#include <stddef.h>

/* The three calls of the kernel. */
long write(int descriptor, const void *buffer, size_t length);
unsigned sleep(unsigned seconds);
void _exit(int status) __attribute__((noreturn));

#endif
