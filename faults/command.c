/* The command that two members run in a fault campaign: each of its processes records its life.
 *
 *     faults-command FOLDER serve|stubborn|batch|family|daemon|bomb|flood [MILLISECONDS]
 *     faults-command seize|spin|busy PROCESSES MILLISECONDS
 *
 * A run keeps one file, FOLDER/HOST.EPOCH.RUN.PID by what its environment says, mapped and shared with all that it forks, so that
 * a record is a store in memory: a SIGKILL leaves the last one behind, and no write can fail. The
 * folder is in memory and belongs to no host. All times are CLOCK_MONOTONIC, which the hosts of a
 * campaign share, in nanoseconds; all numbers are native 64-bit.
 *
 * Each process has a slot and ticks: it notes the time every TICK. Where two ticks are further apart
 * than HOLE it notes that, too. So the record says when a process ran, and when it stood still.
 *
 * As the first thing the run looks whether a process of another host, by that host's own records, is
 * still there. That is exact where ticks are not: one that is about to die has no tick left.
 *
 *   serve     ends on SIGTERM
 *   stubborn  ignores SIGTERM
 *   batch     ends after MILLISECONDS
 *   family    as serve, with two children, each in a process group of its own
 *   daemon    as serve, with a daemon: a session of its own, no descriptor kept, deaf to SIGTERM
 *   bomb      every process of it forks for as long as the host lets it
 *   flood     as serve, with a child that writes to standard output without end
 *   spin      no command: keeps as many processors busy, at the highest ordinary priority
 *   seize     the same at a real-time priority, before which no ordinary process runs
 *   busy      the same at no priority
 */
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { EPOCH, RUN, USED, LOST, FOREIGN, FOREIGN_PID, FOREIGN_STATE };   /* of a file */
enum { PID, KIND, START, LAST, END, HOLES, FIRST_HOLE };                /* of a slot */
enum { MAIN, CHILD, DAEMON };                                           /* of a process */
enum { WORDS = 64, SLOTS = 2048, MAX_HOLES = (WORDS - FIRST_HOLE) / 2 };

#define MS INT64_C(1000000)
#define TICK (5 * MS)
#define HOLE (25 * MS)
#define PF_EXITING 4u

static const struct timespec TICK_TIME = {0, TICK}, AGAIN = {0, 20 * MS};
static int64_t *record, *slot;
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

/* A slot for this process. Without one it does not live: nobody would know of it. */
static void begin(int kind, int64_t at)
{
    int64_t index = __atomic_fetch_add(&record[USED], 1, __ATOMIC_SEQ_CST);
    if (index >= SLOTS) {
        __atomic_fetch_add(&record[LOST], 1, __ATOMIC_SEQ_CST);
        _exit(1);
    }
    slot = record + WORDS * (1 + index);
    slot[PID] = getpid();
    slot[KIND] = kind;
    slot[LAST] = at;
    __atomic_store_n(&slot[START], at, __ATOMIC_SEQ_CST);
}

static void tick(void)
{
    int64_t now = now_ns(), last = slot[LAST];
    if (now - last > HOLE && slot[HOLES] < MAX_HOLES) {
        int64_t *hole = slot + FIRST_HOLE + 2 * slot[HOLES];
        hole[0] = last;
        hole[1] = now;
        slot[HOLES]++;
    }
    slot[LAST] = now;
}

static void live(int64_t for_ms)
{
    int64_t until = for_ms ? slot[START] + for_ms * MS : INT64_MAX;
    while (!asked_to_end && slot[LAST] < until) {
        nanosleep(&TICK_TIME, NULL);
        tick();
    }
    slot[END] = slot[LAST];
}

/* -- other hosts --------------------------------------------------------------------------------- */

/* The state letter of a process of this program, or 0: gone, a zombie, on its way to be one, or
 * another's number by now. It has left its program for good when it is exiting (PF_EXITING of the
 * kernel's sched.h), and already when a SIGKILL is pending, of which a host that has no processor for
 * it cannot let it die (proc_pid_stat(5), fields 9 and 31). */
static char state_of(int64_t pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%lld/stat", (long long)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd == -1)
        return 0;
    ssize_t size = read(fd, text, sizeof text - 1);
    close(fd);
    text[size > 0 ? size : 0] = 0;
    char *end = strrchr(text, ')');
    unsigned flags = 0;
    unsigned long long pending = 0;
    if (!end || !strstr(text, "(faults-command)") || end[2] == 'Z' || end[2] == 'X')
        return 0;
    int read_fields = sscanf(end + 2,
        "%*c %*s %*s %*s %*s %*s %u %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
        "%*s %*s %*s %*s %*s %llu", &flags, &pending);
    if (read_fields == 2 && (flags & PF_EXITING || pending & 1ULL << (SIGKILL - 1)))
        return 0;
    return end[2];
}

