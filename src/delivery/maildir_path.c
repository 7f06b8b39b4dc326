#include "delivery/maildir_path.h"

#include "base/limits.h"
#include "base/utf8.h"
#include "mail/local_part.h"

#define NAME_BYTES_MAX 255 /* NAME_MAX of every file system that matters */

/* How many octets of a character beyond ASCII, that is no control, begin here; 0: none. */
static size_t utf8_octets(struct bytes text)
{
    uint32_t code = 0;
    size_t octets = (text.data[0] & 0x80) != 0 ? utf8_take(text, &code) : 0;
    return code > 0x9f ? octets : 0;
}

static bool plain(char c, bool first)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("_-+=@~,", c) != NULL) || (c == '.' && !first);
}

/* The local part as one name. Never empty, never ".", "..", and never one that another local part has. */
static bool append_user(struct buffer *out, struct bytes user)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t before = out->length;
    bool fits = user.length != 0 || buffer_append(out, BYTES("%"));
    for (size_t i = 0; fits && i < user.length;) {
        struct bytes rest = bytes_slice(user, i, user.length - i);
        size_t octets = plain(rest.data[0], i == 0) ? 1 : utf8_octets(rest);
        if (octets != 0) {
            fits = buffer_append(out, bytes_slice(rest, 0, octets));
        } else {
            unsigned char c = (unsigned char)rest.data[0];
            char escape[3] = {'%', digits[c >> 4], digits[c & 15]};
            fits = buffer_append(out, bytes_of(escape, sizeof escape));
            octets = 1;
        }
        i += octets;
    }
    return fits && out->length - before <= NAME_BYTES_MAX;
}

bool maildir_path_directory(const char *template, struct bytes domain, struct bytes local, char separator,
                            struct buffer *out)
{
    char room[LIMIT_PATH_BYTES];
    if (local.length > sizeof room) {
        return false;
    }
    struct bytes user = local_part_base(local_part_fold(local, room), separator);
    bool fits = true;
    for (const char *c = template; fits && *c != '\0'; c++) {
        if (*c != '%') {
            fits = buffer_append(out, bytes_of(c, 1));
        } else if (*++c == 'u') {
            fits = append_user(out, user);
        } else {
            CHECK(*c == 'd');
            fits = buffer_append(out, domain);
        }
    }
    while (fits && out->length > 1 && out->data[out->length - 1] == '/') {
        out->length--;
    }
    return fits && buffer_append(out, bytes_of("", 1));
}

bool maildir_path_name(uint64_t arrival_ms, uint64_t id, unsigned recipient, struct bytes host, struct buffer *out)
{
    size_t before = out->length;
    bool fits = buffer_append_format(out, "%llu.M%016llxR%u.", (unsigned long long)(arrival_ms / 1000),
                                     (unsigned long long)id, recipient);
    for (size_t i = 0; fits && i < host.length; i++) {
        char c = plain(host.data[i], false) ? host.data[i] : '_';
        fits = buffer_append(out, bytes_of(&c, 1));
    }
    return fits && out->length - before <= NAME_BYTES_MAX - 10 && buffer_append(out, bytes_of("", 1));
}
