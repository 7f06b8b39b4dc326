#include "core/config_read.h"

#include <libconfig.h>
#include <stdlib.h>

#include "base/check.h"
#include "core/config_value.h"

/* Where the walk is: the path of the current key, for errors. */
struct reader {
    struct config *config;
    char path[256];
    struct buffer place;
};

/* One value of a key: the file's setting, or an element of it when the key is a list. */
struct value {
    const config_setting_t *setting;
    const struct config_key *key;
};

static void complain(struct reader *reader, const config_setting_t *at, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void complain(struct reader *reader, const config_setting_t *at, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    config_read_error(reader->config, at, format, arguments);
    va_end(arguments);
}

/* Appends to the path; the caller restores the length that is returned. */
static size_t enter(struct reader *reader, const char *name, int index)
{
    size_t before = reader->place.length;
    if (name != NULL) {
        buffer_append_format(&reader->place, before == 0 ? "%s" : ".%s", name);
    } else {
        buffer_append_format(&reader->place, "[%d]", index);
    }
    return before;
}

/* --- errors about a value ---------------------------------------------------------------------------------------- */

static void put_range(struct buffer *out, const struct config_key *key)
{
    bool size = key->type == CONFIG_SIZE;
    if (key->type == CONFIG_COUNT || key->type == CONFIG_REAL) {
        buffer_append_format(out, "%llu to %llu", (unsigned long long)key->minimum, (unsigned long long)key->maximum);
    } else if (key->type == CONFIG_INTEGER) {
        buffer_append_format(out, "%lld to %lld", (long long)key->minimum, (long long)key->maximum);
    } else if (key->type == CONFIG_TEXT) {
        buffer_append_format(out, "\"text\" of %llu to %llu printable characters", (unsigned long long)key->minimum,
                             (unsigned long long)key->maximum);
    } else {
        void (*put)(struct buffer *, uint64_t) = size ? config_value_put_size : config_value_put_duration;
        buffer_append_string(out, "\"");
        put(out, key->minimum);
        buffer_append_string(out, "\" to \"");
        put(out, key->maximum);
        buffer_append_string(out, "\"");
    }
    if ((key->flags & CONFIG_AUTO) != 0) {
        buffer_append_string(out, " or \"auto\"");
    }
}

static void put_expected(struct buffer *out, const struct config_key *key)
{
    switch (key->type) {
    case CONFIG_BOOL: buffer_append_string(out, "true or false"); break;
    case CONFIG_CHOICE:
    case CONFIG_CHOICES:
        for (unsigned i = 0; key->choices[i] != NULL; i++) {
            buffer_append_format(out,
                                 i == 0                        ? "\"%s\""
                                 : key->choices[i + 1] == NULL ? " or \"%s\""
                                                               : ", \"%s\"",
                                 key->choices[i]);
        }
        break;
    case CONFIG_ENDPOINT:
        buffer_append_string(out, "an address and port as \"127.0.0.1:25\" or \"[::1]:25\", or \"off\"");
        break;
    case CONFIG_RATE:
        buffer_append_string(out, "a number in a time as \"100/1m\" or \"50M/1h\", at most 31 days, or \"off\"");
        break;
    case CONFIG_ADDRESSES: buffer_append_string(out, "addresses as \"192.0.2.1\" or \"2001:db8::1\""); break;
    case CONFIG_NETWORKS: buffer_append_string(out, "networks as \"10.0.0.0/8\" or \"2001:db8::/32\""); break;
    case CONFIG_GROUP: buffer_append_string(out, "a group { ... }"); break;
    case CONFIG_LIST: buffer_append_string(out, "a list ( { ... }, ... )"); break;
    default:
        if (key->expected != NULL) {
            buffer_append_string(out, key->expected);
        } else {
            put_range(out, key);
        }
    }
}

static void put_found(struct buffer *out, const config_setting_t *setting)
{
    switch (config_setting_type(setting)) {
    case CONFIG_TYPE_INT:
    case CONFIG_TYPE_INT64: buffer_append_format(out, "%lld", config_setting_get_int64(setting)); break;
    case CONFIG_TYPE_FLOAT: buffer_append_format(out, "%g", config_setting_get_float(setting)); break;
    case CONFIG_TYPE_BOOL: buffer_append_string(out, config_setting_get_bool(setting) ? "true" : "false"); break;
    case CONFIG_TYPE_GROUP: buffer_append_string(out, "a group"); break;
    case CONFIG_TYPE_STRING:
        buffer_append_string(out, "\"");
        for (const char *c = config_setting_get_string(setting); *c != '\0' && out->length < 60; c++) {
            buffer_append_format(out, (unsigned char)*c < ' ' || *c == 0x7f ? "\\x%02x" : "%c", (unsigned char)*c);
        }
        buffer_append_string(out, "\"");
        break;
    default: buffer_append_string(out, "a list");
    }
}

/* `path is <found>, expected <what the row wants>`; `instead` overrides the latter. */
static void refuse(struct reader *reader, struct value value, const char *instead)
{
    char found_room[128];
    char expected_room[256];
    struct buffer found = buffer_of(found_room, sizeof found_room);
    struct buffer expected = buffer_of(expected_room, sizeof expected_room);
    put_found(&found, value.setting);
    if (instead != NULL) {
        buffer_append_string(&expected, instead);
    } else {
        put_expected(&expected, value.key);
    }
    complain(reader, value.setting, "%.*s is %.*s, expected %.*s", (int)reader->place.length, reader->place.data,
             (int)found.length, found.data, (int)expected.length, expected.data);
}

/* --- values ------------------------------------------------------------------------------------------------------- */

/* The text of a string value, or NULL. */
static const char *text_of(const config_setting_t *setting)
{
    return config_setting_type(setting) == CONFIG_TYPE_STRING ? config_setting_get_string(setting) : NULL;
}

/* A number with or without unit, within the row's range. An integer counts in `integer_unit`. */
static bool number_of(struct value value, bool (*parse)(const char *, uint64_t *), uint64_t integer_unit,
                      uint64_t *ret_number)
{
    uint64_t number = 0;
    int type = config_setting_type(value.setting);
    const char *text = text_of(value.setting);
    if (type == CONFIG_TYPE_INT || type == CONFIG_TYPE_INT64) {
        long long integer = config_setting_get_int64(value.setting);
        if (integer < 0 || __builtin_mul_overflow((uint64_t)integer, integer_unit, &number)) {
            return false;
        }
    } else if (text == NULL || parse == NULL || !parse(text, &number)) {
        return false;
    }
    if (number < value.key->minimum || number > value.key->maximum) {
        return false;
    }
    *ret_number = number;
    return true;
}

static bool set_count(struct value value, unsigned *ret_count)
{
    uint64_t number = 0;
    const char *text = text_of(value.setting);
    bool automatic = text != NULL && (value.key->flags & CONFIG_AUTO) != 0 && strcmp(text, "auto") == 0;
    if (!automatic && !number_of(value, NULL, 1, &number)) {
        return false;
    }
    *ret_count = (unsigned)number;
    return true;
}

static bool set_integer(struct value value, int *ret_integer)
{
    int type = config_setting_type(value.setting);
    long long integer = config_setting_get_int64(value.setting);
    if ((type != CONFIG_TYPE_INT && type != CONFIG_TYPE_INT64) || integer < (long long)value.key->minimum ||
        integer > (long long)value.key->maximum) {
        return false;
    }
    *ret_integer = (int)integer;
    return true;
}

static bool set_real(struct value value, double *ret_real)
{
    int type = config_setting_type(value.setting);
    double real = type == CONFIG_TYPE_FLOAT ? config_setting_get_float(value.setting) : -1;
    if (type == CONFIG_TYPE_INT || type == CONFIG_TYPE_INT64) {
        real = (double)config_setting_get_int64(value.setting);
    }
    if (!(real >= (double)value.key->minimum && real <= (double)value.key->maximum)) {
        return false;
    }
    *ret_real = real;
    return true;
}

static bool set_text(struct config *config, struct value value, const char **ret_text)
{
    const char *text = text_of(value.setting);
    if (text == NULL) {
        return false;
    }
    size_t length = strlen(text);
    for (size_t i = 0; i < length; i++) {
        if ((unsigned char)text[i] < ' ' || (unsigned char)text[i] > '~') {
            return false;
        }
    }
    bool empty = length == 0 && value.key->minimum == 0;
    if (length < value.key->minimum || length > value.key->maximum ||
        (!empty && value.key->valid != NULL && !value.key->valid(text))) {
        return false;
    }
    *ret_text = config_copy(config, bytes_of(text, length));
    return true;
}

static bool set_choice(struct value value, unsigned *ret_choice)
{
    const char *text = text_of(value.setting);
    for (unsigned i = 0; text != NULL && value.key->choices[i] != NULL; i++) {
        if (strcmp(text, value.key->choices[i]) == 0) {
            *ret_choice = i;
            return true;
        }
    }
    return false;
}

static bool set_rate(struct value value, struct config_rate *ret_rate)
{
    const char *text = text_of(value.setting);
    return text != NULL && config_value_rate(text, ret_rate);
}

static bool set_endpoint(struct value value, struct config_endpoint *ret_endpoint)
{
    const char *text = text_of(value.setting);
    if (text != NULL && strcmp(text, "off") == 0) {
        *ret_endpoint = (struct config_endpoint){.length = 0};
        return true;
    }
    return text != NULL && config_value_endpoint(text, 0, ret_endpoint) && config_value_port(ret_endpoint) != 0;
}

/* --- lists of values ---------------------------------------------------------------------------------------------- */

static size_t item_bytes(enum config_type type)
{
    return type == CONFIG_ADDRESSES  ? sizeof(struct config_endpoint)
           : type == CONFIG_NETWORKS ? sizeof(struct config_network)
                                     : sizeof(uint64_t);
}

static void read_item(struct reader *reader, struct value value, void *item)
{
    const char *text = text_of(value.setting);
    char meant_room[128];
    struct buffer meant = buffer_of(meant_room, sizeof meant_room - 1);
    struct config_network *network = item;
    bool good = false;
    if (value.key->type == CONFIG_ADDRESSES) {
        good = text != NULL && config_value_endpoint(text, (unsigned)value.key->minimum, item);
    } else if (value.key->type == CONFIG_DURATIONS) {
        good = number_of(value, config_value_duration, 1000, item);
    } else if (text != NULL && !(good = config_value_network(text, network)) && network->prefix_bits != 128) {
        buffer_append_string(&meant, "no bits behind the prefix, as \"");
        config_value_put_network(&meant, network);
        buffer_append_string(&meant, "\"");
    }
    if (!good) {
        meant_room[meant.length] = '\0';
        refuse(reader, value, meant.length != 0 ? meant_room : NULL);
    }
}

/* Choices of a list: a bit each. */
static void read_choices(struct reader *reader, struct value value, unsigned *bits)
{
    unsigned choice = 0;
    if (!set_choice(value, &choice)) {
        refuse(reader, value, NULL);
    } else {
        *bits |= 1u << choice;
    }
}

static void read_values(struct reader *reader, struct value list, char *target)
{
    const struct config_key *key = list.key;
    int type = config_setting_type(list.setting);
    bool single = type != CONFIG_TYPE_LIST && type != CONFIG_TYPE_ARRAY;
    unsigned count = single ? 1 : (unsigned)config_setting_length(list.setting);
    size_t item_size = item_bytes(key->type);
    char *items = NULL;
    unsigned bits = 0;
    if (key->items_max != 0 && count > key->items_max) {
        complain(reader, list.setting, "%.*s has %u values, expected at most %u", (int)reader->place.length,
                 reader->place.data, count, key->items_max);
        return;
    }
    items = config_allocate(reader->config, count * item_size);
    for (unsigned i = 0; i < count; i++) {
        struct value value = {.setting = single ? list.setting : config_setting_get_elem(list.setting, i), .key = key};
        size_t before = single ? reader->place.length : enter(reader, NULL, (int)i);
        if (key->type == CONFIG_CHOICES) {
            read_choices(reader, value, &bits);
        } else {
            read_item(reader, value, items + i * item_size);
        }
        reader->place.length = before;
    }
    if (key->type == CONFIG_CHOICES) {
        memcpy(target + key->offset, &bits, sizeof bits);
    } else {
        memcpy(target + key->offset, &items, sizeof items);
        memcpy(target + key->count_offset, &count, sizeof count);
    }
}

/* --- the walk ----------------------------------------------------------------------------------------------------- */

static const size_t field_sizes[] = {
    [CONFIG_BOOL] = sizeof(bool),         [CONFIG_COUNT] = sizeof(unsigned),
    [CONFIG_REAL] = sizeof(double),       [CONFIG_SIZE] = sizeof(uint64_t),
    [CONFIG_DURATION] = sizeof(uint64_t), [CONFIG_RATE] = sizeof(struct config_rate),
    [CONFIG_TEXT] = sizeof(char *),       [CONFIG_CHOICE] = sizeof(unsigned),
    [CONFIG_CHOICES] = sizeof(unsigned),  [CONFIG_ENDPOINT] = sizeof(struct config_endpoint),
    [CONFIG_ADDRESSES] = sizeof(void *),  [CONFIG_NETWORKS] = sizeof(void *),
    [CONFIG_DURATIONS] = sizeof(void *),  [CONFIG_LIST] = sizeof(void *),
    [CONFIG_INTEGER] = sizeof(int),
};

static void read_value(struct reader *reader, struct value value, char *target)
{
    void *field = target + value.key->offset;
    bool good = true;
    switch (value.key->type) {
    case CONFIG_BOOL:
        good = config_setting_type(value.setting) == CONFIG_TYPE_BOOL;
        *(bool *)field = good && config_setting_get_bool(value.setting) != 0;
        break;
    case CONFIG_COUNT: good = set_count(value, field); break;
    case CONFIG_INTEGER: good = set_integer(value, field); break;
    case CONFIG_REAL: good = set_real(value, field); break;
    case CONFIG_SIZE: good = number_of(value, config_value_size, 1, field); break;
    case CONFIG_DURATION: good = number_of(value, config_value_duration, 1000, field); break;
    case CONFIG_TEXT: good = set_text(reader->config, value, field); break;
    case CONFIG_CHOICE: good = set_choice(value, field); break;
    case CONFIG_ENDPOINT: good = set_endpoint(value, field); break;
    case CONFIG_RATE: good = set_rate(value, field); break;
    default: read_values(reader, value, target);
    }
    if (!good) {
        refuse(reader, value, NULL);
    }
}

static unsigned smaller(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/* Levenshtein's distance, for "did you mean"; long names count as far away. */
static unsigned distance(const char *a, const char *b)
{
    unsigned row[64];
    size_t length = strlen(b);
    if (length >= 64 || strlen(a) >= 64) {
        return 64;
    }
    for (unsigned j = 0; j <= length; j++) {
        row[j] = j;
    }
    for (unsigned i = 0; a[i] != '\0'; i++) {
        unsigned diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < length; j++) {
            unsigned replace = diagonal + (a[i] != b[j]);
            diagonal = row[j + 1];
            row[j + 1] = smaller(replace, smaller(row[j], row[j + 1]) + 1);
        }
    }
    return row[length];
}

static void refuse_unknown(struct reader *reader, const config_setting_t *setting, const struct config_key *keys)
{
    char expected_room[768];
    struct buffer expected = buffer_of(expected_room, sizeof expected_room);
    const char *name = config_setting_name(setting);
    const char *close = NULL;
    unsigned best = 3;
    for (const struct config_key *key = keys; key->name != NULL; key++) {
        unsigned far = distance(name, key->name);
        close = far < best ? key->name : close;
        best = smaller(best, far);
        buffer_append_format(&expected, key == keys ? "%s" : ", %s", key->name);
    }
    size_t before = enter(reader, name, 0);
    complain(reader, setting, "%.*s is not a known key, expected %s%.*s", (int)reader->place.length, reader->place.data,
             close != NULL ? "" : "one of ", close != NULL ? (int)strlen(close) : (int)expected.length,
             close != NULL ? close : expected.data);
    reader->place.length = before;
}

static const struct config_key *key_named(const struct config_key *keys, const char *name)
{
    for (; keys->name != NULL; keys++) {
        if (strcmp(keys->name, name) == 0) {
            return keys;
        }
    }
    return NULL;
}

static void read_group(struct reader *reader, const config_setting_t *group, const struct config_key *keys,
                       char *target);

static void read_list(struct reader *reader, struct value list, char *target)
{
    const struct config_key *key = list.key;
    unsigned count = (unsigned)config_setting_length(list.setting);
    char *items = config_allocate(reader->config, (count + 1) * key->item_size);
    char *standard = items + count * key->item_size;
    config_defaults(reader->config, key->keys, standard);
    if (key->items_max != 0 && count > key->items_max) {
        complain(reader, list.setting, "%.*s has %u items, expected at most %u", (int)reader->place.length,
                 reader->place.data, count, key->items_max);
        return;
    }
    for (unsigned i = 0; i < count; i++) {
        const config_setting_t *item = config_setting_get_elem(list.setting, i);
        static const struct config_key group = {.type = CONFIG_GROUP};
        size_t before = enter(reader, NULL, (int)i);
        memcpy(items + i * key->item_size, standard, key->item_size);
        if (config_setting_is_group(item)) {
            read_group(reader, item, key->keys, items + i * key->item_size);
        } else {
            refuse(reader, (struct value){.setting = item, .key = &group}, NULL);
        }
        reader->place.length = before;
    }
    memcpy(target + key->offset, &items, sizeof items);
    memcpy(target + key->count_offset, &count, sizeof count);
}

static void read_key(struct reader *reader, struct value value, char *target)
{
    const struct config_key *key = value.key;
    if (key->type == CONFIG_GROUP) {
        if (config_setting_is_group(value.setting)) {
            read_group(reader, value.setting, key->keys, target + key->offset);
            return;
        }
    } else if (key->type == CONFIG_LIST) {
        if (config_setting_is_list(value.setting)) {
            read_list(reader, value, target);
            return;
        }
    } else {
        read_value(reader, value, target);
        return;
    }
    refuse(reader, value, NULL);
}

static void read_group(struct reader *reader, const config_setting_t *group, const struct config_key *keys,
                       char *target)
{
    for (int i = 0; i < config_setting_length(group); i++) {
        const config_setting_t *setting = config_setting_get_elem(group, (unsigned)i);
        const struct config_key *key = key_named(keys, config_setting_name(setting));
        if (key == NULL) {
            refuse_unknown(reader, setting, keys);
            continue;
        }
        size_t before = enter(reader, key->name, 0);
        read_key(reader, (struct value){.setting = setting, .key = key}, target);
        reader->place.length = before;
    }
    for (const struct config_key *key = keys; key->name != NULL; key++) {
        bool required = key->standard == NULL && key->type != CONFIG_GROUP && key->type != CONFIG_LIST;
        if (required && config_setting_get_member(group, key->name) == NULL) {
            char room[256];
            struct buffer expected = buffer_of(room, sizeof room);
            size_t before = enter(reader, key->name, 0);
            put_expected(&expected, key);
            complain(reader, group, "%.*s is missing, expected %.*s", (int)reader->place.length, reader->place.data,
                     (int)expected.length, expected.data);
            reader->place.length = before;
        }
    }
}

void config_read_group(struct config *config, const struct config_setting_t *group, const struct config_key *keys,
                       void *target)
{
    struct reader reader = {.config = config};
    reader.place = buffer_of(reader.path, sizeof reader.path);
    read_group(&reader, group, keys, target);
}

/* A default is written in the table as it would be in the file, and read the same way. */
static void read_standard(struct config *config, const struct config_key *key, char *target)
{
    char text[256];
    config_t document;
    struct reader reader = {.config = config};
    reader.place = buffer_of(reader.path, sizeof reader.path);
    enter(&reader, key->name, 0);
    int length = snprintf(text, sizeof text, "standard = %s;", key->standard);
    config_init(&document);
    CHECK(length < (int)sizeof text && config_read_string(&document, text) == CONFIG_TRUE);
    unsigned errors = config_errors(config);
    struct value value = {.setting = config_setting_get_elem(config_root_setting(&document), 0), .key = key};
    read_value(&reader, value, target);
    CHECK(config_errors(config) == errors);
    config_destroy(&document);
}

void config_read_defaults(struct config *config, const struct config_key *keys, void *target)
{
    for (const struct config_key *key = keys; key->name != NULL; key++) {
        char *base = target;
        CHECK(key->type == CONFIG_GROUP || key->size == field_sizes[key->type]);
        if (key->type == CONFIG_GROUP) {
            config_read_defaults(config, key->keys, base + key->offset);
        } else if (key->type != CONFIG_LIST && key->standard != NULL) {
            read_standard(config, key, base);
        }
    }
}
