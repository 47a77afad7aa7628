/* Makes reads of chunk files fail with EIO while the file named in CELLSYNC_TEST_FAILING_READS exists. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static int fails(int fd) {
    const char *flag = getenv("CELLSYNC_TEST_FAILING_READS");
    char link[64], path[4096];
    if (!flag || access(flag, F_OK) != 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, sizeof path - 1);
    if (len < 0) return 0;
    path[len] = 0;
    return strstr(path, "/chunks/") != NULL;
}

#define REPLACE(name, fd, parameters, arguments)                                     \
    ssize_t name parameters {                                                        \
        ssize_t(*original) parameters = (ssize_t(*) parameters)dlsym(RTLD_NEXT, #name); \
        if (fails(fd)) {                                                             \
            errno = EIO;                                                             \
            return -1;                                                               \
        }                                                                            \
        return original arguments;                                                   \
    }

REPLACE(read, fd, (int fd, void *bytes, size_t len), (fd, bytes, len))
REPLACE(pread64, fd, (int fd, void *bytes, size_t len, off64_t at), (fd, bytes, len, at))
REPLACE(readv, fd, (int fd, const struct iovec *pieces, int count), (fd, pieces, count))
REPLACE(sendfile64, from, (int to, int from, off64_t *at, size_t len), (to, from, at, len))
REPLACE(copy_file_range, from, (int from, off64_t *at, int to, off64_t *to_at, size_t len, unsigned flags),
        (from, at, to, to_at, len, flags))
