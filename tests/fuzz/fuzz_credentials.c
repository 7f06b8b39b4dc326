#include <stdlib.h>

#include "base/utf8.h"
#include "sasl/credentials.h"

/* A password file: whatever is taken is within the limits, found under its name, and written again as it was read;
 * whatever is not has a reason of one printable line. */

#define EXPECT(x)    \
    do {             \
        if (!(x)) {  \
            abort(); \
        }            \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned reports;

static void report(void *context, const char *line)
{
    (void)context;
    reports++;
    EXPECT(strncmp(line, "F:", 2) == 0 && strstr(line, ", expected ") != NULL && strchr(line, '\n') == NULL);
}

static void check(const struct credentials *credentials, const struct credentials_account *account)
{
    char room[CREDENTIALS_VERIFIER_TEXT_BYTES];
    struct buffer out = buffer_of(room, sizeof room);
    EXPECT(account->name.length >= 1 && account->name.length <= CREDENTIALS_NAME_BYTES_MAX);
    EXPECT(utf8_printable(account->name) && credentials_find(credentials, account->name) == account);
    EXPECT(account->tenant.length <= CREDENTIALS_TENANT_BYTES_MAX && account->senders_count <= CREDENTIALS_SENDERS_MAX);
    EXPECT(account->verifier.iterations == 0 || credentials_append_verifier(&out, &account->verifier));
    for (uint32_t i = 0; i < account->senders_count; i++) {
        struct bytes sender = credentials_sender(credentials, account, i);
        EXPECT(sender.length >= 1);
        EXPECT(sender.data[0] == '@' || credentials_may_send(credentials, account, sender) || sender.length == 1);
    }
    EXPECT(credentials_may_send(credentials, account, BYTES("")));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    reports = 0;
    struct credentials *credentials = credentials_parse(bytes_of(data, size), "F", report, NULL);
    EXPECT((credentials != NULL) == (reports == 0) && reports <= CREDENTIALS_ERRORS_MAX);
    if (credentials != NULL) {
        for (uint32_t i = 0; i < credentials_count(credentials); i++) {
            check(credentials, credentials_at(credentials, i));
        }
        credentials_give(credentials);
    }
    return 0;
}
