#include <stdlib.h>

#include "base/limits.h"
#include "smtp/orcpt.h"
#include "smtp/syntax.h"
#include "smtp/xtext.h"

/* Arguments of MAIL and RCPT under every extension. Whatever is taken is within its limits and can be written into a
 * header field and a log line as it is decoded. */

#define EXPECT(x)    \
    do {             \
        if (!(x)) {  \
            abort(); \
        }            \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_mail(const struct params_mail *p, const struct params_rules *rules)
{
    EXPECT((p->given & ~rules->offered) == 0);
    EXPECT(p->body != PARAMS_BODY_BINARYMIME || (rules->offered & PARAMS_OFFERED_BINARY));
    EXPECT(p->envid.length <= 100 && xtext_printable(p->envid, false));
    EXPECT(p->auth.length <= 500 && xtext_printable(p->auth, true));
    EXPECT((p->envid.length != 0) == ((p->given & PARAMS_GIVEN_ENVID) != 0));
    EXPECT((p->given & PARAMS_GIVEN_RET) == 0 || p->ret == 'F' || p->ret == 'H');
    EXPECT(p->priority >= -9 && p->priority <= 9);
    EXPECT(p->hold_for_s <= rules->hold_s_max && p->hold_until_s <= rules->now_s + rules->hold_s_max);
    EXPECT((p->given & (PARAMS_GIVEN_HOLD_FOR | PARAMS_GIVEN_HOLD_UNTIL)) !=
           (PARAMS_GIVEN_HOLD_FOR | PARAMS_GIVEN_HOLD_UNTIL));
    EXPECT(p->by_s >= -999999999 && p->by_s <= 999999999);
    EXPECT((p->given & PARAMS_GIVEN_BY) == 0 || p->by_mode == 'N' ||
           (p->by_mode == 'R' && p->by_s > 0 && (uint32_t)p->by_s >= rules->deliver_by_min));
}

static void check_rcpt(const struct params_rcpt *p, const struct params_rules *rules)
{
    EXPECT((p->given & ~rules->offered) == 0 && p->orcpt.length <= ORCPT_BYTES_MAX);
    EXPECT((p->given & PARAMS_GIVEN_ORCPT) == 0 || orcpt_valid(p->orcpt, rules->utf8));
    EXPECT((p->notify != 0) == ((p->given & PARAMS_GIVEN_NOTIFY) != 0));
    EXPECT(p->notify <= 14 && (p->notify == PARAMS_NOTIFY_NEVER || (p->notify & PARAMS_NOTIFY_NEVER) == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    struct params_rules rules = {.offered = data[0] == 0 ? UINT32_MAX : (uint32_t)data[0] * 0x01010101u,
                                 .hold_s_max = 1000,
                                 .now_s = 1795305600,
                                 .deliver_by_min = data[1] & 1 ? 60 : 0,
                                 .utf8 = (data[1] & 2) != 0};
    struct bytes text = bytes_of(data + 2, size - 2);
    struct params_mail mail;
    struct params_rcpt rcpt;
    struct address path;
    if (params_parse_mail(text, &rules, &mail) == PARAMS_OK) {
        check_mail(&mail, &rules);
    }
    if (params_parse_rcpt(text, &rules, &rcpt) == PARAMS_OK) {
        check_rcpt(&rcpt, &rules);
    }
    if (syntax_mail(text, &rules, &path, &mail) == REPLY_OK) {
        check_mail(&mail, &rules);
        EXPECT(!path.utf8 || (rules.utf8 && (mail.given & PARAMS_GIVEN_SMTPUTF8)));
        EXPECT(path.mailbox.length <= LIMIT_PATH_BYTES);
    }
    if (syntax_rcpt(text, &rules, &path, &rcpt) == REPLY_OK) {
        check_rcpt(&rcpt, &rules);
        EXPECT(!path.utf8 || rules.utf8);
    }
    return 0;
}
