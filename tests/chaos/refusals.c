/* What the system of a process refuses it while a file says so: the addresses of names, because the resolver is away, and writes
 * below a folder, because its disk has become read-only. Preloaded into workers.
 *
 * CLIPSTREAM_TEST_REFUSALS: the file, see `struct control`. CLIPSTREAM_TEST_DISK: the folder.
 *
 * The names below pictures.test, and localhost, have this machine's address. No other name exists, and nobody is asked.
 *
 * A disk that becomes read-only under files that are open (as ext4 does with errors=remount-ro) refuses whatever writes, syncs,
 * makes or removes. What this cannot refuse is a store to a page that is mapped; its msync(2) is refused.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define REAL(name) ({ \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name); \
    real; \
})

enum names { ANSWERED, AWAY, HANGS, DENIED };

struct control {
    /* `enum names`. */
    volatile int64_t names;
    /* Whether the disk is read-only. */
    volatile int64_t read_only;
    /* Refusals so far. */
    int64_t names_refused, writes_refused;
};

/* Longer than anybody's patience. */
#define HANG_S 6
/* Of a name that is denied, the process has had the address for so long: it has used it. */
#define KNOWN_S 5
#define NAMES_MAX 16
#define OURS ".pictures.test"

static struct control *control;
static const char *folder;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("CLIPSTREAM_TEST_REFUSALS");
    int file = path ? REAL(open)(path, O_RDWR) : -1;
    if (file < 0) return;
    void *mapped = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED) control = mapped;
    close(file);
    folder = getenv("CLIPSTREAM_TEST_DISK");
}

static void count(int64_t *refusals) { __atomic_fetch_add(refusals, 1, __ATOMIC_RELAXED); }

/* Names. */

static int is_address(const char *node) {
    unsigned char address[16];
    return inet_pton(AF_INET, node, address) == 1 || inet_pton(AF_INET6, node, address) == 1;
}

static int is_ours(const char *node) {
    size_t length = strlen(node), end = strlen(OURS);
    return !strcmp(node, "localhost") || (length > end && !strcmp(node + length - end, OURS));
}

/* Whether this process has had the address of a name for a while; from now on it has it. */
static int is_known(const char *node) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static struct { char name[64]; time_t since_s; } known[NAMES_MAX];
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int found = 0;
    pthread_mutex_lock(&lock);
    for (int n = 0; n < NAMES_MAX; n++) {
        if (!known[n].name[0]) {
            snprintf(known[n].name, sizeof known[n].name, "%s", node);
            known[n].since_s = now.tv_sec;
        }
        if (!strcmp(known[n].name, node)) {
            found = now.tv_sec - known[n].since_s >= KNOWN_S;
            break;
        }
    }
    pthread_mutex_unlock(&lock);
    return found;
}

static int refused(const char *node) {
    switch (control->names) {
    case HANGS:
        count(&control->names_refused);
        sleep(HANG_S);
        return EAI_AGAIN;
    case AWAY:
        count(&control->names_refused);
        return EAI_AGAIN;
    case DENIED:
        if (!is_ours(node) || !is_known(node)) break;
        count(&control->names_refused);
        return EAI_NONAME;
    }
    return 0;
}

int getaddrinfo(const char *restrict node, const char *restrict service, const struct addrinfo *restrict hints,
                struct addrinfo **restrict found) {
    if (!control || !node || is_address(node)) return REAL(getaddrinfo)(node, service, hints, found);
    int why = refused(node);
    if (why) return why;
    if (!is_ours(node)) return EAI_NONAME;
    is_known(node);
    return REAL(getaddrinfo)("127.0.0.1", service, hints, found);
}

/* The disk. */

static int is_read_only(void) { return control && folder && control->read_only; }

static int is_below(const char *path) {
    size_t length = strlen(folder);
    return !strncmp(path, folder, length) && (path[length] == '/' || !path[length]);
}

static int refuse(void) {
    count(&control->writes_refused);
    errno = EROFS;
    return -1;
}

static int refuses(const char *path) { return is_read_only() && path && is_below(path); }

static int refuses_file(int file) {
    if (!is_read_only()) return 0;
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_below(path);
}

/* A path that `at` is the folder of. */
static int refuses_at(int at, const char *path) { return path && path[0] == '/' ? refuses(path) : refuses_file(at); }

static int is_for_writing(int flags) { return (flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC); }

#define MODE(flags) ({ \
    mode_t mode = 0; \
    if (flags & (O_CREAT | __O_TMPFILE)) { \
        va_list more; \
        va_start(more, flags); \
        mode = va_arg(more, mode_t); \
        va_end(more); \
    } \
    mode; \
})

int open(const char *path, int flags, ...) {
    mode_t mode = MODE(flags);
    return is_for_writing(flags) && refuses(path) ? refuse() : REAL(open)(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    mode_t mode = MODE(flags);
    return is_for_writing(flags) && refuses(path) ? refuse() : REAL(open64)(path, flags, mode);
}

int openat(int at, const char *path, int flags, ...) {
    mode_t mode = MODE(flags);
    return is_for_writing(flags) && refuses_at(at, path) ? refuse() : REAL(openat)(at, path, flags, mode);
}

int openat64(int at, const char *path, int flags, ...) {
    mode_t mode = MODE(flags);
    return is_for_writing(flags) && refuses_at(at, path) ? refuse() : REAL(openat64)(at, path, flags, mode);
}

ssize_t write(int file, const void *bytes, size_t length) {
    return refuses_file(file) ? refuse() : REAL(write)(file, bytes, length);
}

ssize_t writev(int file, const struct iovec *pieces, int length) {
    return refuses_file(file) ? refuse() : REAL(writev)(file, pieces, length);
}

ssize_t pwrite64(int file, const void *bytes, size_t length, off64_t at) {
    return refuses_file(file) ? refuse() : REAL(pwrite64)(file, bytes, length, at);
}

int ftruncate64(int file, off64_t length) { return refuses_file(file) ? refuse() : REAL(ftruncate64)(file, length); }

int fallocate64(int file, int mode, off64_t at, off64_t length) {
    return refuses_file(file) ? refuse() : REAL(fallocate64)(file, mode, at, length);
}

int fsync(int file) { return refuses_file(file) ? refuse() : REAL(fsync)(file); }

int fdatasync(int file) { return refuses_file(file) ? refuse() : REAL(fdatasync)(file); }

/* Only a store maps files to write to them. */
int msync(void *begin, size_t length, int flags) { return is_read_only() ? refuse() : REAL(msync)(begin, length, flags); }

int rename(const char *from, const char *to) { return refuses(to) ? refuse() : REAL(rename)(from, to); }

int unlink(const char *path) { return refuses(path) ? refuse() : REAL(unlink)(path); }

int unlinkat(int at, const char *path, int flags) {
    return refuses_at(at, path) ? refuse() : REAL(unlinkat)(at, path, flags);
}

int mkdir(const char *path, mode_t mode) { return refuses(path) ? refuse() : REAL(mkdir)(path, mode); }

int rmdir(const char *path) { return refuses(path) ? refuse() : REAL(rmdir)(path); }
