#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/limits.h"
#include "transcript/transcript.h"

struct text {
    char *data;
    size_t length;
    size_t capacity;
};

static void put(struct text *text, char c)
{
    if (text->length == text->capacity) {
        text->capacity = text->capacity * 2 + 64;
        text->data = realloc(text->data, text->capacity);
        assert_non_null(text->data);
    }
    text->data[text->length++] = c;
}

/* \{1000*text}: text as often as that. *p stands behind the brace. */
static void unescape(const char **p, char until, struct text *ret_text);

static void put_repeated(const char **p, struct text *text)
{
    struct text once = {0};
    long times = strtol(*p, (char **)(uintptr_t)p, 10);
    assert_int_equal(**p, '*');
    (*p)++;
    unescape(p, '}', &once);
    assert_int_equal(**p, '}');
    (*p)++;
    for (long i = 0; i < times; i++) {
        for (size_t j = 0; j < once.length; j++) {
            put(text, once.data[j]);
        }
    }
    free(once.data);
}

static void unescape(const char **p, char until, struct text *ret_text)
{
    while (**p != '\0' && **p != until) {
        char c = *(*p)++;
        if (c != '\\') {
            put(ret_text, c);
            continue;
        }
        c = *(*p)++;
        char hex[3] = {0};
        switch (c) {
        case 'r': put(ret_text, '\r'); break;
        case 'n': put(ret_text, '\n'); break;
        case 't': put(ret_text, '\t'); break;
        case '0': put(ret_text, '\0'); break;
        case '\\': put(ret_text, '\\'); break;
        case '{': put_repeated(p, ret_text); break;
        case 'x':
            memcpy(hex, *p, 2);
            put(ret_text, (char)strtol(hex, NULL, 16));
            *p += 2;
            break;
        default: fail_msg("unknown escape \\%c", c);
        }
    }
}

static const struct {
    const char *name;
    uint32_t bit;
} extension_names[] = {
    {"STARTTLS", SMTP_SERVER_STARTTLS},       {"AUTH", SMTP_SERVER_AUTH},
    {"CHUNKING", SMTP_SERVER_CHUNKING},       {"BINARYMIME", SMTP_SERVER_BINARYMIME},
    {"SMTPUTF8", SMTP_SERVER_SMTPUTF8},       {"DSN", SMTP_SERVER_DSN},
    {"LIMITS", SMTP_SERVER_LIMITS},           {"REQUIRETLS", SMTP_SERVER_REQUIRETLS},
    {"MT-PRIORITY", SMTP_SERVER_MT_PRIORITY}, {"FUTURERELEASE", SMTP_SERVER_FUTURERELEASE},
    {"DELIVERBY", SMTP_SERVER_DELIVERBY},     {"XCLIENT", SMTP_SERVER_XCLIENT},
    {"XFORWARD", SMTP_SERVER_XFORWARD},
};

static void offer(struct transcript *t, struct bytes names)
{
    while (names.length != 0) {
        const char *space = memchr(names.data, ' ', names.length);
        size_t length = space == NULL ? names.length : (size_t)(space - names.data);
        uint32_t bit = 0;
        for (size_t i = 0; i < sizeof(extension_names) / sizeof(extension_names[0]); i++) {
            bool same = bytes_equal(bytes_slice(names, 0, length), bytes_of_string(extension_names[i].name));
            bit |= same ? extension_names[i].bit : 0;
        }
        assert_true(bit != 0);
        t->config.extensions |= bit;
        bytes_advance(&names, space == NULL ? length : length + 1);
    }
}

static struct bytes keep(const char *text)
{
    char *copy = strdup(text);
    assert_non_null(copy);
    return bytes_of_string(copy);
}

static bool set_number(struct transcript *t, struct bytes name, unsigned long value)
{
    struct {
        const char *name;
        uint32_t *value;
    } numbers[] = {
        {"recipients_max", &t->config.recipients_max},
        {"command_bytes_max", &t->config.command_bytes_max},
        {"text_line_bytes_max", &t->config.text_line_bytes_max},
        {"received_max", &t->config.received_max},
        {"errors_max", &t->config.errors_max},
        {"extensions", &t->config.extensions},
        {"mail_max", &t->config.mail_max},
        {"future_release_seconds_max", &t->config.future_release_seconds_max},
        {"deliver_by_seconds_min", &t->config.deliver_by_seconds_min},
    };
    struct {
        const char *name;
        bool *value;
    } flags[] = {
        {"lmtp", &t->config.lmtp},  {"auth_required", &t->config.auth_required},
        {"secure", &t->secure},     {"tls_required", &t->config.tls_required},
        {"stranger", &t->stranger},
    };
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (bytes_equal(name, bytes_of_string(numbers[i].name))) {
            *numbers[i].value = (uint32_t)value;
            return true;
        }
    }
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        if (bytes_equal(name, bytes_of_string(flags[i].name))) {
            *flags[i].value = value != 0;
            return true;
        }
    }
    return false;
}

