/* Dialogues with the server machine, written down (see server/README.md), and their replay. */
#ifndef TRANSCRIPT_H
#define TRANSCRIPT_H

#include "smtp/server.h"

enum transcript_kind { TRANSCRIPT_CLIENT, TRANSCRIPT_SERVER, TRANSCRIPT_EVENT };

struct transcript_entry {
    enum transcript_kind kind;
    int line;   /* in the file */
    char *data; /* CLIENT: octets sent; SERVER: how the reply line begins; EVENT: the event */
    size_t length;
    bool prefix;          /* EVENT: written with "..." at its end */
    bool apart;           /* CLIENT: never in one input with what the client said before */
    struct reply refusal; /* EVENT: the answer; code 0 = accept, 334 = challenge */
    bool stop;            /* EVENT: answer with smtp_server_stop */
};

struct transcript {
    const char *path;
    struct smtp_server_config config;
    struct reply refusing_greeting; /* code 0 = ordinary greeting */
    uint64_t now_s;
    bool secure;     /* TLS from the start */
    bool stranger;   /* XCLIENT and XFORWARD are taken off the session's extensions */
    bool next_apart; /* while reading */
    struct transcript_entry *entries;
    size_t count;
};

enum transcript_cut {
    TRANSCRIPT_WHOLE,  /* everything the client says in one input */
    TRANSCRIPT_LINES,  /* entry by entry, and all that is expected before the next one must have come */
    TRANSCRIPT_OCTETS, /* one octet per input */
    TRANSCRIPT_RANDOM, /* cut at places that the seed chooses */
};

/* Fails the test when the file is not a transcript. */
struct transcript *transcript_read(const char *path);
void transcript_delete(struct transcript *transcript);

/* The event as it stands in a transcript. */
void transcript_describe(const struct smtp_server *s, enum smtp_server_event event, struct buffer *text);

/* Fails the test when events or replies are other than written. */
void transcript_replay(const struct transcript *transcript, enum transcript_cut cut, uint64_t seed);

#endif
