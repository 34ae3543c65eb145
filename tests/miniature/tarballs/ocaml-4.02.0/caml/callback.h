/* Copyright (c) The xen.stubdom authors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later */

#ifndef CAML_CALLBACK_H
#define CAML_CALLBACK_H

#include <caml/mlvalues.h>

void caml_startup(char **argv);
value *caml_named_value(const char *name);
value caml_callback(value closure, value argument);

#endif
