/* Copyright (c) The xen.stubdom authors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later */

/* Needs headers that only a configured tools/ has, as the library of that name does. */
#include "config.h"
#include <xen/lib/x86/cpuid-autogen.h>
#include <xenguest.h>

const char *xc_run_directory = XEN_RUN_DIR;

int xc_cpuid_words(void)
{
    return CPUID_WORDS;
}
