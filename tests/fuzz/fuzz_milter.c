#include <stdlib.h>

#include "milter/milter.h"
#include "milter/milter_header.h"
#include "milter/milter_wire.h"

/* What a filter sends, after two octets: which step it answers, and how its octets are cut. However they are cut they
 * mean the same, spans lie inside the packet, and whatever is done to a header, it stays one: every octet belongs to a
 * field, no line is longer than allowed, ours is untouched. */

#define EXPECT(x)    \
    do {             \
        if (!(x)) {  \
            abort(); \
        }            \
    } while (0)

#define OWN "Received: ours\r\n"
#define LINE_BYTES 80

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct trace {
    unsigned packets;
    unsigned broken;
    uint64_t hash;
    size_t header_length;
};

static void note(struct trace *trace, uint64_t value)
{
    trace->hash = (trace->hash ^ value) * 0x100000001b3ull;
}

static bool inside(struct bytes part, struct bytes whole)
{
    return part.length == 0 || (part.data >= whole.data && part.data + part.length <= whole.data + whole.length);
}

static void check_header(const struct milter_header *header)
{
    struct bytes rest = buffer_bytes(&header->text);
    struct header_field field;
    size_t line = 0;
    EXPECT(memcmp(header->text.data + header->own_at, OWN, strlen(OWN)) == 0);
    for (size_t i = 0; i < rest.length; i++) {
        bool end = i > 0 && rest.data[i] == '\n' && rest.data[i - 1] == '\r';
        EXPECT(rest.data[i] != '\0' && (end || rest.data[i] != '\n'));
        EXPECT(i + 1 == rest.length || rest.data[i] != '\r' || rest.data[i + 1] == '\n');
        line = end ? 0 : line + 1;
        EXPECT(line < LINE_BYTES + 1); /* and a stuffed dot */
    }
    while (header_next(&rest, &field)) {
    }
    EXPECT(rest.length == 0);
}

static void edit(struct milter_header *header, const struct milter_reply *reply)
{
    switch (reply->edit) {
    case MILTER_ADD_HEADER: milter_header_add(header, reply->name, reply->value, true); break;
    case MILTER_INSERT_HEADER: milter_header_insert(header, reply->index, reply->name, reply->value, false); break;
    case MILTER_CHANGE_HEADER: milter_header_change(header, reply->index, reply->name, reply->value, true); break;
    default: return;
    }
    check_header(header);
}

static struct trace run(enum milter_step step, struct bytes input, size_t cut)
{
    struct trace trace = {.hash = 14695981039346656037ull};
    char *block = malloc(MILTER_REPLY_BYTES_MAX);
    char room[1024];
    struct milter milter = {.actions = MILTER_MAY_ALL, .version = MILTER_VERSION};
    struct milter_reader reader;
    struct milter_packet packet;
    struct milter_header header = {
        .text = buffer_of(room, sizeof room), .own_bytes = strlen(OWN), .line_bytes_max = LINE_BYTES};
    EXPECT(buffer_append_string(&header.text, OWN "From: a\r\nX: b\r\n c\r\n..Y: d\r\n"));
    milter_reader_init(&reader, block, MILTER_REPLY_BYTES_MAX);
    while (input.length != 0 && trace.broken == 0) {
        struct bytes piece = bytes_slice(input, 0, cut < input.length ? cut : input.length);
        enum milter_read read;
        bytes_advance(&input, piece.length);
        while (trace.broken == 0 && (read = milter_read(&reader, &piece, &packet)) != MILTER_READ_MORE) {
            struct milter_reply reply = {.code = 0};
            enum milter_meaning meaning = read == MILTER_READ_PACKET ? milter_take(&milter, step, &packet, &reply)
                                                                     : MILTER_BROKEN;
            trace.packets++;
            trace.broken += meaning == MILTER_BROKEN;
            note(&trace, meaning);
            if (meaning == MILTER_REFUSE) {
                EXPECT(reply.code >= 400 && reply.code <= 599 && reply.enhanced[0] == reply.code / 100);
                note(&trace, reply.code + reply.text.length);
            } else if (meaning == MILTER_EDIT) {
                EXPECT(step == MILTER_STEP_END && inside(reply.name, packet.data) && inside(reply.value, packet.data));
                note(&trace, reply.edit + reply.index + reply.name.length + reply.value.length);
                edit(&header, &reply);
            }
        }
    }
    trace.header_length = header.text.length;
    free(block);
    return trace;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    enum milter_step step = (enum milter_step)(MILTER_STEP_OPTIONS + data[0] % MILTER_STEP_END);
    struct bytes input = bytes_of(data + 2, size - 2);
    struct trace whole = run(step, input, SIZE_MAX);
    struct trace pieces = run(step, input, 1 + data[1]);
    struct trace octets = run(step, input, 1);
    EXPECT(whole.hash == pieces.hash && whole.packets == pieces.packets);
    EXPECT(whole.hash == octets.hash && whole.packets == octets.packets);
    EXPECT(whole.header_length == pieces.header_length && whole.header_length == octets.header_length);
    return 0;
}
