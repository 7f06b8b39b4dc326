#include "spool/journal.h"

static size_t journal_padding(size_t length)
{
    return (4 - length % 4) % 4;
}

bool journal_add(struct buffer *out, const struct journal_item *item)
{
    static const char zeros[4];
    size_t texts = item->text.length + item->host.length;
    size_t padding = journal_padding(texts);
    if (item->text.length > UINT16_MAX || item->host.length > UINT16_MAX ||
        sizeof item->state + texts + padding > buffer_room(out)) {
        return false;
    }
    struct spool_format_state state = item->state;
    state.text_bytes = (uint16_t)item->text.length;
    state.host_bytes = (uint16_t)item->host.length;
    return buffer_append(out, bytes_of(&state, sizeof state)) && buffer_append(out, item->text) &&
           buffer_append(out, item->host) && buffer_append(out, bytes_of(zeros, padding));
}

bool journal_next(struct journal_iterator *iterator, struct journal_item *ret_item)
{
    struct bytes *rest = &iterator->rest;
    if (rest->length == 0) {
        return false;
    }
    struct journal_item item;
    if (rest->length < sizeof item.state) {
        iterator->bad = true;
        return false;
    }
    memcpy(&item.state, rest->data, sizeof item.state);
    size_t texts = (size_t)item.state.text_bytes + item.state.host_bytes;
    size_t whole = sizeof item.state + texts + journal_padding(texts);
    if (whole > rest->length || item.state.status > SPOOL_FORMAT_REMOVED) {
        iterator->bad = true;
        return false;
    }
    item.text = bytes_slice(*rest, sizeof item.state, item.state.text_bytes);
    item.host = bytes_slice(*rest, sizeof item.state + item.state.text_bytes, item.state.host_bytes);
    bytes_advance(rest, whole);
    *ret_item = item;
    return true;
}

struct journal_iterator journal_outcome(struct bytes payload, struct spool_format_outcome *ret_outcome)
{
    struct journal_iterator iterator = {.rest = payload};
    if (payload.length < sizeof *ret_outcome) {
        iterator.rest = (struct bytes){0};
        iterator.bad = true;
        return iterator;
    }
    memcpy(ret_outcome, payload.data, sizeof *ret_outcome);
    bytes_advance(&iterator.rest, sizeof *ret_outcome);
    return iterator;
}

bool journal_find(struct journal_iterator iterator, uint16_t recipient, struct journal_item *ret_item)
{
    bool found = false;
    struct journal_item item;
    while (journal_next(&iterator, &item)) {
        if (item.state.recipient == recipient) {
            *ret_item = item;
            found = true;
        }
    }
    return found;
}