static void look_at(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd == -1)
        return;
    int64_t *other = mmap(NULL, 8 * WORDS * (SLOTS + 1), PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (other == MAP_FAILED)
        return;
    for (int64_t i = 0; i < other[USED] && i < SLOTS; i++) {
        int64_t *its = other + WORDS * (1 + i);
        char state = its[START] && !its[END] ? state_of(its[PID]) : 0;
        if (state && !its[END]) {
            record[FOREIGN]++;
            record[FOREIGN_PID] = its[PID];
            record[FOREIGN_STATE] = state;
        }
    }
    munmap(other, 8 * WORDS * (SLOTS + 1));
}

static void look_for_others(const char *folder, const char *host)
{
    DIR *all = opendir(folder);
    size_t length = strlen(host);
    for (struct dirent *entry; all && (entry = readdir(all));) {
        const char *name = entry->d_name;
        if (name[0] == '.' || (strncmp(name, host, length) == 0 && name[length] == '.'))
            continue;
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", folder, name);
        look_at(path);
    }
    if (all)
        closedir(all);
}

/* Publish the file by a rename, so that nobody ever sees half of one. */
static void publish(const char *folder, const char *host, int64_t began)
{
    char hidden[4096], shown[4096];
    const char *run = getenv("HA_HEARTBEAT_RUN");
    long long epoch = 0, number = 0;
    if (run)
        sscanf(run, "%lld.%lld", &epoch, &number);
    long pid = getpid();
    snprintf(hidden, sizeof hidden, "%s/.%ld.%lld", folder, pid, (long long)began);
    snprintf(shown, sizeof shown, "%s/%s.%lld.%lld.%ld", folder, host, epoch, number, pid);
    int fd = open(hidden, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    size_t size = 8 * WORDS * (SLOTS + 1);
    if (fd == -1 || ftruncate(fd, size) == -1)
        exit(1);
    record = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (record == MAP_FAILED)
        exit(1);
    close(fd);
    record[EPOCH] = epoch;
    record[RUN] = number;
    begin(MAIN, began);
    if (rename(hidden, shown) == -1)
        exit(1);
}

/* -- what commands do ---------------------------------------------------------------------------- */

static void have_child(void)
{
    if (fork() == 0) {
        begin(CHILD, now_ns());
        setpgid(0, 0);
        live(0);
        _exit(0);
    }
}

/* daemon(7): fork, setsid, fork, and no descriptor of the parent's. */
static void have_daemon(void)
{
    pid_t middle = fork();
    if (middle == 0) {
        setsid();
        if (fork() == 0) {
            begin(DAEMON, now_ns());
            signal(SIGTERM, SIG_IGN);
            for (int fd = 0; fd < 256; fd++)
                close(fd);
            live(0);
        }
        _exit(0);
    }
    if (middle > 0)
        waitpid(middle, NULL, 0);
}

static void explode(void)
{
    signal(SIGCHLD, SIG_IGN);
    while (!asked_to_end) {
        pid_t pid = fork();
        if (pid == 0)
            begin(CHILD, now_ns());
        else
            nanosleep(pid > 0 ? &TICK_TIME : &AGAIN, NULL);
        tick();
    }
    slot[END] = slot[LAST];
}

static void flood(void)
{
    static char line[4096];
    if (fork() != 0)
        return;
    begin(CHILD, now_ns());
    memset(line, '~', sizeof line - 1);
    line[sizeof line - 1] = '\n';
    while (!asked_to_end) {
        if (write(1, line, sizeof line) == -1)
            nanosleep(&TICK_TIME, NULL);
        tick();
    }
    slot[END] = slot[LAST];
    _exit(0);
}

static int spin(const char *mode, int count, int64_t for_ms)
{
    struct sched_param lowest = {.sched_priority = 1};
    int64_t until = now_ns() + for_ms * MS;
    if (strcmp(mode, "spin") == 0 && setpriority(PRIO_PROCESS, 0, -20) == -1)
        return 1;
    if (strcmp(mode, "seize") == 0 && sched_setscheduler(0, SCHED_RR, &lowest) == -1)
        return 1;
    for (int i = 1; i < count; i++)
        if (fork() == 0)
            break;
    while (now_ns() < until)
        ;
    return 0;
}

int main(int argc, char **argv)
{
    int64_t began = now_ns();
    signal(SIGTERM, ask_to_end);
    if (argc == 4 && strchr("sb", argv[1][0]))
        return spin(argv[1], atoi(argv[2]), atoll(argv[3]));
    const char *host = getenv("HA_HEARTBEAT_MEMBER");
    if (argc < 3 || !host)
        return 2;
    const char *mode = argv[2];
    if (strcmp(mode, "stubborn") == 0)
        signal(SIGTERM, SIG_IGN);
    publish(argv[1], host, began);
    look_for_others(argv[1], host);
    if (strcmp(mode, "bomb") == 0) {
        explode();
        return 0;
    }
    if (strcmp(mode, "daemon") == 0)
        have_daemon();
    if (strcmp(mode, "flood") == 0)
        flood();
    for (int i = 0; i < 2 && strcmp(mode, "family") == 0; i++)
        have_child();
    live(argc > 3 ? atoll(argv[3]) : 0);
    return 0;
}
