/* Aliases that lead to aliases, followed to the end once, when the table is loaded.
 *
 * Depth first: an alias that is met while it is being expanded itself is a loop. What an alias comes to is complete
 * before anybody appends it to his own list, so each is expanded once, however often it is used. Depth, the length of a
 * list and the length of all lists together are bounded; the recursion is at most RECIPIENTS_DEPTH_MAX deep.
 */
#include <stdlib.h>

#include "inbound/recipients_table.h"

struct list_in_work {
    struct bytes *targets;
    uint32_t *hashes; /* so that looking for a duplicate compares numbers */
    unsigned count;
    unsigned room;
    bool full;
};

struct expansion {
    struct recipients *recipients;
    struct recipients_errors *errors;
};

static uint32_t hash_of(struct bytes text)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < text.length; i++) {
        hash = (hash ^ (uint8_t)bytes_ascii_lower(text.data[i])) * 16777619u;
    }
    return hash;
}

static void add(struct list_in_work *list, struct bytes target)
{
    uint32_t hash = hash_of(target);
    for (unsigned i = 0; i < list->count; i++) {
        if (list->hashes[i] == hash && bytes_equal_nocase(list->targets[i], target)) {
            return;
        }
    }
    if (list->count == RECIPIENTS_TARGETS_MAX) {
        list->full = true;
        return;
    }
    if (list->count == list->room) {
        list->room = list->room != 0 ? list->room * 2 : 4;
        list->targets = realloc(list->targets, list->room * sizeof *list->targets);
        list->hashes = realloc(list->hashes, list->room * sizeof *list->hashes);
        CHECK(list->targets != NULL && list->hashes != NULL);
    }
    list->hashes[list->count] = hash;
    list->targets[list->count++] = target;
}

static void expand(struct expansion *expansion, struct recipients_alias *alias, unsigned depth);

/* An own name with an alias: what that comes to. */
static void follow(struct expansion *expansion, struct recipients_alias *alias, const struct recipients_target *target,
                   struct recipients_alias *to, unsigned depth, struct list_in_work *list)
{
    int length = (int)target->address.length;
    if (to->progress == RECIPIENTS_RAW && depth < RECIPIENTS_DEPTH_MAX) {
        expand(expansion, to, depth + 1);
    }
    if (to->progress == RECIPIENTS_EXPANDING) {
        recipients_table_error(expansion->errors, alias->own->aliases, target->line,
                               "%.*s leads back to itself, expected aliases without a loop", length,
                               target->address.data);
    } else if (to->progress == RECIPIENTS_RAW) {
        recipients_table_error(expansion->errors, alias->own->aliases, target->line,
                               "%.*s is behind more than %d aliases, expected fewer", length, target->address.data,
                               RECIPIENTS_DEPTH_MAX);
    } else {
        for (unsigned i = 0; i < to->count; i++) {
            add(list, to->targets[i]);
        }
    }
}

static void expand_target(struct expansion *expansion, struct recipients_alias *alias,
                          const struct recipients_target *target, unsigned depth, struct list_in_work *list)
{
    struct address address;
    CHECK(address_parse_mailbox(target->address, true, &address) == ADDRESS_OK);
    const struct recipients_own *own = recipients_table_domain(expansion->recipients, address_domain(&address));
    if (own == NULL) {
        add(list, target->address);
        return;
    }
    const struct recipients_user *user = recipients_table_user(own, address_local(&address));
    struct recipients_alias *to = user != NULL ? user->alias : NULL;
    if (to == alias || (to == NULL && user != NULL) || (user == NULL && own->any)) {
        if (to == alias && user->mailbox_line == 0 && !own->any) {
            recipients_table_error(expansion->errors, alias->own->aliases, target->line,
                                   "%.*s is this alias itself, expected a mailbox of that name",
                                   (int)target->address.length, target->address.data);
        }
        add(list, target->address);
        return;
    }
    to = to != NULL ? to : own->rest;
    if (to == NULL) {
        recipients_table_error(expansion->errors, alias->own->aliases, target->line,
                               "%.*s does not exist, expected a mailbox or alias of that domain",
                               (int)target->address.length, target->address.data);
        return;
    }
    follow(expansion, alias, target, to, depth, list);
}

static void expand(struct expansion *expansion, struct recipients_alias *alias, unsigned depth)
{
    struct recipients *recipients = expansion->recipients;
    struct list_in_work list = {0};
    alias->progress = RECIPIENTS_EXPANDING;
    for (unsigned i = 0; i < alias->raw_count; i++) {
        expand_target(expansion, alias, &alias->raw[i], depth, &list);
    }
    recipients->expanded += list.count;
    if (list.full || recipients->expanded > RECIPIENTS_EXPANDED_MAX) {
        recipients_table_error(expansion->errors, alias->own->aliases, alias->line,
                               "this alias comes to too many addresses, expected at most %d, and %u of all aliases",
                               RECIPIENTS_TARGETS_MAX, RECIPIENTS_EXPANDED_MAX);
        list.count = 0;
    }
    alias->targets = recipients_table_allocate(recipients, (list.count + 1) * sizeof *alias->targets);
    if (list.count != 0) {
        memcpy(alias->targets, list.targets, list.count * sizeof *alias->targets);
    }
    alias->count = list.count;
    alias->progress = RECIPIENTS_EXPANDED;
    free(list.targets);
    free(list.hashes);
}

void recipients_expand(struct recipients *recipients, struct recipients_own *own, struct recipients_errors *errors)
{
    struct expansion expansion = {.recipients = recipients, .errors = errors};
    for (struct recipients_alias *alias = own->first_alias; alias != NULL; alias = alias->next) {
        if (alias->progress == RECIPIENTS_RAW && recipients->expanded <= RECIPIENTS_EXPANDED_MAX) {
            expand(&expansion, alias, 1);
        }
    }
}