static void set(struct transcript *t, const char *line)
{
    const char *equals = strchr(line, '=');
    assert_non_null(equals);
    struct bytes name = bytes_of(line, (size_t)(equals - line));
    unsigned long value = strtoul(equals + 1, NULL, 10);
    if (set_number(t, name, value)) {
        return;
    }
    if (bytes_equal(name, BYTES("message_bytes_max"))) {
        t->config.message_bytes_max = value;
    } else if (bytes_equal(name, BYTES("greeting"))) {
        t->refusing_greeting = (struct reply){.code = (uint16_t)value, .text = BYTES("no")};
    } else if (bytes_equal(name, BYTES("now_s"))) {
        t->now_s = value;
    } else if (bytes_equal(name, BYTES("offer"))) {
        offer(t, bytes_of_string(equals + 1));
    } else if (bytes_equal(name, BYTES("mechanisms_clear"))) {
        t->config.mechanisms_clear = keep(equals + 1);
    } else if (bytes_equal(name, BYTES("mechanisms_secure"))) {
        t->config.mechanisms_secure = keep(equals + 1);
    } else {
        fail_msg("%s: unknown setting %s", t->path, line);
    }
}

static struct transcript_entry *add(struct transcript *t, enum transcript_kind kind, int number, const char *line)
{
    struct text text = {0};
    unescape(&line, '\0', &text);
    t->entries = realloc(t->entries, (t->count + 1) * sizeof(*t->entries));
    assert_non_null(t->entries);
    struct transcript_entry *entry = &t->entries[t->count++];
    *entry = (struct transcript_entry){.kind = kind, .line = number, .data = text.data, .length = text.length};
    if (kind == TRANSCRIPT_CLIENT) {
        entry->apart = t->next_apart;
        t->next_apart = false;
    }
    return entry;
}

static void answer(struct transcript_entry *entry, const char *line)
{
    unsigned code, class, subject, detail;
    assert_int_equal(entry->kind, TRANSCRIPT_EVENT);
    if (strcmp(line, "stop") == 0) {
        entry->stop = true;
        return;
    }
    if (strncmp(line, "334", 3) == 0) {
        entry->refusal = (struct reply){.code = 334, .text = keep(line[3] == ' ' ? line + 4 : "")};
        return;
    }
    assert_int_equal(sscanf(line, "%u %u.%u.%u", &code, &class, &subject, &detail), 4);
    entry->refusal = (struct reply){.code = (uint16_t)code,
                                    .enhanced = {(uint8_t) class, (uint8_t)subject, (uint8_t)detail},
                                    .text = BYTES("the driver says no")};
}

static void read_line(struct transcript *t, int number, const char *line)
{
    if (line[0] == '\0' || line[0] == '#') {
        return;
    }
    if (strncmp(line, "SET: ", 5) == 0) {
        set(t, line + 5);
    } else if (strcmp(line, "---") == 0) {
        t->next_apart = true;
    } else if (strncmp(line, "C-: ", 4) == 0) {
        add(t, TRANSCRIPT_CLIENT, number, line + 4);
    } else if (strncmp(line, "C: ", 3) == 0 || strcmp(line, "C:") == 0) {
        struct transcript_entry *entry = add(t, TRANSCRIPT_CLIENT, number, line[2] == '\0' ? "" : line + 3);
        struct text text = {entry->data, entry->length, entry->length};
        put(&text, '\r');
        put(&text, '\n');
        entry->data = text.data;
        entry->length = text.length;
    } else if (strncmp(line, "S: ", 3) == 0) {
        add(t, TRANSCRIPT_SERVER, number, line + 3);
    } else if (strncmp(line, "EV: ", 4) == 0) {
        struct transcript_entry *entry = add(t, TRANSCRIPT_EVENT, number, line + 4);
        if (entry->length > 3 && memcmp(entry->data + entry->length - 3, "...", 3) == 0) {
            entry->prefix = true;
            entry->length -= 3;
        }
    } else if (strncmp(line, "A: ", 3) == 0 && t->count != 0) {
        answer(&t->entries[t->count - 1], line + 3);
    } else {
        fail_msg("%s:%d: not a line of a transcript: %s", t->path, number, line);
    }
}

struct transcript *transcript_read(const char *path)
{
    struct transcript *t = calloc(1, sizeof(*t));
    assert_non_null(t);
    t->path = path;
    t->config = (struct smtp_server_config){
        .hostname = BYTES("mx.example"),
        .extensions = SMTP_SERVER_EXTENSIONS_BASIC,
        .message_bytes_max = 100000,
        .recipients_max = 100,
        .command_bytes_max = LIMIT_COMMAND_BYTES_DEFAULT,
        .text_line_bytes_max = LIMIT_TEXT_LINE_BYTES_DEFAULT,
        .received_max = LIMIT_RECEIVED_DEFAULT,
        .errors_max = LIMIT_ERRORS_DEFAULT,
    };
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        fail_msg("cannot open %s", path);
    }
    char *line = NULL;
    size_t size = 0;
    for (int number = 1; getline(&line, &size, file) > 0; number++) {
        line[strcspn(line, "\n")] = '\0';
        read_line(t, number, line);
    }
    free(line);
    fclose(file);
    return t;
}

void transcript_delete(struct transcript *t)
{
    for (size_t i = 0; i < t->count; i++) {
        free(t->entries[i].data);
        if (t->entries[i].refusal.code == 334) {
            free((void *)(uintptr_t)t->entries[i].refusal.text.data);
        }
    }
    free(t->entries);
    free((void *)(uintptr_t)t->config.mechanisms_clear.data);
    free((void *)(uintptr_t)t->config.mechanisms_secure.data);
    free(t);
}
