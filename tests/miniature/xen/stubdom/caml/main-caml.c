/* Copyright (c) The xen.stubdom authors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later */

#include <errno.h>
#include <stdio.h>

#include <caml/callback.h>
#include <caml/mlvalues.h>

/* Names that code for the host's C library has; it calls them, though. */
int *__errno_location;
void *__ctype_b_loc;

int main(int argc, char *argv[], char *envp[])
{
    value *hello;

    __errno_location = &errno;
    caml_startup(argv);
    hello = caml_named_value("main");
    if (!hello)
        return 1;
    caml_callback(*hello, Val_int(0));
    return 0;
}
