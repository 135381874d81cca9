/* A library to preload (ld.so(8)): notes when the calls of interest begin and return.
 *
 * HB_TRACE names a file that exists and is large enough. It is mapped and shared by all processes,
 * and holds a counter and then records, see `struct record`. A note costs two readings of the clock
 * and a store, some hundred nanoseconds, so that what is seen is hardly slower for being seen.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

enum call { EPOLL_WAIT, POLL, CONNECT, RECV, SEND, WRITE, CLOSE, KILL, FORK, EXECVE, WAITPID, FSYNC, EXIT };

struct record {
    int64_t began_ns, ended_ns;
    int32_t pid, call, fd, result;
};

static struct {
    _Atomic int64_t count;
    struct record records[];
} *trace;
static int64_t most;

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("HB_TRACE");
    struct stat about;
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd == -1 || fstat(fd, &about) == -1)
        return;
    void *map = mmap(NULL, about.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map != MAP_FAILED) {
        trace = map;
        most = (about.st_size - sizeof *trace) / sizeof(struct record);
    }
    int (*real)(int) = dlsym(RTLD_NEXT, "close");
    real(fd);
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* The result of a failed call is its errno, negated, as the kernel has it. */
static void note(enum call call, int64_t began, int fd, int64_t result)
{
    if (!trace)
        return;
    int64_t i = atomic_fetch_add(&trace->count, 1);
    if (i < most)
        trace->records[i] = (struct record){began, now_ns(), getpid(), call, fd,
                                            result == -1 ? -errno : (int32_t)result};
}

#define TRACED(call, type, name, parameters, arguments, fd)                 \
    type name parameters                                                    \
    {                                                                       \
        static type(*real) parameters;                                      \
        if (!real)                                                          \
            *(void **)&real = dlsym(RTLD_NEXT, #name);                      \
        int64_t began = now_ns();                                           \
        type result = real arguments;                                       \
        int kept = errno;                                                   \
        note(call, began, fd, result);                                      \
        errno = kept;                                                       \
        return result;                                                      \
    }

TRACED(EPOLL_WAIT, int, epoll_wait, (int fd, struct epoll_event *found, int most_found, int wait_ms),
       (fd, found, most_found, wait_ms), fd)
TRACED(POLL, int, poll, (struct pollfd *fds, nfds_t count, int wait_ms), (fds, count, wait_ms), -1)
TRACED(CONNECT, int, connect, (int fd, const struct sockaddr *to, socklen_t size), (fd, to, size), fd)
TRACED(RECV, ssize_t, recv, (int fd, void *to, size_t size, int flags), (fd, to, size, flags), fd)
TRACED(SEND, ssize_t, send, (int fd, const void *from, size_t size, int flags),
       (fd, from, size, flags), fd)
TRACED(WRITE, ssize_t, write, (int fd, const void *from, size_t size), (fd, from, size), fd)
TRACED(CLOSE, int, close, (int fd), (fd), fd)
TRACED(KILL, int, kill, (pid_t pid, int number), (pid, number), pid)
TRACED(KILL, int, killpg, (pid_t group, int number), (group, number), group)
TRACED(FORK, pid_t, fork, (void), (), -1)
TRACED(WAITPID, pid_t, waitpid, (pid_t pid, int *status, int options), (pid, status, options), pid)
TRACED(FSYNC, int, fsync, (int fd), (fd), fd)

/* These do not return when all goes well, so they are noted before. */
int execve(const char *path, char *const argv[], char *const env[])
{
    static int (*real)(const char *, char *const[], char *const[]);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "execve");
    note(EXECVE, now_ns(), -1, 0);
    return real(path, argv, env);
}

void _exit(int status)
{
    static void (*real)(int) __attribute__((noreturn));
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "_exit");
    note(EXIT, now_ns(), -1, status);
    real(status);
}
