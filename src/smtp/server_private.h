/* What the files of the server machine share: server.c (the steps, the answers and the end of a transaction),
 * server_command.c (one function per verb), server_ehlo.c (what is offered), server_bdat.c, server_auth.c. */
#ifndef SMTP_SERVER_PRIVATE_H
#define SMTP_SERVER_PRIVATE_H

#include "smtp/server.h"
#include "smtp/syntax.h"

enum server_phase {
    PHASE_START,
    PHASE_REFUSED, /* greeted with 554 */
    PHASE_TLS,     /* STARTTLS was accepted, TLS does not stand yet */
    PHASE_READY,
    PHASE_TRANSACTION,
    PHASE_BODY,   /* DATA was accepted */
    PHASE_CHUNKS, /* a first BDAT was accepted */
};

enum server_chunk {
    CHUNK_NONE,
    CHUNK_TAKE,
    CHUNK_REFUSED, /* read over, then s->refusal is said */
    CHUNK_LATE,    /* read over, then s->late, the driver's refusal, is said */
};

/* What a step leaves to next when it has nothing to tell. */
#define NO_EVENT SMTP_SERVER_WANT_INPUT

/* server.c */
void server_say_reply(struct buffer *out, const struct reply *reply);
void server_say(struct buffer *out, enum reply_id id);
void server_say_and_close(struct smtp_server *s, struct buffer *out, enum reply_id id);

/* Refuses something that a correct client does not send. Gives NO_EVENT. */
enum smtp_server_event server_fail(struct smtp_server *s, struct buffer *out, enum reply_id id);

/* RFC 2033 4.2: in LMTP the answer to a message is said once for each of its recipients; one has been said. */
void server_repeat(struct smtp_server *s, const struct reply *reply, uint32_t answers);

/* Ends the open transaction without the driver having asked for it. */
enum smtp_server_event server_drop(struct smtp_server *s, enum smtp_server_drop why);

/* The same because of the message; says the refusal. */
enum smtp_server_event server_drop_content(struct smtp_server *s, struct buffer *out, enum reply_id refusal);

/* What is wrong with the message so far, REPLY_OK if nothing. Once wrong it stays wrong, so whatever this says before
 * the end it also says, or another fault, at the end. */
enum reply_id server_judge(const struct smtp_server *s);

/* server_command.c */
enum smtp_server_event server_command_execute(struct smtp_server *s, enum syntax_verb verb, struct bytes argument,
                                              struct buffer *out);

/* Whether the verb, with this argument, begins the session anew: it ends an open transaction. */
bool server_command_is_helo(const struct smtp_server *s, enum syntax_verb verb, struct bytes argument);

/* server_ehlo.c */
uint32_t server_ehlo_offered(const struct smtp_server *s);
void server_ehlo_say(const struct smtp_server *s, struct buffer *out);

/* server_bdat.c: the command; the chunk's octets, and what follows them. */
enum smtp_server_event server_bdat_command(struct smtp_server *s, struct bytes argument, struct buffer *out);
enum smtp_server_event server_bdat_step(struct smtp_server *s, struct bytes *input, struct buffer *out);

/* server_auth.c */
struct bytes server_auth_mechanisms(const struct smtp_server *s);

/* Whether the line that stash and input begin with belongs to an exchange: it may be long, and is decoded in its block.
 */
bool server_auth_is_line(const struct smtp_server *s, struct bytes stash, struct bytes input);

/* The command, and a response; both lie in the line block. */
enum smtp_server_event server_auth_command(struct smtp_server *s, struct bytes argument, struct buffer *out);
enum smtp_server_event server_auth_response(struct smtp_server *s, struct bytes line, struct buffer *out);

/* Ends the exchange because of the client. */
enum smtp_server_event server_auth_cancel(struct smtp_server *s, struct buffer *out, enum reply_id id);

#endif
