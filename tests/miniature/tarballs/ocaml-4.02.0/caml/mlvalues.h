/* Copyright (c) The xen.stubdom authors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later */

#ifndef CAML_MLVALUES_H
#define CAML_MLVALUES_H

typedef long value;
#define Val_int(x) (((long)(x) << 1) + 1)

#endif
