/* Prometheus text from the sets of all shards.
 *
 * Histograms are recorded in fine buckets (base/histogram.h) and shown in about twenty, all at powers of two: there a
 * fine bucket ends exactly, so that the counts shown are exact as well. Times are recorded in whole microseconds and
 * shown in seconds, printed as integers with a decimal point put in.
 */
#include "core/metric.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SET_ALIGN 128 /* two shards' counters never share a cache line */

/* Exponents of the bounds shown: 64 us, 128 us ... 1.05 s, then in steps of four to 3.2 days. */
static const unsigned char bounds_time[] = {6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17,
                                            18, 19, 20, 22, 24, 26, 28, 30, 32, 34, 36, 38};
/* 1, 3, 7, 15 ... 65535 */
static const unsigned char bounds_count[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

struct metric_set *metric_set_new(void)
{
    size_t size = (sizeof(struct metric_set) + SET_ALIGN - 1) / SET_ALIGN * SET_ALIGN;
    struct metric_set *set = aligned_alloc(SET_ALIGN, size);
    if (set) {
        memset(set, 0, size);
    }
    return set;
}

void metric_set_delete(struct metric_set *set)
{
    free(set);
}

static uint64_t load(const _Atomic uint64_t *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

static void render_head(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP ringpost_%s %s\n# TYPE ringpost_%s %s\n", name, help, name, type);
}

/* `offset` is that of the metric in a set. */
static void render_value(FILE *out, struct metric_set *const *sets, unsigned count, size_t offset, const char *name)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < count; i++) {
        sum += load((const _Atomic uint64_t *)(const void *)((const char *)sets[i] + offset));
    }
    fprintf(out, "ringpost_%s %" PRIu64 "\n", name, sum);
}

/* A plain copy, summed over the sets. The number of values is that of the buckets, so that the parts agree. */
struct totals {
    uint64_t buckets[HISTOGRAM_BUCKETS];
    uint64_t count;
    uint64_t sum;
};

static struct totals totals_of(struct metric_set *const *sets, unsigned count, size_t offset)
{
    struct totals totals = {0};
    for (unsigned i = 0; i < count; i++) {
        const struct histogram *histogram = (const void *)((const char *)sets[i] + offset);
        for (unsigned b = 0; b < HISTOGRAM_BUCKETS; b++) {
            uint64_t n = load(&histogram->buckets[b]);
            totals.buckets[b] += n;
            totals.count += n;
        }
        totals.sum += load(&histogram->sum);
    }
    return totals;
}

/* 1500000 us as "1.5" */
static const char *seconds(uint64_t us, char *out, size_t size)
{
    int length = snprintf(out, size, "%" PRIu64 ".%06" PRIu64, us / 1000000, us % 1000000);
    while (out[length - 1] == '0') {
        out[--length] = '\0';
    }
    if (out[length - 1] == '.') {
        out[length - 1] = '\0';
    }
    return out;
}

