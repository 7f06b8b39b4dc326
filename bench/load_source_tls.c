/* load_source inside TLS 1.3: bench/wire_tls.h in the place of bench/wire.h, all else is the same. */
#include "wire_tls.h"

#include "load_source.c"
