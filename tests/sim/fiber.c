#include "sim/fiber.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>
#include <ucontext.h>

#include "base/check.h"
#include "sim/world.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#define FIBER_SANITIZED 1
#else
#define FIBER_SANITIZED 0
#endif

#define FIBERS_MAX 16
#define FIBER_STACK_BYTES (1u << 20)
#define FIBER_TURN_NS_MAX 4000 /* what a turn of a loop takes; time passes also for those who never sleep */

enum fiber_state { FIBER_READY, FIBER_SLEEPING, FIBER_ENDED };

struct fiber {
    ucontext_t context;
    char *stack;
    void *fake_stack; /* the address sanitizer's */
    void *(*start)(void *argument);
    void *argument;
    enum fiber_state state;
    bool woken;
    uint64_t wake_ns;
    const void *condition; /* that it waits for */
};

static struct fiber *fibers[FIBERS_MAX];
static unsigned fiber_count;
static struct fiber *running;
static ucontext_t world_context;
static void *world_fake_stack;
static const void *world_stack;
static size_t world_stack_bytes;

/* --- switching --- */

/* Tells the address sanitizer that another stack is about to be used, or is in use now. */
static void leave_stack(void **fake, const void *bottom, size_t bytes)
{
#if FIBER_SANITIZED
    __sanitizer_start_switch_fiber(fake, bottom, bytes);
#else
    (void)fake;
    (void)bottom;
    (void)bytes;
#endif
}

static void enter_stack(void *fake, const void **ret_bottom, size_t *ret_bytes)
{
#if FIBER_SANITIZED
    __sanitizer_finish_switch_fiber(fake, ret_bottom, ret_bytes);
#else
    (void)fake;
    (void)ret_bottom;
    (void)ret_bytes;
#endif
}

static void enter_world(void)
{
    struct fiber *self = running;
    leave_stack(self->state == FIBER_ENDED ? NULL : &self->fake_stack, world_stack, world_stack_bytes);
    swapcontext(&self->context, &world_context);
    enter_stack(self->fake_stack, &world_stack, &world_stack_bytes);
}

static void enter_fiber(struct fiber *fiber)
{
    running = fiber;
    leave_stack(&world_fake_stack, fiber->stack, FIBER_STACK_BYTES);
    swapcontext(&world_context, &fiber->context);
    enter_stack(world_fake_stack, NULL, NULL);
    running = NULL;
}

static void begin(void)
{
    enter_stack(NULL, &world_stack, &world_stack_bytes);
    running->start(running->argument);
    fiber_stop();
}

struct fiber *fiber_new(void *(*start)(void *argument), void *argument)
{
    CHECK(fiber_count < FIBERS_MAX);
    struct fiber *fiber = world_new(sizeof *fiber);
    fiber->stack = world_new(FIBER_STACK_BYTES);
    fiber->start = start;
    fiber->argument = argument;
    CHECK(getcontext(&fiber->context) == 0);
    fiber->context.uc_stack.ss_sp = fiber->stack;
    fiber->context.uc_stack.ss_size = FIBER_STACK_BYTES;
    makecontext(&fiber->context, begin, 0);
    fibers[fiber_count++] = fiber;
    return fiber;
}

struct fiber *fiber_current(void)
{
    return running;
}

bool fiber_ended(const struct fiber *fiber)
{
    return fiber->state == FIBER_ENDED;
}

void fiber_sleep(uint64_t until_ns)
{
    CHECK(running != NULL);
    running->wake_ns = until_ns;
    if (!running->woken) {
        running->state = FIBER_SLEEPING;
    }
    enter_world();
    running->woken = false;
}

void fiber_wake(struct fiber *fiber)
{
    if (fiber->state == FIBER_SLEEPING) {
        fiber->state = FIBER_READY;
    }
    fiber->woken = true;
}

void fiber_stop(void)
{
    running->state = FIBER_ENDED;
    enter_world();
    __builtin_unreachable();
}

