#include "delivery/maildir_path.h"

#include "base/limits.h"
#include "mail/local_part.h"

#define NAME_BYTES_MAX 255 /* NAME_MAX of every file system that matters */

/* How many octets of well-formed UTF-8 begin here (RFC 3629); 0: none. */
static size_t utf8_octets(struct bytes text)
{
    const unsigned char *c = (const unsigned char *)text.data;
    size_t length = c[0] >= 0xc2 && c[0] <= 0xdf ? 2 : (c[0] & 0xf0) == 0xe0 ? 3 : c[0] >= 0xf0 && c[0] <= 0xf4 ? 4 : 0;
    if (length == 0 || length > text.length) {
        return 0;
    }
    for (size_t i = 1; i < length; i++) {
        if ((c[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    bool low = (c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xf0 && c[1] < 0x90);
    bool high = (c[0] == 0xed && c[1] > 0x9f) || (c[0] == 0xf4 && c[1] > 0x8f);
    bool control = c[0] == 0xc2 && c[1] < 0xa0; /* C1 */
    return low || high || control ? 0 : length;
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
