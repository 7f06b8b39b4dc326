#include "inbound/recipients_text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "inbound/recipients.h"

/* 0 or -errno; what a file has beyond its size at the start is not read. */
static int read_whole(int fd, struct recipients_text *text)
{
    struct stat status;
    if (fstat(fd, &status) != 0) {
        return -errno;
    }
    if (!S_ISREG(status.st_mode)) {
        return -EINVAL;
    }
    if ((unsigned long long)status.st_size > RECIPIENTS_FILE_BYTES_MAX) {
        return -EFBIG;
    }
    text->data = malloc((size_t)status.st_size + 1);
    if (text->data == NULL) {
        return -ENOMEM;
    }
    while (text->length < (size_t)status.st_size) {
        ssize_t count = read(fd, text->data + text->length, (size_t)status.st_size - text->length);
        if (count <= 0) {
            return count < 0 ? -errno : 0;
        }
        text->length += (size_t)count;
    }
    return 0;
}

bool recipients_text_open(struct recipients_text *text, const char *path, char *ret_reason, size_t reason_size)
{
    *text = (struct recipients_text){.line = 1, .next_line = 1};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    int error = fd < 0 ? -errno : read_whole(fd, text);
    if (fd >= 0) {
        close(fd);
    }
    if (error != 0) {
        snprintf(ret_reason, reason_size, "cannot be read: %s",
                 error == -EINVAL ? "not a regular file" : strerror(-error));
        recipients_text_close(text);
    }
    return error == 0;
}

void recipients_text_close(struct recipients_text *text)
{
    free(text->data);
    *text = (struct recipients_text){0};
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* Up to a blank, ',' or ':' that is neither in quotes nor in the brackets of an address literal. */
static void take_word(struct recipients_text *text)
{
    size_t start = text->at;
    char closing = '\0';
    for (; text->at < text->length; text->at++) {
        char c = text->data[text->at];
        if (c == '\n') {
            break;
        }
        if (closing != '\0') {
            if (c == '\\' && closing == '"' && text->at + 1 < text->length && text->data[text->at + 1] != '\n') {
                text->at++;
            } else if (c == closing) {
                closing = '\0';
            }
        } else if (c == '"' || c == '[') {
            closing = c == '"' ? '"' : ']';
        } else if (is_blank(c) || c == ',' || c == ':') {
            break;
        }
    }
    text->word = bytes_of(text->data + start, text->at - start);
}

/* At a newline: does the next line belong to the same entry, or is it a comment, which ends nothing? */
static bool goes_on(const struct recipients_text *text)
{
    size_t next = text->at + 1;
    return next < text->length && (is_blank(text->data[next]) || text->data[next] == '#');
}

enum recipients_token recipients_text_next(struct recipients_text *text)
{
    bool separated = text->at == 0;
    text->line = text->next_line;
    for (; text->at < text->length; text->at++) {
        char c = text->data[text->at];
        if (c == '\n') {
            text->line = text->next_line++;
            if (!goes_on(text)) {
                text->at++;
                return RECIPIENTS_END_OF_ENTRY;
            }
            text->line = text->next_line;
        } else if (c == '#' && (separated || text->data[text->at - 1] == '\n')) {
            const char *end = memchr(text->data + text->at, '\n', text->length - text->at);
            text->at = end == NULL ? text->length - 1 : (size_t)(end - text->data) - 1;
        } else if (!is_blank(c)) {
            break;
        }
        separated = true;
    }
    if (text->at == text->length) {
        return RECIPIENTS_END;
    }
    if (text->data[text->at] == ',' || text->data[text->at] == ':') {
        return text->data[text->at++] == ',' ? RECIPIENTS_COMMA : RECIPIENTS_COLON;
    }
    take_word(text);
    return RECIPIENTS_WORD;
}

void recipients_text_skip_entry(struct recipients_text *text, enum recipients_token last)
{
    while (last != RECIPIENTS_END_OF_ENTRY && last != RECIPIENTS_END) {
        last = recipients_text_next(text);
    }
}
