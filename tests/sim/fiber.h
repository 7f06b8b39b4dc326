/* The server's threads, as fibers of one thread.
 *
 * The server is linked with pthread_create, pthread_cond_wait and the like replaced (-Wl,--wrap), so the shards' own
 * start, loop and end run as they are, each on a stack of its own, and give way only where a thread would sleep: in
 * ring_enter, on a condition, in nanosleep. Which of several that could run runs next is drawn by chance. A power cut
 * simply never runs them again.
 */
#ifndef SIM_FIBER_H
#define SIM_FIBER_H

#include <stdbool.h>
#include <stdint.h>

struct fiber;

struct fiber *fiber_new(void *(*start)(void *argument), void *argument);
struct fiber *fiber_current(void); /* NULL: the world itself runs */
bool fiber_ended(const struct fiber *fiber);

/* Called in a fiber: others run until that time, or until fiber_wake. */
void fiber_sleep(uint64_t until_ns);
void fiber_wake(struct fiber *fiber);
/* Called in a fiber: it never runs again. */
_Noreturn void fiber_stop(void);

/* Called by the world. Runs one fiber for one turn, or one event, whichever is due; false: nothing ever will be. */
bool fiber_step(void);
/* The end of a life: all of them are gone. */
void fiber_forget_all(void);

#endif