void fiber_forget_all(void)
{
    fiber_count = 0; /* their stacks are left as they are: the run is short */
}

/* --- scheduling --- */

static uint64_t wake_sleepers(void)
{
    uint64_t next_ns = UINT64_MAX;
    for (unsigned i = 0; i < fiber_count; i++) {
        struct fiber *fiber = fibers[i];
        if (fiber->state == FIBER_SLEEPING && fiber->wake_ns <= world.now_ns) {
            fiber->state = FIBER_READY;
        }
        if (fiber->state == FIBER_SLEEPING && fiber->wake_ns < next_ns) {
            next_ns = fiber->wake_ns;
        }
    }
    return next_ns;
}

static struct fiber *choose(void)
{
    struct fiber *ready[FIBERS_MAX];
    unsigned count = 0;
    for (unsigned i = 0; i < fiber_count; i++) {
        if (fibers[i]->state == FIBER_READY) {
            ready[count++] = fibers[i];
        }
    }
    return count == 0 ? NULL : count == 1 ? ready[0] : ready[world_below(count)];
}

bool fiber_step(void)
{
    uint64_t wake_ns = wake_sleepers();
    uint64_t event_ns = world_next_ns();
    if (event_ns <= world.now_ns) {
        world_run_next();
        return true;
    }
    struct fiber *fiber = choose();
    if (fiber != NULL) {
        enter_fiber(fiber);
        world.now_ns += 1 + world_below(FIBER_TURN_NS_MAX);
        return true;
    }
    if (event_ns <= wake_ns && event_ns != UINT64_MAX) {
        world_run_next();
        return true;
    }
    if (wake_ns == UINT64_MAX) {
        return false;
    }
    world.now_ns = wake_ns;
    return true;
}

/* --- what the server calls --- */

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument)
{
    (void)attributes;
    *thread = (pthread_t)(uintptr_t)fiber_new(start, argument);
    return 0;
}

int __wrap_pthread_join(pthread_t thread, void **result);
int __wrap_pthread_join(pthread_t thread, void **result)
{
    (void)result;
    while (!fiber_ended((struct fiber *)(uintptr_t)thread)) {
        fiber_sleep(world.now_ns + 100 * WORLD_US);
    }
    return 0;
}

int __wrap_pthread_setname_np(pthread_t thread, const char *name);
int __wrap_pthread_setname_np(pthread_t thread, const char *name)
{
    (void)thread;
    (void)name;
    return 0;
}

static void wait_for(const void *condition, pthread_mutex_t *mutex, uint64_t until_ns)
{
    pthread_mutex_unlock(mutex);
    running->condition = condition;
    fiber_sleep(until_ns);
    running->condition = NULL;
    pthread_mutex_lock(mutex);
}

int __wrap_pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex);
int __wrap_pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex)
{
    wait_for(condition, mutex, UINT64_MAX);
    return 0;
}

int __wrap_pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *until);
int __wrap_pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *until)
{
    (void)until; /* by the real clock */
    wait_for(condition, mutex, world.now_ns + WORLD_S);
    return ETIMEDOUT;
}

int __wrap_pthread_cond_broadcast(pthread_cond_t *condition);
int __wrap_pthread_cond_broadcast(pthread_cond_t *condition)
{
    for (unsigned i = 0; i < fiber_count; i++) {
        if (fibers[i]->condition == condition) {
            fiber_wake(fibers[i]);
        }
    }
    return 0;
}

int __wrap_pthread_cond_signal(pthread_cond_t *condition);
int __wrap_pthread_cond_signal(pthread_cond_t *condition)
{
    return __wrap_pthread_cond_broadcast(condition);
}

int __wrap_nanosleep(const struct timespec *wanted, struct timespec *left);
int __wrap_nanosleep(const struct timespec *wanted, struct timespec *left)
{
    (void)left;
    fiber_sleep(world.now_ns + (uint64_t)wanted->tv_sec * WORLD_S + (uint64_t)wanted->tv_nsec);
    return 0;
}
