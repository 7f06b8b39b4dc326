#include "dns/mx_result.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/* The block: result, hosts, addresses, text. Falling alignment, so that no gap is needed. */
struct block {
    struct mx_host *hosts;
    struct mx_address *addresses;
    struct buffer text;
};

static struct mx_result *block_new(const struct mx_result *draft, struct block *ret_block)
{
    size_t addresses = 0;
    size_t text = draft->site.length + draft->reason.length;
    for (unsigned i = 0; i < draft->host_count; i++) {
        addresses += draft->hosts[i].address_count;
        text += draft->hosts[i].name.length;
    }
    struct mx_result *result = malloc(sizeof *result + draft->host_count * sizeof(struct mx_host) +
                                      addresses * sizeof(struct mx_address) + text);
    CHECK(result != NULL);
    ret_block->hosts = (struct mx_host *)(result + 1);
    ret_block->addresses = (struct mx_address *)(ret_block->hosts + draft->host_count);
    ret_block->text = buffer_of((char *)(ret_block->addresses + addresses), text);
    return result;
}

static struct bytes keep(struct buffer *text, struct bytes span)
{
    struct bytes kept = bytes_of(text->data + text->length, span.length);
    CHECK(buffer_append(text, span));
    return kept;
}

struct mx_result *mx_result_new(const struct mx_result *draft)
{
    struct block block;
    struct mx_result *result = block_new(draft, &block);
    *result = *draft;
    result->references = 1;
    result->site = keep(&block.text, draft->site);
    result->reason = keep(&block.text, draft->reason);
    result->hosts = block.hosts;
    for (unsigned i = 0; i < draft->host_count; i++) {
        const struct mx_host *from = &draft->hosts[i];
        struct mx_host *to = &block.hosts[i];
        *to = *from;
        to->name = keep(&block.text, from->name);
        to->addresses = block.addresses;
        memcpy(block.addresses, from->addresses, from->address_count * sizeof *from->addresses);
        block.addresses += from->address_count;
    }
    return result;
}

struct mx_result *mx_result_retain(struct mx_result *result)
{
    CHECK(result->references > 0);
    result->references++;
    return result;
}

void mx_result_release(struct mx_result *result)
{
    if (result != NULL) {
        CHECK(result->references > 0);
        if (--result->references == 0) {
            free(result);
        }
    }
}
