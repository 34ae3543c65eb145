/*
 * Copyright (c) The xen.stubdom authors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Loaded before the C library (LD_PRELOAD): counts the system calls that touch files below some directories, over all
 * processes that share the state file $FAULT_STATE, and has the one with a chosen number go wrong.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

/* tests/faults/matrix.py writes and reads this as "=qqiii256s256s". */
struct state {
    long long count;    /* calls so far */
    long long at;       /* number of the call that goes wrong, from 1 on; 0 for none */
    int error;          /* errno that it gives; 0 for a signal */
    int number;         /* signal that the session gets */
    int mode;           /* 0: once, 1: from there on, 2: half of a write, then the error from there on */
    char prefixes[256]; /* the directories, separated by colons */
    char call[256];     /* what went wrong */
} __attribute__((packed));

static struct state *state;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("FAULT_STATE");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *memory = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (memory != MAP_FAILED)
        state = memory;
}

static int below(const char *path)
{
    const char *prefix = state->prefixes;
    while (*prefix) {
        size_t length = strcspn(prefix, ":");
        if (strncmp(path, prefix, length) == 0 && (path[length] == '/' || path[length] == '\0'))
            return 1;
        prefix += length + (prefix[length] == ':');
    }
    return 0;
}

static void descriptor_path(int fd, char *path)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = '\0';
}

static void full_path(int directory, const char *name, char *path)
{
    char start[PATH_MAX] = "";
    if (name == NULL || name[0] == '/') {
        snprintf(path, PATH_MAX, "%s", name ? name : "");
        return;
    }
    if (directory == AT_FDCWD) {
        if (getcwd(start, sizeof start) == NULL)
            start[0] = '\0';
    } else {
        descriptor_path(directory, start);
    }
    if (snprintf(path, PATH_MAX, "%s/%s", start, name) >= PATH_MAX)
        path[0] = '\0';
}

/* Which calls a full or read-only file system, or missing permission, has fail; an input/output error may be anywhere. */
static int can_fail(const char *call, int error)
{
    const char *calls = "";
    if (error == EIO)
        return 1;
    if (error == ENOSPC || error == EDQUOT)
        calls = " create write mkdir link symlink fsync ";
    else if (error == EROFS)
        calls = " create mkdir link symlink rename unlink rmdir chmod chown utime truncate ";
    else if (error == EACCES)
        calls = " open create mkdir link symlink rename unlink rmdir chmod chown utime truncate ";
    char word[32];
    snprintf(word, sizeof word, " %s ", call);
    return strstr(calls, word) != NULL;
}

/* 0: go on; -1: the call fails, errno is set; 1: half of a write */
static int goes_wrong(const char *call, const char *path)
{
    if (state == NULL || !below(path))
        return 0;
    long long number = __atomic_add_fetch(&state->count, 1, __ATOMIC_SEQ_CST);
    if (state->at == 0 || number < state->at || (number > state->at && state->mode == 0))
        return 0;
    if (state->number == 0 && !can_fail(call, state->error))
        return 0;
    if (state->mode == 2 && strcmp(call, "write") != 0)
        return 0;
    if (number == state->at)
        snprintf(state->call, sizeof state->call, "%s %.200s", call, path);
    else if (state->call[0] == '\0')
        return 0;
    if (state->number) {
        kill(0, state->number);
        return 0;
    }
    if (state->mode == 2 && number == state->at)
        return 1;
    errno = state->error;
    return -1;
}

#define NEXT(name) static __typeof__(&name) next; if (!next) next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define AT(directory, name, call) \
    do { char path_[PATH_MAX]; full_path(directory, name, path_); if (goes_wrong(call, path_) < 0) return -1; } while (0)
#define FD(fd, call) \
    do { char path_[PATH_MAX]; descriptor_path(fd, path_); if (goes_wrong(call, path_) < 0) return -1; } while (0)

#define OPEN(name) \
    int name(const char *path, int flags, ...) \
    { \
        va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, int); va_end(rest); \
        NEXT(name); \
        AT(AT_FDCWD, path, flags & O_CREAT ? "create" : "open"); \
        return next(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)
