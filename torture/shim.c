/* Stands between a process and its disk: makes calls fail, kills at chosen points, moves the clock, records writes.
 *
 * Load it with LD_PRELOAD into a server and all its children. It sees what is called through libc, which Python, Rust
 * (deltalake, granian), Arrow and SQLite do. It does not see memory that is mapped from a file; of what Kixo keeps
 * only counters, the ring of limits and SQLite's -shm are written so, and none of them has to survive anything.
 *
 * TORTURE_PLAN=<file>     what is to go wrong: a line each of   CALL  PATH  NTH  ACTION  [PROCESS]
 *     CALL     write, sync, open, create, truncate, rename, link, unlink, mkdir, allocate, send, or * for any.
 *              `write` is every call that writes to a file, `sync` is fsync and fdatasync, `create` an open that makes
 *              a file, `truncate` also an open that empties one, `send` every call that sends on a socket.
 *     PATH     a pattern for the whole path, in which * also stands for slashes; of two paths, for either.
 *     NTH      3: only the third such call; 3+: that and all later ones; *: all.
 *     ACTION   kill-before, kill-after: SIGKILL, with the call not begun or done
 *              short: half of the bytes are really written
 *              delay:20: milliseconds to wait before the call
 *              EIO, ENOSPC, EROFS, EACCES, EDQUOT, EMFILE, ENOENT: the call fails so, and nothing is done
 *     PROCESS  a word of the command line of the processes it is for, such as kixo.server.loader
 *   A plan that is replaced (by a rename) is read again at the next call. Calls are counted in <file>.counts, eight
 *   bytes for each line, over all processes, so that a process that was killed and started again goes on counting.
 *
 * TORTURE_CLOCK=<file>    eight bytes, mapped: nanoseconds, signed, that are added to the real-time clock.
 *   What the kernel stamps, the times of files, stays as it is.
 *
 * TORTURE_RECORD=<folder>, TORTURE_ROOT=<folder>   every change below the root, in one order over all processes, is
 *   appended to <folder>/record, in the form of `struct entry`. Calls that change something happen one at a time, under
 *   a lock that outlives the death of its holder, so that the order of the record is the order of the changes. A sync
 *   is recorded when it has returned, an answer to a client before it is sent: so what is durable is never
 *   overestimated, and what a client was told never underestimated.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { RULES_MAX = 64, WORD_MAX = 512, LINE_MAX_BYTES = 2048, SENT_BYTES_MAX = 512, PIECES_MAX = 1024, HERE = -1 };

/* What the record says of one change. Two paths and the data follow it. Python's form of it: "<IIQqqIII". */
struct entry {
    uint32_t bytes;       /* of all that follows this number */
    uint32_t kind;        /* a letter */
    uint64_t inode;       /* the file that was changed; of a sent answer, the client's port */
    int64_t place;        /* where data was written; the new length of a truncated file */
    int64_t process;
    uint32_t path_bytes, other_bytes, data_bytes;
} __attribute__((packed));

enum kind {
    CREATED = 'c', WROTE = 'w', TRUNCATED = 't', SYNCED = 's', RENAMED = 'r', LINKED = 'l', UNLINKED = 'u',
    MADE_FOLDER = 'm', REMOVED_FOLDER = 'd', SENT = 'a',
};

struct rule {
    char call[WORD_MAX], path[WORD_MAX], action[WORD_MAX], process[WORD_MAX];
    long first, last;
};

struct plan {
    struct rule rules[RULES_MAX];
    int count;
    uint64_t *calls;
    struct timespec changed;
    ino_t inode;
};

static pthread_mutex_t plan_lock = PTHREAD_MUTEX_INITIALIZER;
static struct plan plan;
static pthread_once_t record_once = PTHREAD_ONCE_INIT;
static pthread_mutex_t *record_lock;
static int record_file = -1;
static char record_root[PATH_MAX];
static pthread_once_t clock_once = PTHREAD_ONCE_INIT;
static const volatile int64_t *clock_offset_ns;

/* ---- The plan ---- */

