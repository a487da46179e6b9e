/*
 * A layer between a program and its disk, for tests: loaded with LD_PRELOAD it watches what the program does to
 * the files below one folder. It keeps a log from which the folder can be rebuilt as a loss of power could have
 * left it (disk/model.rs), and breaks calls on demand (disk/rules.rs).
 *
 * Linux with glibc, x86-64 and AArch64. It is inert unless TORTURE_DISK_ROOT is set.
 *
 *   TORTURE_DISK_ROOT     the folder, absolute, without symbolic links, dots or a slash at the end
 *   TORTURE_DISK_LOG      the log; appended to, so that several runs make one history
 *   TORTURE_DISK_CONTROL  the rules, see below
 *
 * Calls come in two ways. Those that go through the C library are interposed by name. Some programs make system
 * calls of their own as well (the crate rustix does), so a seccomp filter traps the same calls wherever they are
 * not made by the C library, and the handler of SIGSYS sends them down the same path.
 *
 * The log is a sequence of records, each a `struct head` and two byte strings, in the order in which the calls
 * took effect: all but syncs hold one lock while they run. A sync is logged twice, when it begins and when it
 * has ended; what was written before it began is durable once it has ended.
 *
 * The control file has one page. A number at its begin (u64) is raised whenever the rules changed; the rules are
 * lines of text from byte 64 on; from byte 3072 on a u64 for each rule counts how often it fired. A rule is
 *
 *   ACTION CALLS SKIP COUNT PATTERN
 *
 * CALLS is a comma-separated list of the classes in `classes` below, or `any`. PATTERN is a glob on the path
 * below the root, in which `*` matches slashes too. The first SKIP calls of the program that match pass, the next
 * COUNT are hit (0: all of them). ACTION is one of
 *
 *   fail:ERRNO    the call does nothing and fails with this number
 *   short:ERRNO   half of a write is written; the rest, and what follows, fails with this number
 *   before        SIGKILL before the call
 *   half          SIGKILL when half of a write is written (as `before` for other calls)
 *   after         SIGKILL after the call
 *   delay:MICROS  the call is late
 *   lie           a sync does nothing and says that it has
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

/* ---- The log ---- */

enum operation {
    START = 1,   /* a program begins; what it had open before is closed. a = its pid */
    OPEN,        /* handle, path; a = 1 if the file was created, 2 if it was emptied (or both) */
    WRITE,       /* handle, data; a = offset */
    TRUNCATE,    /* handle; a = length */
    SYNC_BEGIN,  /* handle; a = number of the sync; b = 1 if it is fdatasync */
    SYNC_END,    /* a = number of the sync; b = 0 if it succeeded */
    RENAME,      /* path, path2 */
    UNLINK,      /* path, of a file or a folder */
    MKDIR,       /* path */
    LINK,        /* path, path2 */
    FAULT,       /* path and the name of the call; a = number of the rule */
    UNSUPPORTED, /* path and the name of a call that this layer cannot follow */
};