#define OPENAT(name) \
    int name(int directory, const char *path, int flags, ...) \
    { \
        va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, int); va_end(rest); \
        NEXT(name); \
        AT(directory, path, flags & O_CREAT ? "create" : "open"); \
        return next(directory, path, flags, mode); \
    }
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int fd, const void *data, size_t size)
{
    char path[PATH_MAX];
    NEXT(write);
    descriptor_path(fd, path);
    int wrong = goes_wrong("write", path);
    return wrong < 0 ? -1 : next(fd, data, wrong > 0 ? (size + 1) / 2 : size);
}

int rename(const char *from, const char *to) { NEXT(rename); AT(AT_FDCWD, to, "rename"); return next(from, to); }
int renameat(int a, const char *from, int b, const char *to) { NEXT(renameat); AT(b, to, "rename"); return next(a, from, b, to); }
int link(const char *from, const char *to) { NEXT(link); AT(AT_FDCWD, to, "link"); return next(from, to); }
int linkat(int a, const char *from, int b, const char *to, int f) { NEXT(linkat); AT(b, to, "link"); return next(a, from, b, to, f); }
int symlink(const char *from, const char *to) { NEXT(symlink); AT(AT_FDCWD, to, "symlink"); return next(from, to); }
int symlinkat(const char *from, int b, const char *to) { NEXT(symlinkat); AT(b, to, "symlink"); return next(from, b, to); }
int unlink(const char *path) { NEXT(unlink); AT(AT_FDCWD, path, "unlink"); return next(path); }
int unlinkat(int a, const char *path, int f) { NEXT(unlinkat); AT(a, path, "unlink"); return next(a, path, f); }
int rmdir(const char *path) { NEXT(rmdir); AT(AT_FDCWD, path, "rmdir"); return next(path); }
int mkdir(const char *path, mode_t mode) { NEXT(mkdir); AT(AT_FDCWD, path, "mkdir"); return next(path, mode); }
int mkdirat(int a, const char *path, mode_t mode) { NEXT(mkdirat); AT(a, path, "mkdir"); return next(a, path, mode); }
int chmod(const char *path, mode_t mode) { NEXT(chmod); AT(AT_FDCWD, path, "chmod"); return next(path, mode); }
int fchmod(int fd, mode_t mode) { NEXT(fchmod); FD(fd, "chmod"); return next(fd, mode); }
int fchmodat(int a, const char *path, mode_t mode, int f) { NEXT(fchmodat); AT(a, path, "chmod"); return next(a, path, mode, f); }
int chown(const char *path, uid_t u, gid_t g) { NEXT(chown); AT(AT_FDCWD, path, "chown"); return next(path, u, g); }
int lchown(const char *path, uid_t u, gid_t g) { NEXT(lchown); AT(AT_FDCWD, path, "chown"); return next(path, u, g); }
int fchown(int fd, uid_t u, gid_t g) { NEXT(fchown); FD(fd, "chown"); return next(fd, u, g); }
int fchownat(int a, const char *path, uid_t u, gid_t g, int f) { NEXT(fchownat); AT(a, path, "chown"); return next(a, path, u, g, f); }
int fsync(int fd) { NEXT(fsync); FD(fd, "fsync"); return next(fd); }
int fdatasync(int fd) { NEXT(fdatasync); FD(fd, "fsync"); return next(fd); }
int utimensat(int a, const char *path, const struct timespec t[2], int f) { NEXT(utimensat); AT(a, path, "utime"); return next(a, path, t, f); }
int futimens(int fd, const struct timespec t[2]) { NEXT(futimens); FD(fd, "utime"); return next(fd, t); }
int truncate(const char *path, off_t size) { NEXT(truncate); AT(AT_FDCWD, path, "truncate"); return next(path, size); }
int ftruncate(int fd, off_t size) { NEXT(ftruncate); FD(fd, "truncate"); return next(fd, size); }
ssize_t sendfile(int out, int in, off_t *offset, size_t size);
ssize_t sendfile64(int out, int in, off_t *offset, size_t size)
{
    NEXT(sendfile64);
    FD(out, "write");
    return next(out, in, offset, size);
}
ssize_t sendfile(int out, int in, off_t *offset, size_t size) { NEXT(sendfile); FD(out, "write"); return next(out, in, offset, size); }
