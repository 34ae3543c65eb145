/* Copyright (c) The xen.stubdom authors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later */

/* The few parts of Xen's interface to x86-64 paravirtual guests that are used here, after xen/include/public. */

#ifndef XEN_ABI_H
#define XEN_ABI_H

#include <stdint.h>

enum { HYPERVISOR_UPDATE_VA_MAPPING = 14, HYPERVISOR_SCHED_OP = 29, HYPERVISOR_EVENT_CHANNEL_OP = 32 };
enum { SCHEDOP_SHUTDOWN = 2, SCHEDOP_POLL = 3 };
enum { SHUTDOWN_POWEROFF = 0, SHUTDOWN_CRASH = 3 };
enum { EVTCHNOP_SEND = 4 };
enum { UVMF_INVLPG = 2 };
enum { PAGE_PRESENT = 1, PAGE_WRITE = 2, PAGE_USER = 4 };

/* The table machine page → page of the domain, which every guest may read. */
#define MACHINE_TO_PHYS ((const uint64_t *)0xffff800000000000)

struct start_info {
    char magic[32];
    uint64_t nr_pages;
    uint64_t shared_info; /* machine address */
    uint32_t flags;
    uint64_t store_mfn;
    uint32_t store_event;
    uint64_t console_mfn;
    uint32_t console_event;
    uint64_t pt_base;
    uint64_t nr_pt_frames;
    uint64_t mfn_list;
    uint64_t mod_start;
    uint64_t mod_len;
    char command_line[1024];
};

struct vcpu_info {
    uint8_t upcall_pending;
    uint8_t upcall_mask;
    uint64_t pending_selector;
    uint64_t arch[2];
    uint32_t time_version; /* odd while the hypervisor writes the fields below */
    uint32_t padding;
    uint64_t tsc_timestamp;
    uint64_t system_time; /* nanoseconds */
    uint32_t tsc_to_system_mul;
    int8_t tsc_shift;
};

struct console_ring {
    char in[1024];
    char out[2048];
    uint32_t in_cons, in_prod;
    uint32_t out_cons, out_prod;
};

struct sched_poll {
    uint32_t *ports;
    uint32_t nr_ports;
    uint64_t timeout; /* of system_time; 0 is never */
};

long hypercall(unsigned number, unsigned long a, unsigned long b, unsigned long c);

#endif
