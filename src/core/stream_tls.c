#include "core/stream_tls.h"

#include <errno.h>

int stream_tls_start_server(struct stream *stream, struct tls_context *context)
{
    (void)stream;
    (void)context;
    return -EBUSY;
}

int stream_tls_start_implicit(struct stream *stream, struct tls_context *context)
{
    (void)stream;
    (void)context;
    return -EBUSY;
}

int stream_tls_start_client(struct stream *stream, struct tls_context *context, const char *name,
                            enum tls_verify verify)
{
    (void)stream;
    (void)context;
    (void)name;
    (void)verify;
    return -EBUSY;
}

const struct tls_facts *stream_tls_facts(const struct stream *stream)
{
    static const struct tls_facts none;
    (void)stream;
    return &none;
}

const char *stream_tls_reason(const struct stream *stream)
{
    (void)stream;
    return "";
}
