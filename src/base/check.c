#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>

void check_failed(const char *file, int line, const char *expression)
{
    fprintf(stderr, "level=fatal msg=\"check failed\" at=%s:%d expression=\"%s\"\n", file, line, expression);
    abort();
}
