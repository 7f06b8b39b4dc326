#include "inbound/profile.h"

#include <stdlib.h>

#include "base/check.h"

/* "220 mx.example.com ESMTP ringpost" without the variable parts. */
#define GREETING_BYTES (sizeof "220  \r\n" - 1)

static struct bytes keep(struct buffer *text, const char *string)
{
    size_t start = text->length;
    CHECK(buffer_append_string(text, string));
    return bytes_of(text->data + start, text->length - start);
}

/* RFC 5321 4.2: the reply begins with our name. */
static struct bytes keep_greeting(struct buffer *text, struct bytes hostname, const char *banner)
{
    size_t start = text->length;
    CHECK(buffer_append(text, BYTES("220 ")) && buffer_append(text, hostname) && buffer_append(text, BYTES(" ")) &&
          buffer_append_string(text, banner) && buffer_append(text, BYTES("\r\n")));
    return bytes_of(text->data + start, text->length - start);
}

static bool copy_networks(struct profile *profile, const struct inbound_listener_settings *settings)
{
    size_t count = settings->relay_networks_count;
    profile->relay_networks = malloc(count * sizeof *profile->relay_networks + 1);
    if (profile->relay_networks == NULL) {
        return false;
    }
    if (count != 0) {
        memcpy(profile->relay_networks, settings->relay_networks, count * sizeof *profile->relay_networks);
    }
    profile->relay_networks_count = settings->relay_networks_count;
    return true;
}

struct profile *profile_new(const struct inbound_listener_settings *settings)
{
    size_t text_bytes = 2 * strlen(settings->hostname) + strlen(settings->name) + strlen(settings->banner) +
                        GREETING_BYTES;
    struct profile *profile = malloc(sizeof *profile + text_bytes);
    if (profile == NULL) {
        return NULL;
    }
    *profile = (struct profile){
        .references = 1,
        .durability = settings->durability,
        .connections_max = settings->connections_max,
        .connections_per_address_max = settings->connections_per_address_max,
        .timeouts = settings->timeouts,
        .rates = settings->rates,
        .greet_pause_ms = settings->greet_pause_ms,
        .error_delay_ms = settings->error_delay_ms,
        .error_delay_after = settings->error_delay_after,
        .smtp =
            {
                .extensions = SMTP_SERVER_EXTENSIONS_ALL,
                .message_bytes_max = settings->message_bytes_max,
                .recipients_max = settings->recipients_max,
                .command_bytes_max = settings->command_bytes_max,
                .text_line_bytes_max = settings->text_line_bytes_max,
                .received_max = settings->received_max,
                .errors_max = settings->errors_max,
            },
    };
    struct buffer text = buffer_of(profile->text, text_bytes);
    profile->smtp.hostname = keep(&text, settings->hostname);
    profile->name = keep(&text, settings->name);
    profile->greeting = keep_greeting(&text, profile->smtp.hostname, settings->banner);
    if (!copy_networks(profile, settings)) {
        free(profile);
        return NULL;
    }
    return profile;
}

struct profile *profile_take(struct profile *profile)
{
    profile->references++;
    return profile;
}

void profile_give(struct profile *profile)
{
    CHECK(profile->references > 0);
    if (--profile->references == 0) {
        free(profile->relay_networks);
        free(profile);
    }
}
