#include "inbound/recipients.h"

#include <stdarg.h>
#include <stdlib.h>

#include "base/limits.h"
#include "inbound/recipients_table.h"
#include "inbound/recipients_text.h"
#include "mail/local_part.h"

#define BLOCK_BYTES (64u * 1024)

/* --- the table ------------------------------------------------------------------------------------------------ */

void *recipients_table_allocate(struct recipients *recipients, size_t size)
{
    struct recipients_block *block = recipients->blocks;
    size = (size + 15) / 16 * 16;
    if (block == NULL || block->size - block->used < size) {
        size_t room = size > BLOCK_BYTES / 4 ? size : BLOCK_BYTES;
        struct recipients_block *more = calloc(1, sizeof *more + room);
        CHECK(more != NULL);
        more->size = room;
        if (block != NULL && room == size) { /* one of its own, behind the one that has room left */
            more->next = block->next;
            block->next = more;
        } else {
            more->next = block;
            recipients->blocks = more;
        }
        block = more;
    }
    void *place = block->data + block->used;
    block->used += size;
    return place;
}

static struct bytes copy(struct recipients *recipients, struct bytes text)
{
    char *place = recipients_table_allocate(recipients, text.length + 1);
    if (text.length != 0) {
        memcpy(place, text.data, text.length);
    }
    return bytes_of(place, text.length);
}

void recipients_table_error(struct recipients_errors *errors, const char *path, unsigned line, const char *format, ...)
{
    char text[1024];
    struct buffer out = buffer_of(text, sizeof text - 1);
    char message[768];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    for (char *c = message; *c != '\0'; c++) {
        *c = (char)(*c >= ' ' && *c != 0x7f ? *c : '?');
    }
    buffer_append_format(&out, line != 0 ? "%.200s:%u: %s" : "%.200s:%.0u %s", path, line, message);
    text[out.length] = '\0';
    errors->count++;
    errors->report(errors->context, text);
}

struct recipients_own *recipients_table_domain(const struct recipients *recipients, struct bytes domain)
{
    char room[LIMIT_DOMAIN_BYTES];
    if (domain.length > sizeof room) {
        return NULL;
    }
    for (size_t i = 0; i < domain.length; i++) {
        room[i] = bytes_ascii_lower(domain.data[i]);
    }
    return map_find(&recipients->domains, bytes_of(room, domain.length));
}

struct recipients_user *recipients_table_user(const struct recipients_own *own, struct bytes local)
{
    char room[LIMIT_LOCAL_PART_BYTES];
    if (local.length > sizeof room) {
        return NULL;
    }
    struct bytes folded = local_part_fold(local, room);
    struct recipients_user *user = map_find(&own->users, folded);
    struct bytes base = local_part_base(folded, own->subaddress);
    return user != NULL || base.length == folded.length ? user : map_find(&own->users, base);
}

/* --- reading -------------------------------------------------------------------------------------------------- */

struct loading {
    struct recipients *recipients;
    struct recipients_own *own;
    struct recipients_errors *errors;
    const char *path;
    struct recipients_text text;
};

/* "local" of this domain or "local@domain" -> an address with its domain in lower case; empty, and reported, when it is
 * neither. */
static struct bytes take_address(struct loading *loading, bool whole)
{
    struct bytes word = loading->text.word;
    char room[2 * LIMIT_ADDRESS_BYTES];
    struct buffer out = buffer_of(room, sizeof room);
    struct address address;
    bool fits = buffer_append(&out, word);
    if (fits && whole && address_parse_mailbox(word, true, &address) == ADDRESS_OK &&
        address.kind != ADDRESS_POSTMASTER) {
        out.length = 0;
        address_append_folded(&out, &address);
        return copy(loading->recipients, buffer_bytes(&out));
    }
    if (fits && buffer_append(&out, BYTES("@")) && buffer_append(&out, loading->own->name) &&
        address_parse_mailbox(buffer_bytes(&out), true, &address) == ADDRESS_OK &&
        address.local_length == word.length) {
        return copy(loading->recipients, buffer_bytes(&out));
    }
    recipients_table_error(loading->errors, loading->path, loading->text.line, "\"%.*s\" is not %s",
                           (int)(word.length < LIMIT_ADDRESS_BYTES ? word.length : LIMIT_ADDRESS_BYTES), word.data,
                           whole ? "an address, expected local parts or addresses, separated by commas"
                                 : "a local part, expected a name without a domain");
    return bytes_of("", 0);
}

