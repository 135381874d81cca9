/* The command that the members run in a benchmark: it records when it lives, and nothing else.
 *
 *     payload FOLDER MEMBER quick|lasting|still
 *
 * quick ends at once, lasting gives a sign of life every millisecond until SIGTERM, still every
 * hour, so that it costs nothing.
 *
 * The first thing it does is to read CLOCK_MONOTONIC, which all network namespaces share. Its record
 * is a file FOLDER/start.member.pid of four native 64-bit numbers: start, last sign of life, end (0
 * while there is none; nanoseconds) and HA_HEARTBEAT_EPOCH. The file is mapped, so that a tick is a
 * store and no system call, and a SIGKILL leaves the last one behind.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { START, LAST, END, EPOCH, FIELDS };

static const struct timespec TICK = {0, 1000000}, HOUR = {3600, 0};
static volatile sig_atomic_t asked_to_end;

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static void ask_to_end(int number)
{
    (void)number;
    asked_to_end = 1;
}

/* Publish the record by a rename, so that nobody ever sees half of one. */
static volatile int64_t *publish(const char *folder, const char *member, const int64_t *record)
{
    char hidden[512], shown[512];
    snprintf(hidden, sizeof hidden, "%s/.%ld", folder, (long)getpid());
    snprintf(shown, sizeof shown, "%s/%lld.%s.%ld", folder, (long long)record[START], member,
             (long)getpid());
    int fd = open(hidden, O_RDWR | O_CREAT | O_TRUNC, 0600);
    size_t size = FIELDS * sizeof *record;
    if (fd == -1 || write(fd, record, size) != (ssize_t)size)
        exit(1);
    void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED || rename(hidden, shown) == -1)
        exit(1);
    return map;
}

int main(int argc, char **argv)
{
    int64_t began = now_ns();
    signal(SIGTERM, ask_to_end);
    if (argc != 4)
        return 2;
    const char *epoch = getenv("HA_HEARTBEAT_EPOCH");
    int64_t first[FIELDS] = {began, began, 0, epoch ? atoll(epoch) : 0};
    volatile int64_t *record = publish(argv[1], argv[2], first);
    const struct timespec *pause = strcmp(argv[3], "still") == 0 ? &HOUR : &TICK;
    while (!asked_to_end && strcmp(argv[3], "quick") != 0) {
        record[LAST] = now_ns();
        nanosleep(pause, NULL);
    }
    record[LAST] = record[END] = now_ns();
    return 0;
}