static void *map_file(const char *path, size_t bytes, int flags) {
    int file = syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, 0600);
    if (file < 0) return NULL;
    if (flags & O_CREAT) syscall(SYS_ftruncate, file, bytes);
    void *memory = mmap(NULL, bytes, (flags & O_ACCMODE) == O_RDWR ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED,
                        file, 0);
    syscall(SYS_close, file);
    return memory == MAP_FAILED ? NULL : memory;
}

static bool command_line_has(const char *word) {
    char text[8192] = "";
    int file = syscall(SYS_openat, AT_FDCWD, "/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t size = syscall(SYS_read, file, text, sizeof text - 1);
    syscall(SYS_close, file);
    return size > 0 && memmem(text, size, word, strlen(word)) != NULL;
}

static void add_rule(const char *line) {
    struct rule rule = {0};
    char nth[WORD_MAX] = "";
    int words = sscanf(line, "%511s %511s %511s %511s %511s", rule.call, rule.path, nth, rule.action, rule.process);
    if (words < 4 || rule.call[0] == '#' || plan.count == RULES_MAX) return;
    if (words == 5 && !command_line_has(rule.process)) strcpy(rule.action, "nothing");
    rule.first = nth[0] == '*' ? 1 : strtol(nth, NULL, 10);
    rule.last = nth[0] == '*' || strchr(nth, '+') ? LONG_MAX : rule.first;
    plan.rules[plan.count++] = rule;
}

static void read_plan(const char *path) {
    char text[RULES_MAX * LINE_MAX_BYTES] = "", counts[PATH_MAX];
    int file = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return;
    syscall(SYS_read, file, text, sizeof text - 1);
    syscall(SYS_close, file);
    plan.count = 0;
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) add_rule(line);
    snprintf(counts, sizeof counts, "%s.counts", path);
    if (plan.calls) munmap(plan.calls, RULES_MAX * sizeof *plan.calls);
    plan.calls = map_file(counts, RULES_MAX * sizeof *plan.calls, O_RDWR | O_CREAT);
}

static void refresh_plan(const char *path) {
    struct stat now;
    if (fstatat(AT_FDCWD, path, &now, 0) < 0) return;
    bool same = now.st_ino == plan.inode && now.st_mtim.tv_sec == plan.changed.tv_sec &&
                now.st_mtim.tv_nsec == plan.changed.tv_nsec;
    if (same) return;
    plan.inode = now.st_ino;
    plan.changed = now.st_mtim;
    read_plan(path);
}

static bool concerns(const struct rule *rule, const char *call, const char *path, const char *other) {
    if (strcmp(rule->action, "nothing") == 0 || fnmatch(rule->call, call, 0)) return false;
    return !fnmatch(rule->path, path, 0) || (other && !fnmatch(rule->path, other, 0));
}

/* Writes what the plan says of this call into `action`, empty for nothing. */
static void look_up(char *action, const char *call, const char *path, const char *other) {
    const char *file = getenv("TORTURE_PLAN");
    action[0] = 0;
    if (!file) return;
    pthread_mutex_lock(&plan_lock);
    refresh_plan(file);
    for (int number = 0; number < plan.count && plan.calls; number++) {
        struct rule *rule = &plan.rules[number];
        if (!concerns(rule, call, path, other)) continue;
        long count = __atomic_add_fetch(&plan.calls[number], 1, __ATOMIC_SEQ_CST);
        if (!action[0] && rule->first <= count && count <= rule->last) strcpy(action, rule->action);
    }
    pthread_mutex_unlock(&plan_lock);
}

static int error_named(const char *name) {
    static const struct { const char *name; int number; } errors[] = {
        {"EIO", EIO}, {"ENOSPC", ENOSPC}, {"EROFS", EROFS}, {"EACCES", EACCES}, {"EDQUOT", EDQUOT},
        {"EMFILE", EMFILE}, {"ENOENT", ENOENT},
    };
    for (size_t number = 0; number < sizeof errors / sizeof *errors; number++)
        if (strcmp(errors[number].name, name) == 0) return errors[number].number;
    return 0;
}

/* Does what the plan says before a call; whether the call has failed by that, with `errno` set. */
static bool fails(const char *action) {
    if (strcmp(action, "kill-before") == 0) syscall(SYS_kill, getpid(), SIGKILL);
    if (strncmp(action, "delay:", 6) == 0) usleep(1000 * strtoul(action + 6, NULL, 10));
    int error = error_named(action);
    if (error) errno = error;
    return error != 0;
}

