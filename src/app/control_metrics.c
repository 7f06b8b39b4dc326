#include "app/control_metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "app/control_queue.h"
#include "base/utf8.h"
#include "core/clock.h"

static char other[] = "other"; /* all that are not told apart; a domain of that name is told from it by a final dot */

/* Domains are whatever recipients and forged senders have. Two of them must not become one series, so what a label may
 * hold, well-formed UTF-8, stays what it is. */
static void put_label(FILE *out, const char *text)
{
    bool is_domain = text != other;
    struct bytes rest = bytes_of_string(text != NULL ? text : "");
    bool ambiguous = is_domain && bytes_equal(rest, bytes_of_string(other));
    while (rest.length != 0) {
        uint32_t code = 0;
        size_t octets = utf8_take(rest, &code);
        if (octets == 0 || code < ' ' || (code > '~' && code < 0xa0)) {
            fputc('?', out);
        } else {
            fputs(code == '"' || code == '\\' ? "\\" : "", out);
            fwrite(rest.data, 1, octets, out);
        }
        bytes_advance(&rest, octets != 0 ? octets : 1);
    }
    fputs(ambiguous ? "." : "", out);
}

static void put_recipients(FILE *out, const struct control_destination *destination)
{
    const uint64_t counts[] = {
        [CONTROL_READY] = destination->ready,
        [CONTROL_ACTIVE] = destination->active,
        [CONTROL_DEFERRED] = destination->deferred,
        [CONTROL_HELD] = destination->held,
    };
    for (enum control_state state = 0; state < CONTROL_STATES; state++) {
        fputs("ringpost_destination_recipients{destination=\"", out);
        put_label(out, destination->domain);
        fprintf(out, "\",state=\"%s\"} %" PRIu64 "\n", control_ops_state_name(state), counts[state]);
    }
}

static void put_age(FILE *out, const struct control_destination *destination, uint64_t now_ms)
{
    uint64_t age_ms = destination->oldest_ms != 0 && destination->oldest_ms < now_ms ? now_ms - destination->oldest_ms
                                                                                     : 0;
    fputs("ringpost_destination_oldest_seconds{destination=\"", out);
    put_label(out, destination->domain);
    fprintf(out, "\"} %" PRIu64 "\n", age_ms / 1000);
}

static void add(struct control_destination *sum, const struct control_destination *one)
{
    sum->ready += one->ready;
    sum->active += one->active;
    sum->deferred += one->deferred;
    sum->held += one->held;
    if (one->oldest_ms != 0 && (sum->oldest_ms == 0 || one->oldest_ms < sum->oldest_ms)) {
        sum->oldest_ms = one->oldest_ms;
    }
}

static void put_destinations(FILE *out, const struct control_ops *ops)
{
    struct control_destination *all = NULL;
    struct control_destination shown[CONTROL_METRICS_DESTINATIONS + 1];
    size_t count = ops->queue_summary(ops->context, &all);
    size_t top = count < CONTROL_METRICS_DESTINATIONS ? count : CONTROL_METRICS_DESTINATIONS;
    uint64_t now_ms = clock_wall_ms();
    control_queue_sort(all, count);
    for (size_t i = 0; i < top; i++) {
        shown[i] = all[i];
    }
    shown[top] = (struct control_destination){.domain = other};
    for (size_t i = top; i < count; i++) {
        add(&shown[top], &all[i]);
    }
    fputs("# HELP ringpost_destination_recipients recipients of the fullest destinations, by state\n"
          "# TYPE ringpost_destination_recipients gauge\n",
          out);
    for (size_t i = 0; i <= top; i++) {
        put_recipients(out, &shown[i]);
    }
    fputs("# HELP ringpost_destination_oldest_seconds age of the destination's oldest recipient\n"
          "# TYPE ringpost_destination_oldest_seconds gauge\n",
          out);
    for (size_t i = 0; i <= top; i++) {
        put_age(out, &shown[i], now_ms);
    }
    fprintf(out,
            "# HELP ringpost_destinations destinations with recipients waiting\n"
            "# TYPE ringpost_destinations gauge\nringpost_destinations %zu\n",
            count);
    control_ops_free_destinations(all, count);
}

char *control_metrics_render(const struct control_ops *ops, size_t *ret_length)
{
    char *text = NULL;
    size_t own_length = 0;
    char *own = ops->metrics(ops->context, &own_length);
    FILE *out = own != NULL ? open_memstream(&text, ret_length) : NULL;
    if (out == NULL) {
        free(own);
        return NULL;
    }
    fwrite(own, 1, own_length, out);
    put_destinations(out, ops);
    free(own);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
