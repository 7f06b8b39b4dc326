/* The event log, version 1: for programs that read it. docs/events.md has examples and how to follow the files.
 *
 * A file is lines of UTF-8, each one JSON object and a line feed. Every event of a kind has the same keys, in this
 * order: a text that is not known is "", a number 0. Later versions may add keys and kinds, so ignore what you do not
 * know; a change of what is here raises RINGPOST_EVENT_VERSION (version.h).
 *
 *   key            kinds            value
 *   event          all              one of the names below
 *   time           all              "2026-11-21T21:27:20.123Z", UTC
 *   shard          all              number of the thread, as in the file's name
 *   id             all              the message, 16 hexadecimal digits, unique for ever; "" before there is one
 *   listener       rec rej fil      name of the listener
 *   client         rec rej fil      address of the client, "192.0.2.1" or "2001:db8::1"; "" on a unix socket
 *   sender         all              envelope sender; "" is the null sender (or, in a rejection, none yet)
 *   recipients     rec fil          number of recipients
 *   bytes          rec fil          size of the message as it came
 *   durability     rec              "sync" or "relaxed"
 *   tls            rec del          "TLSv1.3" or "TLSv1.2"; in a delivery with the cipher suite and whether the
 *                                   certificate is that of the host: "TLSv1.3 TLS_AES_128_GCM_SHA256 verified" or
 *                                   "... unverified"; "" without TLS
 *   phase          rej              "proxy", "connect", "starttls", "auth", "mail", "rcpt", "data", "dot"
 *   recipient      rej del def bou exp rem   envelope recipient
 *   host           del def bou exp rem  who answered: "mx.example.com [192.0.2.7]"; "" when nobody did
 *   code           rej del def bou exp rem   SMTP reply code, 0 when there was no reply
 *   status         rej del def bou exp rem   enhanced status code "5.1.1", "" when there was none
 *   reply          rej del def bou exp rem   text of the reply, or our words for what happened; at most 512 octets
 *                  fil              the filter's reason, or ours
 *   attempts       del def bou exp rem  attempts so far, this one included
 *   queued_ms      del def bou exp rem  milliseconds since the message was accepted
 *   next_attempt   def              time, as `time`
 *   user           rec rej fil      who authenticated, "" when nobody did; in a rejection of "auth" who tried to
 *   priority       rec              MT-PRIORITY as it is in force, -9 to 9
 *   milter         fil              the mail filter, as in the configuration
 *   action         fil              "discard": 250 was said, and the message is not kept; "quarantine": it is held in
 *                                   the queue until it is released
 *   notice         bou exp          id of the delivery status notification that was queued, "" when none was
 *
 * One reception per accepted message, one rejection per refused sender, recipient or message; the others are one per
 * recipient. Each recipient of a reception ends in exactly one delivery, bounce, expiry or removal, except that a crash
 * may repeat the last lines, or lose those of the last seconds: the log follows the mail, it does not decide. A removal
 * of mail that does not verify has "" for what cannot be read any more.
 */
#ifndef RINGPOST_EVENT_H
#define RINGPOST_EVENT_H

#define RINGPOST_EVENT_RECEPTION "reception" /* accepted with 250 */
#define RINGPOST_EVENT_DELIVERY "delivery"   /* a remote host took the recipient over */
#define RINGPOST_EVENT_DEFERRAL "deferral"   /* an attempt failed for now */
#define RINGPOST_EVENT_BOUNCE "bounce"       /* failed for good */
#define RINGPOST_EVENT_EXPIRY "expiry"       /* waited longer than it may */
#define RINGPOST_EVENT_REJECTION "rejection" /* not accepted */
#define RINGPOST_EVENT_REMOVAL "removal"     /* taken out of the queue, or out of quarantine, by the operator */
#define RINGPOST_EVENT_FILTER "filter"       /* a mail filter had an accepted message held, or thrown away */

#endif
