#include "core/config_print.h"

#include <stdlib.h>

#include "base/check.h"
#include "core/config_value.h"

#define VALUE_BYTES 65536 /* a longer value is cut off: 1024 networks fit */

struct printer {
    FILE *out;
    struct buffer value;
};

/* Items of a list as (base, count, size). */
struct items {
    const char *base;
    unsigned count;
    size_t size;
};

static struct items items_of(const struct config_key *key, const void *group)
{
    struct items items = {.size = key->item_size};
    memcpy(&items.base, (const char *)group + key->offset, sizeof items.base);
    memcpy(&items.count, (const char *)group + key->count_offset, sizeof items.count);
    return items;
}

static void print_group(struct printer *printer, const struct config_key *keys, const char *group, int indent);

static void print_list(struct printer *printer, const struct config_key *key, const char *group, int indent)
{
    struct items items = items_of(key, group);
    fprintf(printer->out, "%*s%s = (", indent, "", key->name);
    for (unsigned i = 0; i < items.count; i++) {
        fprintf(printer->out, "%s\n%*s{\n", i == 0 ? "" : ",", indent + 4, "");
        print_group(printer, key->keys, items.base + i * items.size, indent + 8);
        fprintf(printer->out, "%*s}", indent + 4, "");
    }
    fprintf(printer->out, "\n%*s);\n", indent, "");
}

static bool is_absent(const struct config_key *key, const char *group)
{
    unsigned value = 1;
    if ((key->flags & CONFIG_UNLESS_0) != 0) {
        CHECK(key->size == sizeof value);
        memcpy(&value, group + key->offset, sizeof value);
    }
    return value == 0;
}

static void print_group(struct printer *printer, const struct config_key *keys, const char *group, int indent)
{
    for (const struct config_key *key = keys; key->name != NULL; key++) {
        if (key->type == CONFIG_GROUP) {
            fprintf(printer->out, "%*s%s = {\n", indent, "", key->name);
            print_group(printer, key->keys, group + key->offset, indent + 4);
            fprintf(printer->out, "%*s};\n", indent, "");
        } else if (key->type == CONFIG_LIST) {
            print_list(printer, key, group, indent);
        } else if (!is_absent(key, group)) {
            printer->value.length = 0;
            config_value_put(&printer->value, key, group);
            fprintf(printer->out, "%*s%s = %.*s;\n", indent, "", key->name, (int)printer->value.length,
                    printer->value.data);
        }
    }
}

void config_print(const struct config_key *keys, const void *group, FILE *out)
{
    char *room = malloc(VALUE_BYTES);
    CHECK(room != NULL);
    struct printer printer = {.out = out, .value = buffer_of(room, VALUE_BYTES)};
    print_group(&printer, keys, group, 0);
    free(room);
}

/* --- differences -------------------------------------------------------------------------------------------------- */

struct comparison {
    config_change *change;
    void *context;
    unsigned restarts;
    struct buffer path;
    struct buffer from;
    struct buffer to;
};

static void differ(struct comparison *comparison, bool restart, const char *from, const char *to)
{
    char path[512];
    snprintf(path, sizeof path, "%.*s", (int)comparison->path.length, comparison->path.data);
    comparison->restarts += restart;
    comparison->change(comparison->context, path, restart, from, to);
}

static void compare_values(struct comparison *comparison, const struct config_key *key, const void *old,
                           const void *new)
{
    comparison->from.length = 0;
    comparison->to.length = 0;
    config_value_put(&comparison->from, key, old);
    config_value_put(&comparison->to, key, new);
    if (!bytes_equal(buffer_bytes(&comparison->from), buffer_bytes(&comparison->to))) {
        CHECK(buffer_append(&comparison->from, bytes_of("", 1)) && buffer_append(&comparison->to, bytes_of("", 1)));
        differ(comparison, (key->flags & CONFIG_RESTART) != 0, comparison->from.data, comparison->to.data);
    }
}

static const char *name_of(const struct config_key *list, const char *item)
{
    const struct config_key *key = list->keys;
    const char *name = NULL;
    while (key->name != NULL && (key->flags & CONFIG_NAME) == 0) {
        key++;
    }
    CHECK(key->name != NULL);
    memcpy(&name, item + key->offset, sizeof name);
    return name;
}

/* The item of that name. `guess` is where it is when nothing was added or removed. */
static const char *item_named(const struct config_key *list, struct items items, const char *name, unsigned guess)
{
    if (guess < items.count && strcmp(name_of(list, items.base + guess * items.size), name) == 0) {
        return items.base + guess * items.size;
    }
    for (unsigned i = 0; i < items.count; i++) {
        if (strcmp(name_of(list, items.base + i * items.size), name) == 0) {
            return items.base + i * items.size;
        }
    }
    return NULL;
}

static void compare_groups(struct comparison *comparison, const struct config_key *keys, const char *old,
                           const char *new);

static void compare_lists(struct comparison *comparison, const struct config_key *key, const char *old, const char *new)
{
    struct items before = items_of(key, old);
    struct items after = items_of(key, new);
    bool restart = (key->flags & CONFIG_RESTART) != 0;
    size_t length = comparison->path.length;
    for (unsigned i = 0; i < before.count + after.count; i++) {
        bool gone = i < before.count;
        unsigned place = gone ? i : i - before.count;
        const char *item = gone ? before.base + place * before.size : after.base + place * after.size;
        const char *name = name_of(key, item);
        const char *other = item_named(key, gone ? after : before, name, place);
        buffer_append_format(&comparison->path, "[%s]", name);
        if (other == NULL) {
            differ(comparison, restart, gone ? name : "", gone ? "" : name);
        } else if (gone) {
            compare_groups(comparison, key->keys, item, other);
        }
        comparison->path.length = length;
    }
}

static void compare_groups(struct comparison *comparison, const struct config_key *keys, const char *old,
                           const char *new)
{
    size_t length = comparison->path.length;
    for (const struct config_key *key = keys; key->name != NULL; key++) {
        buffer_append_format(&comparison->path, length == 0 ? "%s" : ".%s", key->name);
        if (key->type == CONFIG_GROUP) {
            compare_groups(comparison, key->keys, old + key->offset, new + key->offset);
        } else if (key->type == CONFIG_LIST) {
            compare_lists(comparison, key, old, new);
        } else {
            compare_values(comparison, key, old, new);
        }
        comparison->path.length = length;
    }
}

unsigned config_print_differences(const struct config_key *keys, const void *old, const void *new,
                                  config_change *change, void *context)
{
    char path[512];
    char *room = malloc(2 * VALUE_BYTES);
    CHECK(room != NULL);
    struct comparison comparison = {
        .change = change,
        .context = context,
        .path = buffer_of(path, sizeof path),
        .from = buffer_of(room, VALUE_BYTES),
        .to = buffer_of(room + VALUE_BYTES, VALUE_BYTES),
    };
    compare_groups(&comparison, keys, old, new);
    free(room);
    return comparison.restarts;
}
