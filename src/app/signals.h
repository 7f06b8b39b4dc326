/* The signals of the program, taken one at a time by the main thread instead of interrupting anything. */
#ifndef APP_SIGNALS_H
#define APP_SIGNALS_H

#include <stdint.h>

enum signals_wish {
    SIGNALS_NONE,   /* the time has passed */
    SIGNALS_STOP,   /* SIGTERM or SIGINT: the first one means gracefully, the next one at once */
    SIGNALS_RELOAD, /* SIGHUP */
};

/* Blocks them, in the calling thread and those that it will start; SIGPIPE and SIGXFSZ are ignored, because both come
 * back as errors of the operation. Before any thread is started. */
void signals_block(void);

/* Waits for one. UINT64_MAX: for ever. */
enum signals_wish signals_wait(uint64_t timeout_ms);

#endif
