# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# What every Makefile of the tree includes. XEN_ROOT is set by the one that does.
XEN_COMPILE_ARCH := x86_64
XEN_TARGET_ARCH ?= $(XEN_COMPILE_ARCH)
XEN_OS ?= $(shell uname -s)

-include $(XEN_ROOT)/config/Tools.mk

CC := gcc
AR := ar
LD := ld
GIT ?= git
ifeq ($(XEN_TARGET_ARCH),x86_32)
CC += -m32
endif

# The environment's CFLAGS are kept, those of make's command line would replace all that follows.
CFLAGS += -std=gnu99 -Wall -fno-strict-aliasing
EMBEDDED_EXTRA_CFLAGS := -fno-pie -fno-stack-protector -fno-exceptions -fno-asynchronous-unwind-tables

# Nobody listens on these: what is not given is not found.
XEN_EXTFILES_URL ?= http://127.0.0.1:9/xen-extfiles
MINIOS_UPSTREAM_URL ?= git://127.0.0.1/mini-os.git
MINIOS_UPSTREAM_REVISION ?= xen-RELEASE-4.@MINOR@.0
QEMU_TRADITIONAL_URL ?= git://127.0.0.1/qemu-xen-traditional.git
QEMU_TRADITIONAL_REVISION ?= xen-4.@MINOR@.0
QEMU_TRADITIONAL_INTREE ?= $(XEN_ROOT)/tools/qemu-xen-traditional
QEMU_TRADITIONAL_LOC ?= $(or $(wildcard $(QEMU_TRADITIONAL_INTREE)),$(QEMU_TRADITIONAL_URL))
