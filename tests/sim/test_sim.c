/* The simulator's program. Without environment: the runs that belong to `make test`, as TAP. Otherwise:
 *
 *   SEED=s SEEDS=n   n runs from seed s on (one, when n is not given)
 *   TRACE=1          with everything that happens, on standard error
 *   HOURS=h          fresh seeds, for so long
 *   JOBS=n           processes at once (2)
 *   STOP=1           not beyond the first that fails
 *   KEEP=1           leaves the directory with the simulated disk
 *
 * Each run is a process of its own, so that one that crashes or spins is a seed that failed and nothing more. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "sim/run.h"

#ifdef __SANITIZE_ADDRESS__ /* ten times slower */
#define FIXED_SEEDS 100
#define FRESH_SEEDS 60
#define REPEATED_SEEDS 5
#else
#define FIXED_SEEDS 1600
#define FRESH_SEEDS 400
#define REPEATED_SEEDS 20
#endif
#define JOBS_MAX 64
/* For one run, which takes a tenth of a second (a second with sanitizers): of the processor's time, so that a busy
 * machine makes no run fail; and of real time, for one that sleeps in earnest. */
#define CPU_SECONDS_MAX 120
#define SECONDS_MAX 1800

const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "detect_leaks=0"; /* a life that ends by a power cut gives nothing back; the simulator counts by itself */
}

struct job {
    pid_t pid;
    uint64_t seed;
    char root[64];
};

static struct job jobs[JOBS_MAX];
static struct run_result *results; /* one per job, shared */
static unsigned job_count;
static bool tracing;
static bool stops;
static struct run_result sum;
static unsigned ran;
static unsigned failed;

static uint64_t number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text != NULL && text[0] != '\0' ? strtoull(text, NULL, 10) : otherwise;
}

static uint64_t fresh_seed(void)
{
    uint64_t seed = 0;
    CHECK(getentropy(&seed, sizeof seed) == 0);
    return seed >> 24;
}

static void remove_root(const char *root)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    if (system(command) != 0) {
        fprintf(stderr, "%s is left\n", root);
    }
}

static void start(struct job *job, uint64_t seed)
{
    job->seed = seed;
    snprintf(job->root, sizeof job->root, "%s/ringpost-sim-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    CHECK(mkdtemp(job->root) != NULL);
    fflush(stdout);
    job->pid = fork();
    CHECK(job->pid >= 0);
    if (job->pid == 0) {
        CHECK(setrlimit(RLIMIT_CPU, &(struct rlimit){CPU_SECONDS_MAX, CPU_SECONDS_MAX + 1}) == 0);
        alarm(SECONDS_MAX);
        run_seed(seed, job->root, tracing, &results[job - jobs]);
        _exit(0);
    }
}

/* Waits for one to end; its result in *ret_result. True when it passed. */
static bool finish(struct run_result *ret_result)
{
    int status = 0;
    pid_t pid;
    do {
        pid = wait(&status);
    } while (pid < 0 && errno == EINTR);
    struct job *job = jobs;
    while (job->pid != pid) {
        job++;
        CHECK(job < jobs + job_count);
    }
    job->pid = 0;
    if (getenv("KEEP") == NULL) {
        remove_root(job->root);
    }
    ran++;
    if (status != 0) {
        failed++;
        printf("# FAILED seed %llu (%s %d): make sim SEED=%llu TRACE=1\n", (unsigned long long)job->seed,
               WIFSIGNALED(status) ? "signal" : "exit", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
               (unsigned long long)job->seed);
        return false;
    }
    *ret_result = results[job - jobs];
    sum.events += ret_result->events;
    sum.virtual_s += ret_result->virtual_s;
    sum.lives += ret_result->lives;
    sum.cuts += ret_result->cuts;
    sum.letters += ret_result->letters;
    return true;
}

static unsigned running(void)
{
    unsigned count = 0;
    for (unsigned i = 0; i < job_count; i++) {
        count += jobs[i].pid != 0;
    }
    return count;
}

static struct job *free_job(void)
{
    struct run_result result;
    if (running() == job_count) {
        finish(&result);
    }
    struct job *job = jobs;
    while (job->pid != 0) {
        job++;
    }
    return job;
}

static void drain(void)
{
    struct run_result result;
    while (running() != 0) {
        finish(&result);
    }
}

static unsigned run_range(uint64_t seed, uint64_t count)
{
    unsigned before = failed;
    for (uint64_t i = 0; i < count && !(stops && failed != before); i++) {
        struct job *job = free_job();
        start(job, seed + i);
    }
    drain();
    return failed - before;
}

static unsigned run_fresh(uint64_t count, time_t until)
{
    unsigned before = failed;
    for (uint64_t i = 0; i < count && (until == 0 || time(NULL) < until); i++) {
        start(free_job(), fresh_seed());
    }
    drain();
    return failed - before;
}

/* The same seed, the same run. */
static unsigned run_twice(uint64_t seed, uint64_t count)
{
    unsigned different = 0;
    for (uint64_t i = 0; i < count; i++) {
        struct run_result first = {0};
        struct run_result second = {0};
        start(free_job(), seed + i);
        bool good = finish(&first);
        start(free_job(), seed + i);
        good = finish(&second) && good;
        if (!good || memcmp(&first, &second, sizeof first) != 0) {
            printf("# seed %llu gave two different runs: %llx and %llx\n", (unsigned long long)(seed + i),
                   (unsigned long long)first.hash, (unsigned long long)second.hash);
            different++;
        }
    }
    return different;
}

static void tell(void)
{
    printf("# %u runs, %u failed; %llu events, %llu h of virtual time, %u lives, %u of them cut, %u letters\n", ran,
           failed, (unsigned long long)sum.events, (unsigned long long)sum.virtual_s / 3600, sum.lives, sum.cuts,
           sum.letters);
}

static void tap(unsigned number_, unsigned failures, const char *what)
{
    printf("%s %u - %s\n", failures == 0 ? "ok" : "not ok", number_, what);
}

static int test(void)
{
    printf("1..3\n");
    tap(1, run_twice(1, REPEATED_SEEDS), "the same seed gives the same run");
    tap(2, run_range(1, FIXED_SEEDS), "fixed seeds");
    tap(3, run_fresh(FRESH_SEEDS, 0), "fresh seeds");
    return 0;
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    job_count = (unsigned)number("JOBS", 2);
    job_count = job_count < 1 ? 1 : job_count > JOBS_MAX ? JOBS_MAX : job_count;
    tracing = number("TRACE", 0) != 0;
    stops = number("STOP", 0) != 0;
    results = mmap(NULL, JOBS_MAX * sizeof *results, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(results != MAP_FAILED);
    uint64_t hours = number("HOURS", 0);
    uint64_t seed = number("SEED", 0);
    if (hours != 0) {
        run_fresh(UINT64_MAX, time(NULL) + (time_t)(hours * 3600));
    } else if (seed != 0 || getenv("SEEDS") != NULL) {
        run_range(seed != 0 ? seed : fresh_seed(), number("SEEDS", 1));
    } else {
        test();
    }
    tell();
    return failed != 0;
}
