/* Copyright (c) The xen.stubdom authors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later */

#include <stdio.h>
#include <xenguest.h>

int vnc_display(void);
int qemu_chr_open_pty(void);

int main(int argc, char *argv[])
{
    printf("The miniature speaks: ioemu of domain %s, %d words\n", argc > 1 ? argv[argc - 1] : "(none)", xc_cpuid_words());
    return vnc_display() + qemu_chr_open_pty();
}
