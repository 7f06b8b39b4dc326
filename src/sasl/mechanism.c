#include "sasl/mechanism.h"

static const char *const names[MECHANISMS] = {
    [MECHANISM_SCRAM_SHA_256_PLUS] = "SCRAM-SHA-256-PLUS",
    [MECHANISM_SCRAM_SHA_256] = "SCRAM-SHA-256",
    [MECHANISM_OAUTHBEARER] = "OAUTHBEARER",
    [MECHANISM_XOAUTH2] = "XOAUTH2",
    [MECHANISM_PLAIN] = "PLAIN",
    [MECHANISM_LOGIN] = "LOGIN",
    [MECHANISM_EXTERNAL] = "EXTERNAL",
};

const char *mechanism_name(enum mechanism mechanism)
{
    CHECK(mechanism < MECHANISMS);
    return names[mechanism];
}

enum mechanism mechanism_find(struct bytes name)
{
    enum mechanism found = 0;
    while (found < MECHANISMS && !bytes_equal_nocase(name, bytes_of_string(names[found]))) {
        found++;
    }
    return found;
}

bool mechanism_append_list(struct buffer *out, unsigned mechanisms)
{
    size_t before = out->length;
    for (enum mechanism mechanism = 0; mechanism < MECHANISMS; mechanism++) {
        if ((mechanisms & MECHANISM_BIT(mechanism)) == 0) {
            continue;
        }
        if ((out->length != before && !buffer_append_string(out, " ")) ||
            !buffer_append_string(out, names[mechanism])) {
            out->length = before;
            return false;
        }
    }
    return true;
}
