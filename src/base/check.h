/* Assertions that stay on in release. For what must be true whatever a peer, disk or administrator does. */
#ifndef BASE_CHECK_H
#define BASE_CHECK_H

#include <stddef.h>

/* Prints file, line and expression to stderr and aborts. */
_Noreturn void check_failed(const char *file, int line, const char *expression);

#define CHECK(expression) \
    (__builtin_expect(!!(expression), 1) ? (void)0 : check_failed(__FILE__, __LINE__, #expression))

/* The struct that holds the given member. */
#define CONTAINER_OF(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#endif
