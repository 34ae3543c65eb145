# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# stubdom/Makefile looks whether this file is there, to know whether Mini-OS is.
OBJ_DIR ?= $(CURDIR)
APP_OBJS ?=
XEN_TARGET_ARCH ?= x86_64
CC := gcc