/* The user of this name, made when there is none. */
static struct recipients_user *user_of(struct loading *loading, struct bytes address)
{
    char room[LIMIT_LOCAL_PART_BYTES];
    struct recipients_own *own = loading->own;
    struct bytes local = bytes_slice(address, 0, address.length - own->name.length - 1);
    struct bytes key = local_part_fold(local, room);
    struct recipients_user *user = map_find(&own->users, key);
    if (user == NULL) {
        user = recipients_table_allocate(loading->recipients, sizeof *user);
        user->key = copy(loading->recipients, key);
        if (!map_insert(&own->users, user->key, user)) {
            recipients_table_error(loading->errors, loading->path, loading->text.line,
                                   "too many names, expected at most %u in a domain", RECIPIENTS_USERS_MAX);
            return NULL;
        }
    }
    return user;
}

static void read_mailbox(struct loading *loading)
{
    unsigned line = loading->text.line;
    struct bytes address = take_address(loading, false);
    struct recipients_user *user = address.length != 0 ? user_of(loading, address) : NULL;
    if (user != NULL && local_part_base(user->key, loading->own->subaddress).length != user->key.length) {
        recipients_table_error(loading->errors, loading->path, line,
                               "%.*s has the subaddress character in it, expected a name without '%c'",
                               (int)user->key.length, user->key.data, loading->own->subaddress);
    } else if (user != NULL && user->mailbox_line != 0) {
        recipients_table_error(loading->errors, loading->path, line, "%.*s is in line %u already, expected it once",
                               (int)user->key.length, user->key.data, user->mailbox_line);
    } else if (user != NULL) {
        user->mailbox_line = line;
        loading->recipients->counts.mailboxes++;
    }
}

static void read_mailboxes(struct loading *loading)
{
    enum recipients_token token;
    while ((token = recipients_text_next(&loading->text)) != RECIPIENTS_END) {
        if (token == RECIPIENTS_WORD) {
            read_mailbox(loading);
            token = recipients_text_next(&loading->text);
        }
        if (token != RECIPIENTS_END_OF_ENTRY && token != RECIPIENTS_END) {
            recipients_table_error(loading->errors, loading->path, loading->text.line,
                                   "more than a name, expected one local part a line");
            recipients_text_skip_entry(&loading->text, token);
        }
    }
}

/* Targets up to the end of the entry; false, and reported, when they are not a list. */
static bool read_targets(struct loading *loading, struct recipients_target **targets, unsigned *ret_count)
{
    unsigned count = 0;
    unsigned room = 0;
    enum recipients_token token = RECIPIENTS_COMMA;
    while (token == RECIPIENTS_COMMA && count <= RECIPIENTS_TARGETS_MAX) {
        token = recipients_text_next(&loading->text);
        if (token != RECIPIENTS_WORD) {
            break;
        }
        if (count == room) {
            room = room != 0 ? room * 2 : 4;
            *targets = realloc(*targets, room * sizeof **targets);
            CHECK(*targets != NULL);
        }
        (*targets)[count] = (struct recipients_target){.line = loading->text.line};
        (*targets)[count].address = take_address(loading, true);
        count += (*targets)[count].address.length != 0;
        token = recipients_text_next(&loading->text);
        if (token == RECIPIENTS_END_OF_ENTRY || token == RECIPIENTS_END) {
            *ret_count = count;
            return true;
        }
    }
    recipients_table_error(loading->errors, loading->path, loading->text.line,
                           "not an alias, expected \"name: address, address\" with at most %d addresses",
                           RECIPIENTS_TARGETS_MAX);
    recipients_text_skip_entry(&loading->text, token);
    return false;
}

