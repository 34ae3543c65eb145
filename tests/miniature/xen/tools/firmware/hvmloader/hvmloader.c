/* Copyright (c) The xen.stubdom authors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later */

/* The names of the BIOSes that a guest may ask for. */
const char *const bioses[] = {
#ifdef ENABLE_ROMBIOS
    "ROMBIOS",
#endif
    "SeaBIOS",
};
