/* Preloaded into a member: steps the time of day that it sees, and no other clock.
 *
 * The file named by FAULTS_WALL_CLOCK holds one native 64-bit number: seconds to add. It is mapped, so
 * a step is seen at once. libfaketime cannot stand in: it shifts the deadlines of
 * clock_nanosleep(CLOCK_MONOTONIC), too, even where it leaves that clock alone.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *shift;

__attribute__((constructor)) static void open_shift(void)
{
    const char *path = getenv("FAULTS_WALL_CLOCK");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *map = fd == -1 ? MAP_FAILED : mmap(NULL, 8, PROT_READ, MAP_SHARED, fd, 0);
    if (fd != -1)
        close(fd);
    shift = map == MAP_FAILED ? NULL : map;
}

int clock_gettime(clockid_t clock, struct timespec *t)
{
    int failed = syscall(SYS_clock_gettime, clock, t);
    if (!failed && shift && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        t->tv_sec += *shift;
    return failed;
}

int gettimeofday(struct timeval *restrict t, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    t->tv_sec = now.tv_sec;
    t->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *t)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (t)
        *t = now.tv_sec;
    return now.tv_sec;
}