static void add_alias(struct loading *loading, struct bytes address, const struct recipients_target *targets,
                      unsigned count, unsigned line)
{
    struct recipients_own *own = loading->own;
    struct recipients_user *user = address.length != 0 ? user_of(loading, address) : NULL;
    if (address.length != 0 && user == NULL) {
        return;
    }
    const struct recipients_alias *before = user != NULL ? user->alias : own->rest;
    if (before != NULL) {
        recipients_table_error(loading->errors, loading->path, line, "%.*s is in line %u already, expected it once",
                               user != NULL ? (int)user->key.length : 1, user != NULL ? user->key.data : "*",
                               before->line);
        return;
    }
    struct recipients_alias *alias = recipients_table_allocate(loading->recipients, sizeof *alias);
    *alias = (struct recipients_alias){
        .next = own->first_alias, .user = user, .own = own, .raw_count = count, .line = line};
    alias->raw = recipients_table_allocate(loading->recipients, (count + 1) * sizeof *alias->raw);
    if (count != 0) {
        memcpy(alias->raw, targets, count * sizeof *targets);
    }
    own->first_alias = alias;
    loading->recipients->counts.aliases++;
    *(user != NULL ? &user->alias : &own->rest) = alias;
}

static void read_aliases(struct loading *loading)
{
    struct recipients_target *targets = NULL;
    enum recipients_token token;
    while ((token = recipients_text_next(&loading->text)) != RECIPIENTS_END) {
        unsigned line = loading->text.line;
        struct bytes address = bytes_of("", 0);
        unsigned count = 0;
        bool good = token == RECIPIENTS_WORD;
        if (good && !bytes_equal(loading->text.word, BYTES("*"))) {
            address = take_address(loading, false);
            good = address.length != 0;
        } else if (token == RECIPIENTS_END_OF_ENTRY) {
            continue;
        }
        token = good ? recipients_text_next(&loading->text) : token;
        if (good && token == RECIPIENTS_COLON) {
            good = read_targets(loading, &targets, &count);
            if (good && count != 0) {
                add_alias(loading, address, targets, count, line);
            }
            continue;
        }
        if (good || token != RECIPIENTS_WORD) {
            recipients_table_error(loading->errors, loading->path, line,
                                   "not an alias, expected \"name: address, address\"");
        }
        recipients_text_skip_entry(&loading->text, token);
    }
    free(targets);
}

static void read_file(struct loading *loading, const char *path, void (*read)(struct loading *loading))
{
    char reason[160];
    loading->path = path;
    if (path[0] == '\0') {
        return;
    }
    if (!recipients_text_open(&loading->text, path, reason, sizeof reason)) {
        recipients_table_error(loading->errors, path, 0, "%s, expected a text file", reason);
        return;
    }
    read(loading);
    recipients_text_close(&loading->text);
}

/* --- loading -------------------------------------------------------------------------------------------------- */

static void load_domain(struct recipients *recipients, struct recipients_own *own,
                        const struct recipients_domain *domain, struct recipients_errors *errors)
{
    struct loading loading = {.recipients = recipients, .own = own, .errors = errors};
    own->name = copy(recipients, domain->name);
    own->mailboxes = copy(recipients, bytes_of_string(domain->mailboxes)).data;
    own->aliases = copy(recipients, bytes_of_string(domain->aliases)).data;
    own->subaddress = domain->subaddress;
    own->any = domain->mailboxes[0] == '\0';
    map_init(&own->users, RECIPIENTS_USERS_MAX);
    if (!map_insert(&recipients->domains, own->name, own)) {
        errors->count++; /* not reported: at the limit or without memory; the caller knows its list */
        return;
    }
    read_file(&loading, own->mailboxes, read_mailboxes);
    read_file(&loading, own->aliases, read_aliases);
}

