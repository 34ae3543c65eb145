/* Copyright (c) The xen.stubdom authors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later */

/* A kernel that offers a program a few calls (write, sleep, _exit, an fcntl that knows nothing), runs it and switches its domain off, unless the
 * command line has the word "stay": then the domain goes on, so that others can look at it.
 *
 * It has no interrupts: events stay masked, as the domain builder leaves them, and waiting is polling. A fault ends the
 * domain at once, since the hypervisor has no handler to give it to; `xl dmesg` then shows the registers. */

#include <stddef.h>
#include <stdint.h>

#include "xen_abi.h"

int main(int argc, char *argv[]);

static const struct start_info *start;
static struct console_ring *console;
static int stay;
extern volatile struct vcpu_info shared_info_page; /* that of the first processor begins the page */

/* Nanoseconds since the hypervisor was started. */
static uint64_t now(void)
{
    volatile struct vcpu_info *info = &shared_info_page;
    uint32_t version;
    uint64_t time;

    do {
        uint32_t low, high;
        uint64_t delta;

        version = info->time_version;
        __asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
        delta = ((uint64_t)high << 32 | low) - info->tsc_timestamp;
        delta = info->tsc_shift < 0 ? delta >> -info->tsc_shift : delta << info->tsc_shift;
        time = info->system_time + (uint64_t)((unsigned __int128)delta * info->tsc_to_system_mul >> 32);
    } while (version & 1 || version != info->time_version);
    return time;
}

static void wait(uint64_t nanoseconds)
{
    struct sched_poll poll = {.timeout = now() + nanoseconds};

    hypercall(HYPERVISOR_SCHED_OP, SCHEDOP_POLL, (unsigned long)&poll, 0);
}

static void tell_console_daemon(void)
{
    uint32_t port = start->console_event;

    hypercall(HYPERVISOR_EVENT_CHANNEL_OP, EVTCHNOP_SEND, (unsigned long)&port, 0);
}

/* Waits until no more than *left* bytes are unread. A daemon that reads nothing for ten seconds is not waited for. */
static int wait_for_reader(uint32_t left)
{
    const volatile struct console_ring *ring = console;

    for (int tries = 0; ring->out_prod - ring->out_cons > left; tries++) {
        if (tries == 1000)
            return 0;
        wait(10000000);
    }
    return 1;
}

static void put(char byte)
{
    if (!wait_for_reader(sizeof console->out - 1))
        return;
    console->out[console->out_prod % sizeof console->out] = byte;
    __asm__ volatile("" : : : "memory"); /* x86 keeps the order of stores; the compiler has to as well */
    console->out_prod++;
}

long write(int descriptor, const void *buffer, size_t length)
{
    const char *bytes = buffer;

    (void)descriptor;
    for (size_t i = 0; i < length; i++) {
        if (bytes[i] == '\n')
            put('\r');
        put(bytes[i]);
    }
    tell_console_daemon();
    return (long)length;
}

unsigned sleep(unsigned seconds)
{
    uint64_t end = now() + seconds * 1000000000ull;

    while (now() < end)
        wait(end - now());
    return 0;
}

int fcntl(int descriptor, int command, ...)
{
    (void)descriptor;
    (void)command;
    return -1;
}

void _exit(int status)
{
    uint32_t reason = status ? SHUTDOWN_CRASH : SHUTDOWN_POWEROFF;

    wait_for_reader(0);
    while (stay)
        sleep(60);
    for (;;)
        hypercall(HYPERVISOR_SCHED_OP, SCHEDOP_SHUTDOWN, (unsigned long)&reason, 0);
}

#define MAX_ARGUMENTS 32

static int same(const char *one, const char *other)
{
    while (*one && *one == *other)
        one++, other++;
    return *one == *other;
}

/* Splits the command line in place, as Mini-OS does: "main" stands for the program's name. */
static int arguments(char *line, char *argv[MAX_ARGUMENTS + 1])
{
    int argc = 0;

    argv[argc++] = "main";
    while (*line && argc < MAX_ARGUMENTS) {
        while (*line == ' ')
            *line++ = 0;
        if (*line)
            argv[argc++] = line;
        while (*line && *line != ' ')
            line++;
    }
    argv[argc] = NULL;
    return argc;
}

void kernel(const struct start_info *info)
{
    static char line[sizeof info->command_line];
    static char *argv[MAX_ARGUMENTS + 1];
    int argc;

    start = info;
    console = (struct console_ring *)(MACHINE_TO_PHYS[info->console_mfn] << 12);
    for (size_t i = 0; i < sizeof line - 1; i++)
        line[i] = info->command_line[i];
    if (hypercall(HYPERVISOR_UPDATE_VA_MAPPING, (unsigned long)&shared_info_page,
                  info->shared_info | PAGE_PRESENT | PAGE_WRITE | PAGE_USER, UVMF_INVLPG))
        __builtin_trap();
    argc = arguments(line, argv);
    for (int i = 1; i < argc; i++)
        stay |= same(argv[i], "stay");
    _exit(main(argc, argv));
}