static void kill_after(const char *action) {
    if (strcmp(action, "kill-after") == 0) syscall(SYS_kill, getpid(), SIGKILL);
}

/* ---- The record ---- */

static void open_record(void) {
    const char *folder = getenv("TORTURE_RECORD"), *root = getenv("TORTURE_ROOT");
    char path[PATH_MAX], fresh[PATH_MAX];
    if (!folder || !root) return;
    snprintf(record_root, sizeof record_root, "%s", root);
    snprintf(path, sizeof path, "%s/lock", folder);
    snprintf(fresh, sizeof fresh, "%s/lock.%d", folder, getpid());
    /* Made under another name and linked: nobody sees a lock that is not ready. */
    pthread_mutex_t *made = map_file(fresh, sizeof *made, O_RDWR | O_CREAT);
    pthread_mutexattr_t kind;
    pthread_mutexattr_init(&kind);
    pthread_mutexattr_setpshared(&kind, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&kind, PTHREAD_MUTEX_ROBUST);
    if (made) pthread_mutex_init(made, &kind);
    syscall(SYS_link, fresh, path);
    syscall(SYS_unlink, fresh);
    if (made) munmap(made, sizeof *made);
    record_lock = map_file(path, sizeof *record_lock, O_RDWR);
    snprintf(path, sizeof path, "%s/record", folder);
    record_file = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

static bool records(const char *path) {
    pthread_once(&record_once, open_record);
    if (record_file < 0 || !record_lock) return false;
    size_t size = strlen(record_root);
    return strncmp(path, record_root, size) == 0 && (path[size] == 0 || path[size] == '/');
}

static void lock_record(void) {
    /* Its last holder may have been killed with the lock; then its last change may be missing from the record. */
    if (pthread_mutex_lock(record_lock) == EOWNERDEAD) pthread_mutex_consistent(record_lock);
}

static void append(enum kind kind, uint64_t inode, int64_t place, const char *path, const char *other,
                   const struct iovec *data, int pieces, size_t data_bytes) {
    struct entry entry = {0, kind, inode, place, getpid(), strlen(path), other ? strlen(other) : 0, data_bytes};
    struct iovec all[PIECES_MAX] = {
        {&entry, sizeof entry}, {(void *)path, entry.path_bytes}, {(void *)other, entry.other_bytes}};
    entry.bytes = sizeof entry - sizeof entry.bytes + entry.path_bytes + entry.other_bytes + data_bytes;
    int count = 3;
    for (int number = 0; number < pieces && data_bytes; number++) {
        if (count == PIECES_MAX) {
            syscall(SYS_writev, record_file, all, count);
            count = 0;
        }
        size_t size = data[number].iov_len < data_bytes ? data[number].iov_len : data_bytes;
        all[count++] = (struct iovec){data[number].iov_base, size};
        data_bytes -= size;
    }
    syscall(SYS_writev, record_file, all, count);
}

static void append_plain(enum kind kind, uint64_t inode, int64_t place, const char *path, const char *other) {
    append(kind, inode, place, path, other, NULL, 0, 0);
}

/* ---- Paths ---- */

static void path_of(int file, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = syscall(SYS_readlink, link, path, PATH_MAX - 1);
    path[size > 0 ? size : 0] = 0;
}

static void absolute(int folder, const char *name, char *path) {
    char start[PATH_MAX] = "";
    if (name[0] != '/') {
        if (folder != AT_FDCWD) path_of(folder, start);
        else if (syscall(SYS_getcwd, start, sizeof start) < 0) start[0] = 0;
    }
    snprintf(path, PATH_MAX, "%s%s%s", start, start[0] ? "/" : "", name);
}

static uint64_t inode_of(const char *path) {
    struct stat found;
    return fstatat(AT_FDCWD, path, &found, AT_SYMLINK_NOFOLLOW) < 0 ? 0 : found.st_ino;
}

static bool watched(void) {
    return getenv("TORTURE_PLAN") || getenv("TORTURE_RECORD");
}

/* ---- Writing ---- */

static ssize_t put_really(int file, const struct iovec *data, int pieces, int64_t place) {
    if (place != HERE) return syscall(SYS_pwritev, file, data, pieces, (long)place, 0L);
    if (pieces == 1) return syscall(SYS_write, file, data->iov_base, data->iov_len);
    return syscall(SYS_writev, file, data, pieces);
}

static int64_t place_of(int file, int64_t place) {
    if (syscall(SYS_fcntl, file, F_GETFL) & O_APPEND) return syscall(SYS_lseek, file, 0, SEEK_END);
    return place != HERE ? place : syscall(SYS_lseek, file, 0, SEEK_CUR);
}

static ssize_t put_and_record(int file, const char *path, const struct iovec *data, int pieces, int64_t place) {
    struct stat found = {0};
    lock_record();
    int64_t start = place_of(file, place);
    ssize_t written = put_really(file, data, pieces, place);
    int error = errno;
    fstat(file, &found);
    if (written > 0) append(WROTE, found.st_ino, start, path, NULL, data, pieces, written);
    pthread_mutex_unlock(record_lock);
    errno = error;
    return written;
}

static ssize_t put_half(int file, const char *path, const struct iovec *data, int64_t place) {
    struct iovec half = {data->iov_base, (data->iov_len + 1) / 2};
    return records(path) ? put_and_record(file, path, &half, 1, place) : put_really(file, &half, 1, place);
}

static int peer_port(int socket) {
    struct sockaddr_in peer;
    socklen_t size = sizeof peer;
    return getpeername(socket, (struct sockaddr *)&peer, &size) == 0 && peer.sin_family == AF_INET ? ntohs(peer.sin_port) : 0;
}

/* An answer is recorded before it is sent: a client cannot have been told earlier than this. */
static void record_answer(int socket, const struct iovec *data, int pieces) {
    pthread_once(&record_once, open_record);
    if (record_file < 0 || !record_lock || pieces < 1 || data->iov_len < 7 || memcmp(data->iov_base, "HTTP/1.", 7)) return;
    size_t size = data->iov_len < SENT_BYTES_MAX ? data->iov_len : SENT_BYTES_MAX;
    lock_record();
    append(SENT, peer_port(socket), 0, "", NULL, data, 1, size);
    pthread_mutex_unlock(record_lock);
}

static ssize_t put(int file, const struct iovec *data, int pieces, int64_t place) {
    char path[PATH_MAX], action[WORD_MAX];
    if (!watched()) return put_really(file, data, pieces, place);
    path_of(file, path);
    bool socket = strncmp(path, "socket:", 7) == 0;
    look_up(action, socket ? "send" : "write", path, NULL);
    if (fails(action)) return -1;
    if (strcmp(action, "short") == 0 && !socket) return put_half(file, path, data, place);
    if (socket) record_answer(file, data, pieces);
    ssize_t written = !socket && records(path) ? put_and_record(file, path, data, pieces, place)
                                               : put_really(file, data, pieces, place);
    kill_after(action);
    return written;
}

ssize_t write(int file, const void *data, size_t size) {
    struct iovec piece = {(void *)data, size};
    return put(file, &piece, 1, HERE);
}

ssize_t pwrite(int file, const void *data, size_t size, off_t place) {
    struct iovec piece = {(void *)data, size};
    return put(file, &piece, 1, place);
}
ssize_t pwrite64(int, const void *, size_t, off_t) __attribute__((alias("pwrite")));

ssize_t writev(int file, const struct iovec *data, int pieces) { return put(file, data, pieces, HERE); }

ssize_t pwritev(int file, const struct iovec *data, int pieces, off_t place) { return put(file, data, pieces, place); }
ssize_t pwritev64(int, const struct iovec *, int, off_t) __attribute__((alias("pwritev")));

/* What would copy inside the kernel is refused, so that callers fall back to writes that are seen. */
ssize_t copy_file_range(int from, off_t *from_place, int to, off_t *to_place, size_t size, unsigned flags) {
    if (watched()) return errno = ENOSYS, -1;
    return syscall(SYS_copy_file_range, from, from_place, to, to_place, size, flags);
}

ssize_t send(int socket, const void *data, size_t size, int flags) {
    char action[WORD_MAX];
    struct iovec piece = {(void *)data, size};
    look_up(action, "send", "socket:", NULL);
    if (fails(action)) return -1;
    if (watched()) record_answer(socket, &piece, 1);
    ssize_t sent = syscall(SYS_sendto, socket, data, size, flags, NULL, 0);
    kill_after(action);
    return sent;
}

/* ---- Syncing and lengths ---- */

static int sync_and_record(int file, const char *path, long number) {
    struct stat found = {0};
    lock_record();
    int result = syscall(number, file);
    int error = errno;
    fstat(file, &found);
    if (result == 0) append_plain(SYNCED, found.st_ino, 0, path, NULL);
    pthread_mutex_unlock(record_lock);
    errno = error;
    return result;
}

static int sync_by(int file, long number) {
    char path[PATH_MAX], action[WORD_MAX];
    if (!watched()) return syscall(number, file);
    path_of(file, path);
    look_up(action, "sync", path, NULL);
    if (fails(action)) return -1;
    int result = records(path) ? sync_and_record(file, path, number) : syscall(number, file);
    kill_after(action);
    return result;
}

int fsync(int file) { return sync_by(file, SYS_fsync); }
int fdatasync(int file) { return sync_by(file, SYS_fdatasync); }

static int cut_and_record(int file, const char *path, off_t length) {
    struct stat found = {0};
    lock_record();
    int result = syscall(SYS_ftruncate, file, length);
    int error = errno;
    fstat(file, &found);
    if (result == 0) append_plain(TRUNCATED, found.st_ino, length, path, NULL);
    pthread_mutex_unlock(record_lock);
    errno = error;
    return result;
}

int ftruncate(int file, off_t length) {
    char path[PATH_MAX], action[WORD_MAX];
    if (!watched()) return syscall(SYS_ftruncate, file, length);
    path_of(file, path);
    look_up(action, "truncate", path, NULL);
    if (fails(action)) return -1;
    int result = records(path) ? cut_and_record(file, path, length) : syscall(SYS_ftruncate, file, length);
    kill_after(action);
    return result;
}
int ftruncate64(int, off_t) __attribute__((alias("ftruncate")));

/* Refused while recording: callers then write, which is seen. */
int fallocate(int file, int mode, off_t start, off_t length) {
    char path[PATH_MAX], action[WORD_MAX];
    if (!watched()) return syscall(SYS_fallocate, file, mode, start, length);
    path_of(file, path);
    look_up(action, "allocate", path, NULL);
    if (fails(action)) return -1;
    if (records(path)) return errno = EOPNOTSUPP, -1;
    int result = syscall(SYS_fallocate, file, mode, start, length);
    kill_after(action);
    return result;
}
int fallocate64(int, int, off_t, off_t) __attribute__((alias("fallocate")));

/* ---- Opening ---- */

static int open_and_record(int folder, const char *name, int flags, mode_t mode, const char *path) {
    struct stat found = {0};
    lock_record();
    bool there = inode_of(path) != 0;
    int file = syscall(SYS_openat, folder, name, flags, mode);
    int error = errno;
    if (file >= 0) fstat(file, &found);
    if (file >= 0 && !there) append_plain(CREATED, found.st_ino, 0, path, NULL);
    if (file >= 0 && there && (flags & O_TRUNC)) append_plain(TRUNCATED, found.st_ino, 0, path, NULL);
    pthread_mutex_unlock(record_lock);
    errno = error;
    return file;
}

static int open_by(int folder, const char *name, int flags, mode_t mode) {
    char path[PATH_MAX], action[WORD_MAX] = "";
    if (!watched()) return syscall(SYS_openat, folder, name, flags, mode);
    absolute(folder, name, path);
    bool makes = (flags & O_CREAT) && inode_of(path) == 0;
    if (makes) look_up(action, "create", path, NULL);
    else if (flags & O_TRUNC) look_up(action, "truncate", path, NULL);
    if (!action[0]) look_up(action, "open", path, NULL);
    if (fails(action)) return -1;
    bool changes = (flags & (O_CREAT | O_TRUNC)) && !((flags & O_TMPFILE) == O_TMPFILE);
    int file = changes && records(path) ? open_and_record(folder, name, flags, mode, path)
                                        : syscall(SYS_openat, folder, name, flags, mode);
    kill_after(action);
    return file;
}

static mode_t mode_from(int flags, va_list rest) {
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
}

int open(const char *name, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = mode_from(flags, rest);
    va_end(rest);
    return open_by(AT_FDCWD, name, flags, mode);
}
int open64(const char *, int, ...) __attribute__((alias("open")));

int openat(int folder, const char *name, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = mode_from(flags, rest);
    va_end(rest);
    return open_by(folder, name, flags, mode);
}
int openat64(int, const char *, int, ...) __attribute__((alias("openat")));

int creat(const char *name, mode_t mode) { return open_by(AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *, mode_t) __attribute__((alias("creat")));

/* ---- Names ---- */

/* A change of names: what it is called in plans and in the record, and the system call with its arguments. */
struct naming {
    const char *call;
    enum kind kind;
    long number;
    long arguments[5];
    int folder, other_folder;
    const char *name, *other;
};

static int name_really(const struct naming *change) {
    const long *given = change->arguments;
    return syscall(change->number, given[0], given[1], given[2], given[3], given[4]);
}

static int name_and_record(const struct naming *change, const char *path, const char *other) {
    lock_record();
    uint64_t inode = inode_of(path);
    int result = name_really(change);
    int error = errno;
    if (change->kind == MADE_FOLDER) inode = inode_of(path);
    if (result == 0) append_plain(change->kind, inode, 0, path, other);
    pthread_mutex_unlock(record_lock);
    errno = error;
    return result;
}

static int change_names(const struct naming *change) {
    char path[PATH_MAX], second[PATH_MAX], action[WORD_MAX];
    if (!watched()) return name_really(change);
    absolute(change->folder, change->name, path);
    if (change->other) absolute(change->other_folder, change->other, second);
    const char *other = change->other ? second : NULL;
    look_up(action, change->call, path, other);
    if (fails(action)) return -1;
    int result = records(path) ? name_and_record(change, path, other) : name_really(change);
    kill_after(action);
    return result;
}

int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags) {
    return change_names(&(struct naming){"rename", RENAMED, SYS_renameat2,
        {from_folder, (long)from, to_folder, (long)to, flags}, from_folder, to_folder, from, to});
}
int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    return renameat2(from_folder, from, to_folder, to, 0);
}
int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }

