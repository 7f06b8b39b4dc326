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

static void set(struct transcript *t, const char *line)
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
    };
    const char *equals = strchr(line, '=');
    assert_non_null(equals);
    size_t length = (size_t)(equals - line);
    unsigned long value = strtoul(equals + 1, NULL, 10);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (strlen(numbers[i].name) == length && memcmp(numbers[i].name, line, length) == 0) {
            *numbers[i].value = (uint32_t)value;
            return;
        }
    }
    if (strncmp(line, "message_bytes_max", length) == 0) {
        t->config.message_bytes_max = value;
    } else if (strncmp(line, "greeting", length) == 0) {
        t->refusing_greeting = (struct reply){.code = (uint16_t)value, .text = BYTES("no")};
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
        .extensions = SMTP_SERVER_EXTENSIONS_ALL,
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
    }
    free(t->entries);
    free(t);
}
