#include "base/err.h"

const char *err_name(enum err err)
{
    static const char *const names[ERR_COUNT] = {
        [ERR_OK] = "ok",
        [ERR_NO_MEMORY] = "no-memory",
        [ERR_FULL] = "full",
        [ERR_NO_SPACE] = "no-space",
        [ERR_IO] = "io",
        [ERR_CORRUPT] = "corrupt",
        [ERR_FORMAT] = "format",
        [ERR_LOCKED] = "locked",
        [ERR_NOT_FOUND] = "not-found",
        [ERR_SYNTAX] = "syntax",
        [ERR_TEMPORARY] = "temporary",
        [ERR_PERMANENT] = "permanent",
        [ERR_CLOSED] = "closed",
    };
    return (unsigned)err < ERR_COUNT ? names[err] : "unknown";
}