int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags) {
    return change_names(&(struct naming){"link", LINKED, SYS_linkat,
        {from_folder, (long)from, to_folder, (long)to, flags}, from_folder, to_folder, from, to});
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

int unlinkat(int folder, const char *name, int flags) {
    return change_names(&(struct naming){"unlink", flags & AT_REMOVEDIR ? REMOVED_FOLDER : UNLINKED, SYS_unlinkat,
        {folder, (long)name, flags}, folder, 0, name, NULL});
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

int mkdirat(int folder, const char *name, mode_t mode) {
    return change_names(&(struct naming){"mkdir", MADE_FOLDER, SYS_mkdirat,
        {folder, (long)name, mode}, folder, 0, name, NULL});
}
int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

/* ---- The clock ---- */

static int (*real_clock_gettime)(clockid_t, struct timespec *);

static void open_clock(void) {
    const char *path = getenv("TORTURE_CLOCK");
    /* The library's own function asks no system call. */
    *(void **)&real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    if (path) clock_offset_ns = map_file(path, sizeof *clock_offset_ns, O_RDONLY);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    pthread_once(&clock_once, open_clock);
    int result = real_clock_gettime(clock, now);
    if (result || !clock_offset_ns || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) return result;
    int64_t ns = now->tv_sec * 1000000000LL + now->tv_nsec + *clock_offset_ns;
    now->tv_sec = ns / 1000000000;
    now->tv_nsec = ns % 1000000000;
    return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    (void)zone;
    int result = clock_gettime(CLOCK_REALTIME, &exact);
    *now = (struct timeval){exact.tv_sec, exact.tv_nsec / 1000};
    return result;
}

time_t time(time_t *seconds) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (seconds) *seconds = exact.tv_sec;
    return exact.tv_sec;
}
