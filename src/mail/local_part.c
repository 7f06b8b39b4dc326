#include "mail/local_part.h"

struct bytes local_part_fold(struct bytes local, char *room)
{
    size_t length = 0;
    bool quoted = local.length >= 2 && local.data[0] == '"' && local.data[local.length - 1] == '"';
    if (quoted) {
        local = bytes_slice(local, 1, local.length - 2);
    }
    for (size_t i = 0; i < local.length; i++) {
        if (quoted && local.data[i] == '\\' && i + 1 < local.length) {
            i++;
        }
        room[length++] = bytes_ascii_lower(local.data[i]);
    }
    return bytes_of(room, length);
}

struct bytes local_part_base(struct bytes folded, char separator)
{
    const char *found = separator != '\0' && folded.length > 1 ? memchr(folded.data + 1, separator, folded.length - 1)
                                                               : NULL;
    return found != NULL ? bytes_slice(folded, 0, (size_t)(found - folded.data)) : folded;
}