struct head {
    uint32_t operation;
    uint32_t handle;
    uint64_t a;
    uint64_t b;
    uint32_t length1;
    uint32_t length2;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static size_t root_length;
static int log_file = -1;
static uint64_t syncs;

static void die(const char *why)
{
    dprintf(2, "disk shim: %s (errno %d)\n", why, errno);
    abort();
}

/* Needs the lock. */
static void record(uint32_t operation, uint32_t handle, uint64_t a, uint64_t b, const void *one, size_t length1,
                   const void *two, size_t length2)
{
    struct head head = {operation, handle, a, b, (uint32_t)length1, (uint32_t)length2};
    struct iovec parts[3] = {
        {&head, sizeof head}, {(void *)(uintptr_t)one, length1}, {(void *)(uintptr_t)two, length2}};
    ssize_t expected = (ssize_t)(sizeof head + length1 + length2);
    if (syscall(SYS_writev, log_file, parts, 3) != expected)
        die("the log cannot be written");
}

static void record_paths(uint32_t operation, uint64_t a, const char *one, const char *two)
{
    record(operation, 0, a, 0, one, strlen(one), two, two ? strlen(two) : 0);
}

/* ---- Which files are watched ---- */

/* What is known of a file descriptor. `path` is the path below the root at the time of opening; empty is the root
 * itself. Copies of a descriptor share the handle. */
struct open_file {
    char *path;
    uint32_t handle;
    int appends;
};

#define DESCRIPTORS 65536
static struct open_file files[DESCRIPTORS];
static uint32_t handles;

static struct open_file *watched(int fd)
{
    return root_length && fd >= 0 && fd < DESCRIPTORS && files[fd].path ? &files[fd] : NULL;
}

/* Needs the lock. */
static void forget(int fd)
{
    struct open_file *file = watched(fd);
    if (file) {
        free(file->path);
        file->path = NULL;
    }
}

/* Writes the path below the root to `out` (PATH_MAX bytes) and answers 1, or 0 if the path leads elsewhere. Dots
 * are resolved by name: the folder holds no symbolic links. */
static int below_root(int folder, const char *path, char *out)
{
    char whole[2 * PATH_MAX], clean[2 * PATH_MAX];
    if (!root_length || !path)
        return 0;
    if (path[0] == '/') {
        snprintf(whole, sizeof whole, "%s", path);
    } else {
        char base[PATH_MAX];
        if (folder == AT_FDCWD) {
            if (!getcwd(base, sizeof base))
                return 0;
        } else {
            char link[64];
            snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
            ssize_t length = readlink(link, base, sizeof base - 1);
            if (length < 0)
                return 0;
            base[length] = 0;
        }
        snprintf(whole, sizeof whole, "%s/%s", base, path);
    }
    size_t at = 0;
    for (char *rest, *part = strtok_r(whole, "/", &rest); part; part = strtok_r(NULL, "/", &rest)) {
        if (!strcmp(part, "."))
            continue;
        if (!strcmp(part, "..")) {
            while (at && clean[--at] != '/')
                ;
            continue;
        }
        at += (size_t)snprintf(clean + at, sizeof clean - at, "/%s", part);
    }
    clean[at] = 0;
    if (strncmp(clean, root, root_length) || (clean[root_length] && clean[root_length] != '/'))
        return 0;
    snprintf(out, PATH_MAX, "%s", clean[root_length] ? clean + root_length + 1 : "");
    return 1;
}

/* ---- Rules ---- */

enum call_class { READ, OPEN_READ, OPEN_WRITE, CREATE, WRITES, TRUNCATES, SYNC, RENAMES, UNLINKS, MKDIRS, CLASSES };
static const char *const classes[CLASSES] = {"read",     "open", "open-write", "create", "write",
                                             "truncate", "sync", "rename",     "unlink", "mkdir"};

enum action { PASS, FAIL, SHORT, BEFORE, HALF, AFTER, DELAY, LIE };

struct rule {
    enum action action;
    long argument; /* an errno or microseconds */
    unsigned classes;
    uint64_t skip, count, seen;
    char pattern[128];
};

#define RULES 16
#define CONTROL_BYTES 4096
#define TEXT_AT 64
#define COUNTS_AT 3072
static struct rule rules[RULES];
static int rule_count;
static volatile unsigned char *control;
static uint64_t generation;

static void parse_rule(const char *line)
{
    static const char *const names[] = {"pass", "fail", "short", "before", "half", "after", "delay", "lie"};
    struct rule rule = {0};
    char action[32], calls[128];
    if (rule_count == RULES ||
        sscanf(line, "%31s %127s %lu %lu %127[^\n]", action, calls, &rule.skip, &rule.count, rule.pattern) != 5)
        die("a rule cannot be read");
    char *colon = strchr(action, ':');
    if (colon) {
        *colon = 0;
        rule.argument = atol(colon + 1);
    }
    for (int name = FAIL; name <= LIE; name++)
        if (!strcmp(action, names[name]))
            rule.action = (enum action)name;
    for (char *rest, *name = strtok_r(calls, ",", &rest); name; name = strtok_r(NULL, ",", &rest))
        for (int class = 0; class < CLASSES; class++)
            if (!strcmp(name, "any") || !strcmp(name, classes[class]))
                rule.classes |= 1u << class;
    if (rule.action == PASS || !rule.classes)
        die("a rule cannot be read");
    rules[rule_count++] = rule;
}

/* Needs the lock. */
static void refresh_rules(void)
{
    uint64_t now = *(volatile uint64_t *)(uintptr_t)control;
    if (now == generation)
        return;
    generation = now;
    rule_count = 0;
    char text[COUNTS_AT - TEXT_AT + 1];
    for (int at = TEXT_AT; at < COUNTS_AT; at++)
        text[at - TEXT_AT] = (char)control[at];
    text[COUNTS_AT - TEXT_AT] = 0;
    for (char *rest, *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        parse_rule(line);
}

static void die_here(void)
{
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

/* Which rule a call meets; `PASS` if none. Needs the lock. Kills and logs; failing and the rest is for the
 * caller, except that `after` is done by `finish`. */
static struct rule meet(enum call_class class, const char *path, const char *name)
{
    static const struct rule none = {.action = PASS};
    refresh_rules();
    for (int number = 0; number < rule_count; number++) {
        struct rule *rule = &rules[number];
        if (!(rule->classes & 1u << class) || fnmatch(rule->pattern, path, 0))
            continue;
        uint64_t turn = rule->seen++;
        if (turn < rule->skip || (rule->count && turn >= rule->skip + rule->count))
            continue;
        volatile uint64_t *count = (volatile uint64_t *)(uintptr_t)(control + COUNTS_AT) + number;
        *count += 1;
        record_paths(FAULT, (uint64_t)number, path, name);
        if (rule->action == BEFORE || (rule->action == HALF && class != WRITES))
            die_here();
        /* From its first short write on, a disk stays full. */
        struct rule met = *rule;
        if (rule->action == SHORT) {
            if (class != WRITES)
                met.action = FAIL;
            else
                rule->action = FAIL;
        }
        return met;
    }
    return none;
}

static void finish(const struct rule *rule)
{
    if (rule->action == AFTER)
        die_here();
}

/* Most calls have no half and no lie: they fail, or are late, or pass. 1 if the call is over. */
static int fails(const struct rule *rule)
{
    if (rule->action == DELAY) {
        pthread_mutex_unlock(&lock);
        usleep((useconds_t)rule->argument);
        pthread_mutex_lock(&lock);
    }
    if (rule->action == FAIL) {
        errno = (int)rule->argument;
        return 1;
    }
    return 0;
}

static void unsupported(const char *path, const char *name)
{
    record_paths(UNSUPPORTED, 0, path, name);
}

/* ---- The calls ---- */

static int open_at(int folder, const char *path, int flags, mode_t mode)
{
    char name[PATH_MAX];
    if (!below_root(folder, path, name))
        return (int)syscall(SYS_openat, folder, path, flags, mode);
    pthread_mutex_lock(&lock);
    int writes = (flags & O_ACCMODE) != O_RDONLY;
    struct stat before;
    int there = syscall(SYS_newfstatat, folder, path, &before, 0) == 0;
    int creates = (flags & O_CREAT) && !there;
    struct rule rule = meet(creates ? CREATE : writes ? OPEN_WRITE : OPEN_READ, name, "open");
    int fd = -1;
    if (!fails(&rule)) {
        fd = (int)syscall(SYS_openat, folder, path, flags, mode);
        if (fd >= DESCRIPTORS)
            die("too many open files");
        if (fd >= 0) {
            forget(fd);
            files[fd] = (struct open_file){strdup(name), ++handles, !!(flags & O_APPEND)};
            uint64_t what = (creates ? 1 : 0) | ((flags & O_TRUNC) && writes && there ? 2 : 0);
            record(OPEN, handles, what, 0, name, strlen(name), NULL, 0);
            if ((flags & O_TMPFILE) == O_TMPFILE)
                unsupported(name, "O_TMPFILE");
        }
        finish(&rule);
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

static int close_file(int fd)
{
    if (watched(fd)) {
        pthread_mutex_lock(&lock);
        forget(fd);
        pthread_mutex_unlock(&lock);
    }
    return (int)syscall(SYS_close, fd);
}

/* Needs the lock. */
static void copied(int from, int to)
{
    struct open_file *file = watched(from);
    if (to < 0 || to == from)
        return;
    forget(to);
    if (file && to < DESCRIPTORS)
        files[to] = (struct open_file){strdup(file->path), file->handle, file->appends};
}

/* All ways to write. `offset` is -1 for the place where the file is. */
static ssize_t write_parts(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
    struct open_file *file = watched(fd);
    if (!file) {
        if (offset < 0 && !flags)
            return syscall(SYS_writev, fd, parts, count);
        return syscall(SYS_pwritev2, fd, parts, count, (unsigned long)offset, 0ul, flags);
    }
    pthread_mutex_lock(&lock);
    struct rule rule = meet(WRITES, file->path, "write");
    ssize_t written = -1;
    if (!fails(&rule)) {
        size_t length = 0;
        for (int part = 0; part < count; part++)
            length += parts[part].iov_len;
        char *bytes = malloc(length ? length : 1);
        if (!bytes)
            die("no memory");
        size_t at = 0;
        for (int part = 0; part < count; part++) {
            memcpy(bytes + at, parts[part].iov_base, parts[part].iov_len);
            at += parts[part].iov_len;
        }
        if ((rule.action == HALF || rule.action == SHORT) && length > 1)
            length /= 2;
        written = offset < 0 ? syscall(SYS_write, fd, bytes, length)
                             : syscall(SYS_pwrite64, fd, bytes, length, offset);
        if (written > 0) {
            off_t begin = offset;
            if (file->appends) {
                struct stat now;
                begin = syscall(SYS_fstat, fd, &now) ? -1 : now.st_size - written;
            } else if (offset < 0) {
                begin = syscall(SYS_lseek, fd, 0L, SEEK_CUR) - written;
            }
            record(WRITE, file->handle, (uint64_t)begin, 0, NULL, 0, bytes, (size_t)written);
        }
        free(bytes);
        if (rule.action == HALF)
            die_here();
        finish(&rule);
    }
    pthread_mutex_unlock(&lock);
    return written;
}

static int truncate_file(int fd, off_t length)
{
    struct open_file *file = watched(fd);
    if (!file)
        return (int)syscall(SYS_ftruncate, fd, length);
    pthread_mutex_lock(&lock);
    struct rule rule = meet(TRUNCATES, file->path, "ftruncate");
    int result = -1;
    if (!fails(&rule)) {
        result = (int)syscall(SYS_ftruncate, fd, length);
        if (!result)
            record(TRUNCATE, file->handle, (uint64_t)length, 0, NULL, 0, NULL, 0);
        finish(&rule);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

static int sync_file(int fd, int data_only)
{
    long number = data_only ? SYS_fdatasync : SYS_fsync;
    struct open_file *file = watched(fd);
    if (!file)
        return (int)syscall(number, fd);
    pthread_mutex_lock(&lock);
    uint64_t sync = ++syncs;
    struct rule rule = meet(SYNC, file->path, data_only ? "fdatasync" : "fsync");
    if (rule.action == LIE) {
        pthread_mutex_unlock(&lock);
        return 0;
    }
    record(SYNC_BEGIN, file->handle, sync, (uint64_t)data_only, NULL, 0, NULL, 0);
    int failed = fails(&rule), result = -1, error = errno;
    if (!failed) {
        /* Writes may go on meanwhile; what they write belongs to the next sync. */
        pthread_mutex_unlock(&lock);
        result = (int)syscall(number, fd);
        error = errno;
        pthread_mutex_lock(&lock);
    }
    record(SYNC_END, 0, sync, result ? 1 : 0, NULL, 0, NULL, 0);
    finish(&rule);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

static int rename_at(int folder1, const char *path1, int folder2, const char *path2, unsigned flags)
{
    char from[PATH_MAX], to[PATH_MAX];
    int from_here = below_root(folder1, path1, from), to_here = below_root(folder2, path2, to);
    if (!from_here && !to_here)
        return (int)syscall(SYS_renameat2, folder1, path1, folder2, path2, flags);
    pthread_mutex_lock(&lock);
    struct rule rule = meet(RENAMES, to_here ? to : from, "rename");
    int result = -1;
    if (!fails(&rule)) {
        result = (int)syscall(SYS_renameat2, folder1, path1, folder2, path2, flags);
        if (!result && from_here && to_here && !(flags & RENAME_EXCHANGE))
            record_paths(RENAME, 0, from, to);
        else if (!result)
            unsupported(from_here ? from : to, "rename");
        finish(&rule);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

static int link_at(int folder1, const char *path1, int folder2, const char *path2, int flags)
{
    char from[PATH_MAX], to[PATH_MAX];
    int from_here = below_root(folder1, path1, from);
    if (!below_root(folder2, path2, to))
        return (int)syscall(SYS_linkat, folder1, path1, folder2, path2, flags);
    pthread_mutex_lock(&lock);
    struct rule rule = meet(CREATE, to, "link");
    int result = -1;
    if (!fails(&rule)) {
        result = (int)syscall(SYS_linkat, folder1, path1, folder2, path2, flags);
        if (!result && from_here)
            record_paths(LINK, 0, from, to);
        else if (!result)
            unsupported(to, "link");
        finish(&rule);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

static int unlink_at(int folder, const char *path, int flags)
{
    char name[PATH_MAX];
    if (!below_root(folder, path, name))
        return (int)syscall(SYS_unlinkat, folder, path, flags);
    pthread_mutex_lock(&lock);
    struct rule rule = meet(UNLINKS, name, "unlink");
    int result = -1;
    if (!fails(&rule)) {
        result = (int)syscall(SYS_unlinkat, folder, path, flags);
        if (!result)
            record_paths(UNLINK, 0, name, NULL);
        finish(&rule);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

static int mkdir_at(int folder, const char *path, mode_t mode)
{
    char name[PATH_MAX];
    if (!below_root(folder, path, name))
        return (int)syscall(SYS_mkdirat, folder, path, mode);
    pthread_mutex_lock(&lock);
    struct rule rule = meet(MKDIRS, name, "mkdir");
    int result = -1;
    if (!fails(&rule)) {
        result = (int)syscall(SYS_mkdirat, folder, path, mode);
        if (!result)
            record_paths(MKDIR, 0, name, NULL);
        finish(&rule);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

static ssize_t read_parts(int fd, const struct iovec *parts, int count, off_t offset)
{
    struct open_file *file = watched(fd);
    if (file) {
        pthread_mutex_lock(&lock);
        struct rule rule = meet(READ, file->path, "read");
        int over = fails(&rule);
        if (!over)
            finish(&rule);
        pthread_mutex_unlock(&lock);
        if (over)
            return -1;
    }
    return offset < 0 ? syscall(SYS_readv, fd, parts, count)
                      : syscall(SYS_preadv, fd, parts, count, (unsigned long)offset, 0ul);
}

/* A call on a watched file that is refused, so that the program falls back to one that can be followed. */
static long refuse(int fd, const char *name, int with)
{
    struct open_file *file = watched(fd);
    if (!with) {
        pthread_mutex_lock(&lock);
        unsupported(file->path, name);
        pthread_mutex_unlock(&lock);
    }
    errno = with ? with : ENOSYS;
    return -1;
}

/* ---- Calls through the C library ---- */

#define MODE_OF(flags)                              \
    mode_t mode = 0;                                \
    if ((flags) & (O_CREAT | __O_TMPFILE)) {        \
        va_list rest;                               \
        va_start(rest, flags);                      \
        mode = (mode_t)va_arg(rest, unsigned);      \
        va_end(rest);                               \
    }

EXPORT int open(const char *path, int flags, ...) { MODE_OF(flags) return open_at(AT_FDCWD, path, flags, mode); }
EXPORT int open64(const char *path, int flags, ...) { MODE_OF(flags) return open_at(AT_FDCWD, path, flags, mode); }
EXPORT int openat(int folder, const char *path, int flags, ...)
{
    MODE_OF(flags) return open_at(folder, path, flags, mode);
}
EXPORT int openat64(int folder, const char *path, int flags, ...)
{
    MODE_OF(flags) return open_at(folder, path, flags, mode);
}
EXPORT int creat(const char *path, mode_t mode)
{
    return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
EXPORT int creat64(const char *path, mode_t mode) { return creat(path, mode); }
EXPORT int close(int fd) { return close_file(fd); }

/* The C library closes the descriptor of a folder without calling `close` by name. */
EXPORT int closedir(DIR *folder)
{
    static int (*next)(DIR *);
    if (!next)
        *(void **)&next = dlsym(RTLD_NEXT, "closedir");
    pthread_mutex_lock(&lock);
    forget(dirfd(folder));
    pthread_mutex_unlock(&lock);
    return next(folder);
}

EXPORT int dup(int fd) { return fcntl(fd, F_DUPFD, 0); }
EXPORT int dup3(int fd, int to, int flags)
{
    pthread_mutex_lock(&lock);
    int result = (int)syscall(SYS_dup3, fd, to, flags);
    copied(fd, result);
    pthread_mutex_unlock(&lock);
    return result;
}
EXPORT int dup2(int fd, int to) { return fd == to ? fd : dup3(fd, to, 0); }
EXPORT int fcntl(int fd, int command, ...)
{
    va_list rest;
    va_start(rest, command);
    long argument = va_arg(rest, long);
    va_end(rest);
    if (!watched(fd) || (command != F_DUPFD && command != F_DUPFD_CLOEXEC))
        return (int)syscall(SYS_fcntl, fd, command, argument);
    pthread_mutex_lock(&lock);
    int result = (int)syscall(SYS_fcntl, fd, command, argument);
    copied(fd, result);
    pthread_mutex_unlock(&lock);
    return result;
}
EXPORT int fcntl64(int fd, int command, ...)
{
    va_list rest;
    va_start(rest, command);
    long argument = va_arg(rest, long);
    va_end(rest);
    return fcntl(fd, command, argument);
}

#define ONE_PART(bytes, length) (&(struct iovec){(void *)(uintptr_t)(bytes), (length)})

EXPORT ssize_t write(int fd, const void *bytes, size_t length)
{
    return watched(fd) ? write_parts(fd, ONE_PART(bytes, length), 1, -1, 0) : syscall(SYS_write, fd, bytes, length);
}
EXPORT ssize_t writev(int fd, const struct iovec *parts, int count) { return write_parts(fd, parts, count, -1, 0); }
EXPORT ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset)
{
    return write_parts(fd, ONE_PART(bytes, length), 1, offset, 0);
}
EXPORT ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t offset)
{
    return write_parts(fd, ONE_PART(bytes, length), 1, offset, 0);
}
EXPORT ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    return write_parts(fd, parts, count, offset, 0);
}
EXPORT ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t offset)
{
    return write_parts(fd, parts, count, offset, 0);
}
EXPORT ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
    return watched(fd) && flags ? refuse(fd, "pwritev2", EOPNOTSUPP) : write_parts(fd, parts, count, offset, flags);
}
EXPORT ssize_t read(int fd, void *bytes, size_t length)
{
    return watched(fd) ? read_parts(fd, ONE_PART(bytes, length), 1, -1) : syscall(SYS_read, fd, bytes, length);
}
EXPORT ssize_t readv(int fd, const struct iovec *parts, int count) { return read_parts(fd, parts, count, -1); }
EXPORT ssize_t pread(int fd, void *bytes, size_t length, off_t offset)
{
    return read_parts(fd, ONE_PART(bytes, length), 1, offset);
}
EXPORT ssize_t pread64(int fd, void *bytes, size_t length, off_t offset)
{
    return read_parts(fd, ONE_PART(bytes, length), 1, offset);
}
EXPORT int ftruncate(int fd, off_t length) { return truncate_file(fd, length); }
EXPORT int ftruncate64(int fd, off_t length) { return truncate_file(fd, length); }
EXPORT int truncate(const char *path, off_t length)
{
    int fd = open_at(AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    int result = truncate_file(fd, length), error = errno;
    close_file(fd);
    errno = error;
    return result;
}
EXPORT int truncate64(const char *path, off_t length) { return truncate(path, length); }
EXPORT int fallocate(int fd, int mode, off_t offset, off_t length)
{
    return (int)(watched(fd) ? refuse(fd, "fallocate", EOPNOTSUPP)
                             : syscall(SYS_fallocate, fd, mode, offset, length));
}
EXPORT int fallocate64(int fd, int mode, off_t offset, off_t length) { return fallocate(fd, mode, offset, length); }
EXPORT int fsync(int fd) { return sync_file(fd, 0); }
EXPORT int fdatasync(int fd) { return sync_file(fd, 1); }
/* It promises nothing, so it changes nothing here. */
EXPORT int sync_file_range(int fd, off_t offset, off_t length, unsigned flags)
{
    return (int)(watched(fd) ? 0 : syscall(SYS_sync_file_range, fd, offset, length, flags));
}
EXPORT int syncfs(int fd)
{
    return (int)(watched(fd) ? refuse(fd, "syncfs", 0) : syscall(SYS_syncfs, fd));
}
EXPORT int rename(const char *from, const char *to) { return rename_at(AT_FDCWD, from, AT_FDCWD, to, 0); }
EXPORT int renameat(int folder1, const char *from, int folder2, const char *to)
{
    return rename_at(folder1, from, folder2, to, 0);
}
EXPORT int renameat2(int folder1, const char *from, int folder2, const char *to, unsigned flags)
{
    return rename_at(folder1, from, folder2, to, flags);
}
EXPORT int link(const char *from, const char *to) { return link_at(AT_FDCWD, from, AT_FDCWD, to, 0); }
EXPORT int linkat(int folder1, const char *from, int folder2, const char *to, int flags)
{
    return link_at(folder1, from, folder2, to, flags);
}
EXPORT int symlink(const char *text, const char *path)
{
    char name[PATH_MAX];
    if (below_root(AT_FDCWD, path, name)) {
        errno = EPERM;
        return -1;
    }
    return (int)syscall(SYS_symlinkat, text, AT_FDCWD, path);
}
EXPORT int unlink(const char *path) { return unlink_at(AT_FDCWD, path, 0); }
EXPORT int unlinkat(int folder, const char *path, int flags) { return unlink_at(folder, path, flags); }
EXPORT int rmdir(const char *path) { return unlink_at(AT_FDCWD, path, AT_REMOVEDIR); }
EXPORT int mkdir(const char *path, mode_t mode) { return mkdir_at(AT_FDCWD, path, mode); }
EXPORT int mkdirat(int folder, const char *path, mode_t mode) { return mkdir_at(folder, path, mode); }

/* Programs fall back to reads and writes where these are not to be had. */
EXPORT ssize_t copy_file_range(int in, off_t *in_at, int out, off_t *out_at, size_t length, unsigned flags)
{
    return watched(out) ? refuse(out, "copy_file_range", ENOSYS)
                        : syscall(SYS_copy_file_range, in, in_at, out, out_at, length, flags);
}
EXPORT ssize_t sendfile(int out, int in, off_t *at, size_t length)
{
    return watched(out) ? refuse(out, "sendfile", ENOSYS) : syscall(SYS_sendfile, out, in, at, length);
}
EXPORT ssize_t sendfile64(int out, int in, off_t *at, size_t length) { return sendfile(out, in, at, length); }

/* What is written through a mapping is not seen here, so the log says that there is one. */
EXPORT void *mmap(void *where, size_t length, int protection, int flags, int fd, off_t offset)
{
    if (watched(fd) && (protection & PROT_WRITE) && (flags & MAP_SHARED))
        refuse(fd, "mmap", 0);
    return (void *)syscall(SYS_mmap, where, length, protection, flags, fd, offset);
}
EXPORT void *mmap64(void *where, size_t length, int protection, int flags, int fd, off_t offset)
{
    return mmap(where, length, protection, flags, fd, offset);
}

/* ---- System calls that the program makes by itself ---- */

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#define RESULT(context) ((context)->uc_mcontext.gregs[REG_RAX])
static long argument(const ucontext_t *context, int number)
{
    static const int registers[] = {REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9};
    return (long)context->uc_mcontext.gregs[registers[number]];
}
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#define RESULT(context) ((context)->uc_mcontext.regs[0])
static long argument(const ucontext_t *context, int number)
{
    return (long)context->uc_mcontext.regs[number];
}
#else
#error "this machine is not known here: say where a trapped system call has its arguments"
#endif

static const int trapped[] = {
    SYS_openat, SYS_close, SYS_write, SYS_writev, SYS_pwrite64, SYS_pwritev, SYS_pwritev2, SYS_ftruncate,
    SYS_truncate, SYS_fallocate, SYS_fsync, SYS_fdatasync, SYS_syncfs, SYS_renameat, SYS_renameat2, SYS_linkat,
    SYS_unlinkat, SYS_mkdirat, SYS_copy_file_range, SYS_sendfile,
#if defined(__x86_64__)
    SYS_open, SYS_creat, SYS_rename, SYS_link, SYS_unlink, SYS_rmdir, SYS_mkdir,
#endif
};
#define TRAPPED (sizeof trapped / sizeof *trapped)

static long redirect(int number, const ucontext_t *c)
{
#define A(n) argument(c, n)
#define PATH(n) ((const char *)A(n))
    switch (number) {
    case SYS_openat: return open_at((int)A(0), PATH(1), (int)A(2), (mode_t)A(3));
    case SYS_close: return close_file((int)A(0));
    case SYS_write: return write((int)A(0), (const void *)A(1), (size_t)A(2));
    case SYS_writev: return writev((int)A(0), (const struct iovec *)A(1), (int)A(2));
    case SYS_pwrite64: return pwrite((int)A(0), (const void *)A(1), (size_t)A(2), A(3));
    case SYS_pwritev: return pwritev((int)A(0), (const struct iovec *)A(1), (int)A(2), A(3));
    case SYS_pwritev2: return pwritev2((int)A(0), (const struct iovec *)A(1), (int)A(2), A(3), (int)A(5));
    case SYS_ftruncate: return ftruncate((int)A(0), A(1));
    case SYS_truncate: return truncate(PATH(0), A(1));
    case SYS_fallocate: return fallocate((int)A(0), (int)A(1), A(2), A(3));
    case SYS_fsync: return fsync((int)A(0));
    case SYS_fdatasync: return fdatasync((int)A(0));
    case SYS_syncfs: return syncfs((int)A(0));
    case SYS_renameat: return rename_at((int)A(0), PATH(1), (int)A(2), PATH(3), 0);
    case SYS_renameat2: return rename_at((int)A(0), PATH(1), (int)A(2), PATH(3), (unsigned)A(4));
    case SYS_linkat: return link_at((int)A(0), PATH(1), (int)A(2), PATH(3), (int)A(4));
    case SYS_unlinkat: return unlink_at((int)A(0), PATH(1), (int)A(2));
    case SYS_mkdirat: return mkdir_at((int)A(0), PATH(1), (mode_t)A(2));
    case SYS_copy_file_range:
        return copy_file_range((int)A(0), (off_t *)A(1), (int)A(2), (off_t *)A(3), (size_t)A(4), (unsigned)A(5));
    case SYS_sendfile: return sendfile((int)A(0), (int)A(1), (off_t *)A(2), (size_t)A(3));
#if defined(__x86_64__)
    case SYS_open: return open_at(AT_FDCWD, PATH(0), (int)A(1), (mode_t)A(2));
    case SYS_creat: return creat(PATH(0), (mode_t)A(1));
    case SYS_rename: return rename(PATH(0), PATH(1));
    case SYS_link: return link(PATH(0), PATH(1));
    case SYS_unlink: return unlink(PATH(0));
    case SYS_rmdir: return rmdir(PATH(0));
    case SYS_mkdir: return mkdir(PATH(0), (mode_t)A(1));
#endif
    default: die("a system call was trapped that is not known"); return -1;
    }
}

static void on_trap(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    int error = errno;
    long result = redirect(info->si_syscall, context);
    RESULT((ucontext_t *)context) = result == -1 ? -errno : result;
    errno = error;
}

/* Where the code of the C library is mapped. */
static void library(uint64_t *begin, uint64_t *end)
{
    Dl_info info;
    char line[PATH_MAX + 128];
    if (!dladdr((void *)(uintptr_t)&syscall, &info))
        die("the C library is not to be found");
    FILE *maps = fopen("/proc/self/maps", "re");
    *begin = *end = 0;
    while (maps && fgets(line, sizeof line, maps)) {
        uint64_t from, to;
        char rights[8];
        if (sscanf(line, "%lx-%lx %7s", &from, &to, rights) == 3 && rights[2] == 'x' &&
            (uint64_t)(uintptr_t)&syscall >= from && (uint64_t)(uintptr_t)&syscall < to) {
            *begin = from;
            *end = to;
        }
    }
    if (maps)
        fclose(maps);
    if (*begin == *end)
        die("the code of the C library is not to be found");
}

static void trap(char **arguments)
{
    uint64_t begin, end;
    library(&begin, &end);
    /* The filter compares halves of an address. Once in a few thousand starts the library lies across a boundary of
     * 4 GiB; the program is then started again, to be put elsewhere. Nothing has happened yet. */
    if (begin >> 32 != (end - 1) >> 32) {
        execve("/proc/self/exe", arguments, environ);
        die("the program cannot be started again");
    }
    struct sigaction action = {0};
    action.sa_sigaction = on_trap;
    action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESTART;
    if (sigaction(SIGSYS, &action, NULL))
        die("SIGSYS cannot be handled");

    struct sock_filter code[TRAPPED + 12];
    size_t at = 0;
    const unsigned pointer = offsetof(struct seccomp_data, instruction_pointer);
#define LOAD(offset) (struct sock_filter) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (offset))
#define JUMP(test, value, yes, no) \
    (struct sock_filter) BPF_JUMP(BPF_JMP | (test) | BPF_K, (uint32_t)(value), (unsigned char)(yes), (unsigned char)(no))
    code[at++] = LOAD(offsetof(struct seccomp_data, arch));
    code[at++] = JUMP(BPF_JEQ, ARCHITECTURE, 0, TRAPPED + 1);
    code[at++] = LOAD(offsetof(struct seccomp_data, nr));
    for (size_t call = 0; call < TRAPPED; call++)
        code[at++] = JUMP(BPF_JEQ, trapped[call], TRAPPED - call, 0);
    code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    code[at++] = LOAD(pointer + 4);
    code[at++] = JUMP(BPF_JEQ, begin >> 32, 0, 4);
    code[at++] = LOAD(pointer);
    code[at++] = JUMP(BPF_JGE, begin, 0, 2);
    code[at++] = JUMP(BPF_JGE, end, 1, 0);
    code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP);
    struct sock_fprog program = {(unsigned short)at, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        die("system calls cannot be trapped here");
}

/* The C library hands constructors what it hands `main`. */
__attribute__((constructor)) static void begin(int count, char **arguments)
{
    (void)count;
    const char *folder = getenv("TORTURE_DISK_ROOT"), *log = getenv("TORTURE_DISK_LOG"),
               *page = getenv("TORTURE_DISK_CONTROL");
    if (!folder)
        return;
    if (folder[0] != '/' || strlen(folder) >= sizeof root || !log || !page)
        die("TORTURE_DISK_ROOT, _LOG and _CONTROL are absolute paths");
    log_file = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    /* Out of the way of programs that count their descriptors. */
    log_file = (int)syscall(SYS_fcntl, log_file, F_DUPFD_CLOEXEC, 900);
    int page_file = (int)syscall(SYS_openat, AT_FDCWD, page, O_RDWR | O_CLOEXEC, 0);
    control = (unsigned char *)syscall(SYS_mmap, NULL, (size_t)CONTROL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
                                       page_file, 0L);
    if (log_file < 0 || page_file < 0 || control == MAP_FAILED)
        die("the log or the rules cannot be opened");
    syscall(SYS_close, page_file);
    record(START, 0, (uint64_t)getpid(), 0, NULL, 0, NULL, 0);
    memcpy(root, folder, strlen(folder) + 1);
    root_length = strlen(root);
    trap(arguments);
}