static void check_postmaster(struct recipients *recipients, struct recipients_own *own,
                             struct recipients_errors *errors)
{
    char room[LIMIT_ADDRESS_BYTES];
    struct buffer address = buffer_of(room, sizeof room);
    if (!own->any && own->rest == NULL && map_find(&own->users, BYTES("postmaster")) == NULL) {
        recipients_table_error(errors, own->mailboxes, 0,
                               "nobody is postmaster@%.*s, expected a mailbox or an alias (RFC 5321 4.5.1)",
                               (int)own->name.length, own->name.data);
    }
    CHECK(buffer_append(&address, BYTES("postmaster@")) && buffer_append(&address, own->name));
    own->postmaster_address = copy(recipients, buffer_bytes(&address));
}

struct recipients *recipients_load(const struct recipients_domain *domains, unsigned count,
                                   struct bytes postmaster_domain, config_report *report, void *context)
{
    struct recipients_errors errors = {.report = report, .context = context};
    struct recipients *recipients = calloc(1, sizeof *recipients);
    CHECK(recipients != NULL && count <= RECIPIENTS_DOMAINS_MAX);
    map_init(&recipients->domains, RECIPIENTS_DOMAINS_MAX);
    recipients->owns = recipients_table_allocate(recipients, (count + 1) * sizeof *recipients->owns);
    recipients->counts.domains = count;
    for (unsigned i = 0; i < count; i++) {
        CHECK(recipients_table_domain(recipients, domains[i].name) == NULL);
        load_domain(recipients, &recipients->owns[i], &domains[i], &errors);
    }
    for (unsigned i = 0; errors.count == 0 && i < count; i++) {
        recipients_expand(recipients, &recipients->owns[i], &errors);
    }
    for (unsigned i = 0; i < count; i++) {
        check_postmaster(recipients, &recipients->owns[i], &errors);
    }
    recipients->home = recipients_table_domain(recipients, postmaster_domain);
    recipients->home = recipients->home != NULL || count == 0 ? recipients->home : &recipients->owns[0];
    if (errors.count != 0) {
        recipients_delete(recipients);
        return NULL;
    }
    return recipients;
}

void recipients_delete(struct recipients *recipients)
{
    if (recipients == NULL) {
        return;
    }
    for (unsigned i = 0; i < recipients->counts.domains; i++) {
        map_free(&recipients->owns[i].users);
    }
    map_free(&recipients->domains);
    for (struct recipients_block *block = recipients->blocks; block != NULL;) {
        struct recipients_block *next = block->next;
        free(block);
        block = next;
    }
    free(recipients);
}

/* --- asking --------------------------------------------------------------------------------------------------- */

static struct recipients_answer answer_of(const struct recipients_own *own, struct bytes local)
{
    const struct recipients_user *user = recipients_table_user(own, local);
    const struct recipients_alias *alias = user != NULL ? user->alias : own->any ? NULL : own->rest;
    if (alias != NULL) {
        return (struct recipients_answer){
            .verdict = RECIPIENTS_FORWARD, .targets_count = alias->count, .targets = alias->targets};
    }
    return (struct recipients_answer){.verdict = user != NULL || own->any ? RECIPIENTS_MAILBOX : RECIPIENTS_UNKNOWN};
}

struct recipients_answer recipients_lookup(const struct recipients *recipients, const struct address *address)
{
    CHECK(address->kind != ADDRESS_NULL);
    if (address->kind == ADDRESS_POSTMASTER) {
        const struct recipients_own *home = recipients->home;
        struct recipients_answer answer = {.verdict = RECIPIENTS_MAILBOX};
        answer = home != NULL ? answer_of(home, BYTES("postmaster")) : answer;
        return home == NULL || answer.verdict == RECIPIENTS_FORWARD
                   ? answer
                   : (struct recipients_answer){
                         .verdict = RECIPIENTS_FORWARD, .targets_count = 1, .targets = &home->postmaster_address};
    }
    const struct recipients_own *own = recipients_table_domain(recipients, address_domain(address));
    return own != NULL ? answer_of(own, address_local(address))
                       : (struct recipients_answer){.verdict = RECIPIENTS_FOREIGN};
}

bool recipients_own_domain(const struct recipients *recipients, struct bytes domain)
{
    return recipients_table_domain(recipients, domain) != NULL;
}

struct recipients_count recipients_counts(const struct recipients *recipients)
{
    return recipients->counts;
}
