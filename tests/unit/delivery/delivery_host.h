/* The rig's remote hosts: a thread each, and one per connection, that ask the test's script what to say. Included by
 * delivery_rig.h alone. */
#ifndef TEST_DELIVERY_HOST_H
#define TEST_DELIVERY_HOST_H

static bool talk_line(struct talk *talk, char *line, size_t capacity)
{
    for (;;) {
        const char *input = talk->input + talk->begin;
        size_t length = talk->end - talk->begin;
        const char *end = memchr(input, '\n', length);
        if (end != NULL) {
            length = (size_t)(end - input) + 1;
            snprintf(line, capacity, "%.*s", (int)strcspn(input, "\r\n"), input);
            talk->begin += length;
            return true;
        }
        memmove(talk->input, input, length);
        talk->begin = 0;
        talk->end = length;
        ssize_t n = recv(talk->fd, talk->input + length, sizeof talk->input - length, 0);
        if (n <= 0) {
            return false;
        }
        talk->end += (size_t)n;
    }
}

/* Waits for the peer to close. */
static void talk_wait(struct talk *talk)
{
    char bytes[4096];
    struct pollfd poller = {.fd = talk->fd, .events = POLLRDHUP};
    while (!talk->host->ending) {
        if (poll(&poller, 1, 20) > 0 && (poller.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0) {
            return;
        }
    }
    while (recv(talk->fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0) {
    }
}

/* Says what the script wants, or the usual. False: the connection ends. `ret_code` is the reply's first digit. */
static bool talk_say(struct talk *talk, enum talk_at at, const char *line, const char *usual, char *ret_code)
{
    host_script *script = talk->host->script;
    const char *reply = script != NULL ? script(talk, at, line) : NULL;
    reply = reply != NULL ? reply : usual;
    if (reply == NULL) {
        return true;
    }
    if (strcmp(reply, TALK_CLOSE) == 0) {
        return false;
    }
    if (strcmp(reply, TALK_STALL) == 0) {
        talk_wait(talk);
        return false;
    }
    bool last = reply[0] == '!';
    char text[600];
    int length = snprintf(text, sizeof text, "%s\r\n", reply + last);
    *ret_code = text[0];
    return loopback_write(talk->fd, text, (size_t)length) && !last;
}

static bool talk_body(struct talk *talk)
{
    char line[2048];
    char code = '2';
    talk->body_bytes = 0;
    talk->eight_bit = false;
    if (!talk_say(talk, AT_BODY, "", NULL, &code)) {
        return false;
    }
    do {
        if (!talk_line(talk, line, sizeof line)) {
            return false;
        }
        talk->body_bytes += strlen(line) + 2;
        for (const char *at = line; *at != '\0'; at++) {
            talk->eight_bit |= (*at & 0x80) != 0;
        }
    } while (strcmp(line, ".") != 0);
    talk->host->last_body_bytes = talk->body_bytes;
    code = '0';
    bool open = talk_say(talk, AT_DOT, line, "250 2.0.0 kept", &code);
    for (unsigned i = 0; code == '2' && i < talk->accepted_count; i++) {
        if (talk->accepted[i] == UINT32_MAX) {
            talk->host->notices++;
        } else {
            rig.accepted[talk->accepted[i]]++;
        }
    }
    return open;
}

static bool talk_command(struct talk *talk, const char *line)
{
    char code = '2';
    if (strncmp(line, "EHLO", 4) == 0) {
        return talk_say(talk, AT_EHLO, line, "250-host\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 60000000", &code);
    }
    if (strncmp(line, "MAIL", 4) == 0) {
        talk->transactions++;
        talk->host->mails++;
        talk->recipients = 0;
        talk->accepted_count = 0;
        return talk_say(talk, AT_MAIL, line, "250 2.1.0 ok", &code);
    }
    if (strncmp(line, "RCPT", 4) == 0) {
        unsigned number = UINT32_MAX;
        talk->recipients++;
        bool open = talk_say(talk, AT_RCPT, line, "250 2.1.5 ok", &code);
        if (code == '2') {
            sscanf(line, "RCPT TO:<n%u@", &number);
            talk->accepted[talk->accepted_count++] = number;
        }
        return open;
    }
    if (strcmp(line, "DATA") == 0) {
        code = '3';
        const char *usual = talk->accepted_count != 0 ? "354 go" : "554 5.5.1 no recipients";
        code = usual[0];
        return talk_say(talk, AT_DATA, line, usual, &code) && (code != '3' || talk_body(talk));
    }
    if (strcmp(line, "RSET") == 0) {
        return talk_say(talk, AT_RSET, line, "250 2.0.0 ok", &code);
    }
    talk->host->quits++;
    talk_say(talk, AT_QUIT, line, "221 2.0.0 bye", &code);
    return false;
}

static void *talk_main(void *argument)
{
    struct talk *talk = argument;
    char line[2048];
    char code;
    bool open = talk_say(talk, AT_GREETING, "", "220 host ESMTP", &code);
    while (open && talk_line(talk, line, sizeof line)) {
        open = talk_command(talk, line);
    }
    shutdown(talk->fd, SHUT_WR);
    close(talk->fd);
    talk->host->open--;
    free(talk);
    return NULL;
}

static void *host_main(void *argument)
{
    struct host *host = argument;
    for (;;) {
        int fd = accept4(host->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0 || host->ending) {
            if (fd >= 0) {
                close(fd);
            }
            return NULL;
        }
        struct talk *talk = calloc(1, sizeof *talk);
        talk->host = host;
        talk->fd = fd;
        talk->number = ++host->connections;
        unsigned open = ++host->open;
        host->open_most = open > host->open_most ? open : host->open_most;
        assert_true(host->talker_count < RIG_CONNECTIONS);
        pthread_create(&host->talkers[host->talker_count], NULL, talk_main, talk);
        host->talker_count++;
    }
}

/* A host at 127.0.0.(2 + its number), all on one port. */
static struct host *host_new(host_script *script)
{
    struct host *host = &rig.hosts[rig.host_count];
    memset(host, 0, sizeof *host);
    host->script = script;
    host->address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = rig.port};
    host->address.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + rig.host_count);
    host->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;
    setsockopt(host->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    socklen_t length = sizeof host->address;
    assert_int_equal(bind(host->listener, (struct sockaddr *)&host->address, length), 0);
    assert_int_equal(getsockname(host->listener, (struct sockaddr *)&host->address, &length), 0);
    assert_int_equal(listen(host->listener, 1024), 0);
    rig.port = host->address.sin_port;
    rig.host_count++;
    pthread_create(&host->thread, NULL, host_main, host);
    return host;
}

static void host_delete(struct host *host)
{
    host->ending = true;
    shutdown(host->listener, SHUT_RDWR);
    pthread_join(host->thread, NULL);
    for (unsigned i = 0; i < host->talker_count; i++) {
        pthread_join(host->talkers[i], NULL);
    }
    close(host->listener);
}

#endif
