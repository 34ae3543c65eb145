/* Copyright (c) The xen.stubdom authors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later */

/* The program that runs when no other is given: says the words of the command line. */

#include <stddef.h>

long write(int descriptor, const void *buffer, size_t length);

static void say(const char *text)
{
    size_t length = 0;

    while (text[length])
        length++;
    write(1, text, length);
}

int main(int argc, char *argv[])
{
    for (int i = 1; i < argc; i++) {
        say(argv[i]);
        say(i + 1 < argc ? " " : "\n");
    }
    return 0;
}