static void render_histogram(FILE *out, const struct totals *totals, const char *name)
{
    size_t name_length = strlen(name);
    bool is_time = name_length > 8 && strcmp(name + name_length - 8, "_seconds") == 0;
    const unsigned char *bounds = is_time ? bounds_time : bounds_count;
    size_t bound_count = is_time ? sizeof bounds_time : sizeof bounds_count;
    uint64_t below = 0;
    unsigned bucket = 0;
    char number[32];
    for (size_t i = 0; i < bound_count; i++) {
        uint64_t end = UINT64_C(1) << bounds[i];
        for (; bucket < HISTOGRAM_BUCKETS && histogram_bucket_end(bucket) <= end; bucket++) {
            below += totals->buckets[bucket];
        }
        if (is_time) {
            seconds(end, number, sizeof number);
        } else {
            snprintf(number, sizeof number, "%" PRIu64, end - 1); /* whole numbers: below 8 is at most 7 */
        }
        fprintf(out, "ringpost_%s_bucket{le=\"%s\"} %" PRIu64 "\n", name, number, below);
    }
    if (is_time) {
        seconds(totals->sum, number, sizeof number);
    } else {
        snprintf(number, sizeof number, "%" PRIu64, totals->sum);
    }
    fprintf(out, "ringpost_%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, totals->count);
    fprintf(out, "ringpost_%s_sum %s\nringpost_%s_count %" PRIu64 "\n", name, number, name, totals->count);
}

/* --- by mail filter ----------------------------------------------------------------------------------------------- */

static uint32_t milters_of(const struct metric_set *set)
{
    return atomic_load_explicit(&set->milters_count, memory_order_acquire);
}

static struct metric_milter *find_milter(struct metric_set *set, const char *name)
{
    for (uint32_t i = 0; i < milters_of(set); i++) {
        if (strcmp(set->milters[i].name, name) == 0) {
            return &set->milters[i];
        }
    }
    return NULL;
}

struct metric_milter *metric_milter_of(struct metric_set *set, const char *name)
{
    struct metric_milter *found = find_milter(set, name);
    uint32_t count = milters_of(set);
    if (found == NULL && count < METRIC_MILTERS_MAX) {
        found = &set->milters[count];
        snprintf(found->name, sizeof found->name, "%s", name);
        atomic_store_explicit(&set->milters_count, count + 1, memory_order_release);
    }
    return found != NULL ? found : &set->milters[METRIC_MILTERS_MAX - 1];
}

/* Each name once: where it comes first. `offset` is that of the counter. */
static void render_milters(FILE *out, struct metric_set *const *sets, unsigned count, size_t offset, const char *name)
{
    bool is_time = offset == offsetof(struct metric_milter, wait_us);
    for (unsigned i = 0; i < count; i++) {
        for (uint32_t m = 0; m < milters_of(sets[i]); m++) {
            const char *label = sets[i]->milters[m].name;
            uint64_t sum = 0;
            char number[32];
            bool first = true;
            for (unsigned j = 0; j < count; j++) {
                const struct metric_milter *same = find_milter(sets[j], label);
                first &= same == NULL || j >= i;
                sum += same != NULL ? load((const _Atomic uint64_t *)(const void *)((const char *)same + offset)) : 0;
            }
            if (!first) {
                continue;
            }
            snprintf(number, sizeof number, "%" PRIu64, sum);
            fprintf(out, "ringpost_%s{milter=\"%s\"} %s\n", name, label,
                    is_time ? seconds(sum, number, sizeof number) : number);
        }
    }
}

static void render_all_milters(FILE *out, struct metric_set *const *sets, unsigned count)
{
#define RENDER(field, name, help)            \
    render_head(out, name, "counter", help); \
    render_milters(out, sets, count, offsetof(struct metric_milter, field), name);
    METRIC_MILTER_COUNTERS(RENDER)
#undef RENDER
}

static void render_all(FILE *out, struct metric_set *const *sets, unsigned count)
{
    struct totals totals;
#define RENDER(field, name, help)       \
    render_head(out, name, type, help); \
    render_value(out, sets, count, offsetof(struct metric_set, field), name);
    const char *type = "counter";
    METRIC_COUNTERS(RENDER)
    type = "gauge";
    METRIC_GAUGES(RENDER)
#undef RENDER
#define RENDER(field, name, help)                                        \
    render_head(out, name, "histogram", help);                           \
    totals = totals_of(sets, count, offsetof(struct metric_set, field)); \
    render_histogram(out, &totals, name);
    METRIC_HISTOGRAMS(RENDER)
#undef RENDER
    render_all_milters(out, sets, count);
}

char *metric_render(struct metric_set *const *sets, unsigned count, size_t *ret_length)
{
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    if (!out) {
        return NULL;
    }
    render_all(out, sets, count);
    bool failed = ferror(out) != 0;
    failed |= fclose(out) != 0;
    if (failed) {
        free(text);
        return NULL;
    }
    *ret_length = length;
    return text;
}
