/* Copyright (c) The xen.stubdom authors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later */

#include <caml/callback.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>

/* Before gcc 10, two of these became one. */
void *caml_code_fragments_table;

extern const char caml_program[];

void caml_startup(char **argv)
{
    int level;

    if (argv[1] && isdigit((unsigned char)argv[1][0]) && sscanf(argv[1], "%d", &level) != 1)
        printf("errno %d\n", errno);
}

value *caml_named_value(const char *name)
{
    static value main_function;

    return name[0] == 'm' ? &main_function : NULL;
}

value caml_callback(value closure, value argument)
{
    (void)closure;
    puts(caml_program);
    return argument;
}
