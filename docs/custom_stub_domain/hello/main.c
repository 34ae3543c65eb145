/* Copyright (c) The xen.stubdom authors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later */

#include <stdio.h>
#include <unistd.h>

int main(int argc, char *argv[])
{
    printf("Hello from a stub domain of my own\n");
    for (int i = 1; i < argc; i++)
        printf("  my command line has: %s\n", argv[i]);
    for (;;)
        sleep(60);
}
