/* The control interface on real sockets, with a made-up program behind it. */
#include "app/control.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <jansson.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "app/control_client.h"
#include "app/control_queue.h"
#include "app/control_request.h"
#include "core/clock.h"

/* --- the program behind it ---------------------------------------------------------------------------------------- */

struct fake {
    unsigned destinations;
    const char *const *names; /* of the first ones, names_count */
    unsigned names_count;
    unsigned recipients;
    bool sick;
    /* what was asked last */
    unsigned actions;
    enum control_action action;
    char asked[600];
    size_t limit;
};

static struct fake fake;

static void remember(const struct control_match *match)
{
    snprintf(fake.asked, sizeof fake.asked, "id=%llx domain=%s sender=%s all=%d", (unsigned long long)match->id,
             match->domain != NULL ? match->domain : "-", match->sender != NULL ? match->sender : "-", match->all);
}

static size_t fake_summary(void *context, struct control_destination **ret_destinations)
{
    (void)context;
    uint64_t now_ms = clock_wall_ms();
    *ret_destinations = calloc(fake.destinations + 1, sizeof **ret_destinations);
    for (unsigned i = 0; i < fake.destinations; i++) {
        struct control_destination *destination = &(*ret_destinations)[i];
        if (i < fake.names_count) {
            destination->domain = strdup(fake.names[i]);
        } else {
            assert_true(asprintf(&destination->domain, "d%u.example", i) > 0);
        }
        destination->ready = i;
        destination->deferred = 1;
        destination->oldest_ms = now_ms - 90000;
        destination->next_attempt_ms = now_ms + 30000;
        destination->last_error = i == 0 ? strdup("421 4.7.0 \"later\"\r\n\xff") : NULL;
    }
    return fake.destinations;
}

static struct control_recipients fake_list(void *context, const struct control_match *match, size_t limit)
{
    (void)context;
    remember(match);
    fake.limit = limit;
    struct control_recipients found = {.items = calloc(fake.recipients + 1, sizeof(struct control_recipient))};
    for (unsigned i = 0; i < fake.recipients; i++) {
        found.items[i] = (struct control_recipient){.id = 0xabc,
                                                    .sender = strdup("a@example.com"),
                                                    .recipient = strdup("b@d0.example"),
                                                    .message_bytes = 4096,
                                                    .arrival_ms = clock_wall_ms() - 5000,
                                                    .state = CONTROL_DEFERRED,
                                                    .attempts = 2,
                                                    .last_error = strdup("450 4.2.1 busy")};
    }
    found.count = fake.recipients;
    return found;
}

static uint64_t fake_action(void *context, enum control_action action, const struct control_match *match)
{
    (void)context;
    remember(match);
    fake.actions++;
    fake.action = action;
    return 7;
}

static bool fake_healthy(void *context, unsigned timeout_ms, char *reason, size_t reason_size)
{
    (void)context;
    assert_int_equal(timeout_ms, 2000);
    snprintf(reason, reason_size, "shard 1 does not answer");
    return !fake.sick;
}

static bool fake_ready(void *context, char *reason, size_t reason_size)
{
    (void)context;
    snprintf(reason, reason_size, "stopping");
    return !fake.sick;
}

static char *fake_metrics(void *context, size_t *ret_length)
{
    (void)context;
    char *text = strdup("# HELP ringpost_x x\n# TYPE ringpost_x counter\nringpost_x 1\n");
    *ret_length = strlen(text);
    return text;
}

static const struct control_ops ops = {
    .queue_summary = fake_summary,
    .message_list = fake_list,
    .queue_action = fake_action,
    .healthy = fake_healthy,
    .ready = fake_ready,
    .metrics = fake_metrics,
};

/* --- requests without a socket ------------------------------------------------------------------------------------ */

static struct control_reply post(const char *path, struct bytes body)
{
    struct control_request request = {.method = "POST", .path = path, .body = body};
    return control_request_answer(&request, &ops, true);
}

static struct control_reply get(const char *path, const char *name, struct bytes value)
{
    struct control_request request = {.method = "GET", .path = path};
    if (name != NULL) {
        request.arguments[0].name = name;
        request.arguments[0].value = value;
        request.arguments_count = 1;
    }
    return control_request_answer(&request, &ops, true);
}

static json_t *json_of(struct control_reply reply, unsigned status)
{
    assert_int_equal(reply.status, status);
    json_t *json = json_loadb(reply.body, reply.length, 0, NULL);
    assert_non_null(json);
    free(reply.body);
    return json;
}

static void assert_refused(struct control_reply reply, unsigned status, const char *error)
{
    json_t *json = json_of(reply, status);
    const char *text = json_string_value(json_object_get(json, "error"));
    if (text == NULL || strstr(text, error) == NULL) {
        fail_msg("\"%s\" instead of \"%s\"", text, error);
    }
    json_decref(json);
}

static void test_actions(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        enum control_action action;
        struct bytes body;
        const char *asked;
    } cases[] = {
        {"/queue/hold", CONTROL_HOLD, BYTES("{\"domain\":\"example.com\"}"), "id=0 domain=example.com sender=- all=0"},
        {"/queue/release", CONTROL_RELEASE, BYTES("{\"domain\":\"[192.0.2.1]\"}"),
         "id=0 domain=[192.0.2.1] sender=- all=0"},
        {"/queue/retry", CONTROL_RETRY, BYTES(" {\"id\" : \"0123456789abcdeF\"} "),
         "id=123456789abcdef domain=- sender=- all=0"},
        {"/queue/delete", CONTROL_DELETE, BYTES("{\"sender\":\"\"}"), "id=0 domain=- sender= all=0"},
        {"/queue/bounce", CONTROL_BOUNCE, BYTES("{\"all\":true}"), "id=0 domain=- sender=- all=1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *json = json_of(post(cases[i].path, cases[i].body), 200);
        assert_int_equal(json_integer_value(json_object_get(json, "matched")), 7);
        assert_int_equal(fake.action, cases[i].action);
        assert_string_equal(fake.asked, cases[i].asked);
        json_decref(json);
    }
}

static void test_bodies_that_are_refused(void **state)
{
    (void)state;
    static const struct {
        struct bytes body;
        const char *error;
    } cases[] = {
        {BYTES(""), "must be an object"},
        {BYTES("[]"), "must be an object"},
        {BYTES("{\"all\":true"), "must be an object"},
        {BYTES("{\"all\":true} x"), "must be an object"},
        {BYTES("{\"all\":true,\"all\":true}"), "must be an object"},
        {BYTES("{\"sender\":\"a\\u0000b\"}"), "must be an object"},
        {BYTES("{\"sender\":\"a\xff\"}"), "must be an object"},
        {BYTES("{\"sender\":\"a\nb\"}"), "must be an object"},
        {BYTES("{}"), "exactly one of"},
        {BYTES("{\"domain\":\"a.example\",\"sender\":\"\"}"), "exactly one of"},
        {BYTES("{\"all\":false}"), "\"all\" must be true"},
        {BYTES("{\"all\":1}"), "\"all\" must be true"},
        {BYTES("{\"domain\":1}"), "\"domain\" must be a string"},
        {BYTES("{\"id\":12}"), "\"id\" must be a string"},
        {BYTES("{\"id\":\"12\"}"), "\"id\" is not 16 hexadecimal digits"},
        {BYTES("{\"id\":\"0000000000000000\"}"), "\"id\" is not 16 hexadecimal digits"},
        {BYTES("{\"id\":\"0123456789abcdeg\"}"), "\"id\" is not 16 hexadecimal digits"},
        {BYTES("{\"domain\":\"\"}"), "\"domain\" is not a domain name"},
        {BYTES("{\"domain\":\"a b\"}"), "\"domain\" is not a domain name"},
        {BYTES("{\"domain\":\"*\"}"), "\"domain\" is not a domain name"},
        {BYTES("{\"sender\":\"a\\r\\nb\"}"), "\"sender\" has a control character"},
        {BYTES("{\"sender\":\"a\\u007f\"}"), "\"sender\" has a control character"},
        {BYTES("{\"sender\":\"a\\u0085\"}"), "\"sender\" has a control character"},
        {BYTES("{\"sender\":\"a\\u2028\"}"), "\"sender\" has a control character"},
        {BYTES("{\"recipient\":\"a@b\"}"), "\"recipient\" is not known"},
        {BYTES("{\"all\":true,\"dry_run\":true}"), "\"dry_run\" must be a string"},
        {BYTES("{\"a\\nb\":\"\"}"), "\"?\" "},
    };
    unsigned actions = fake.actions;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_refused(post("/queue/delete", cases[i].body), 400, cases[i].error);
    }
    char body[400];
    snprintf(body, sizeof body, "{\"sender\":\"%0350d\"}", 0);
    assert_refused(post("/queue/delete", bytes_of_string(body)), 400, "\"sender\" is too long");
    assert_int_equal(fake.actions, actions);
}

static void test_pages_and_methods(void **state)
{
    (void)state;
    struct control_request request = {.method = "POST", .path = "/queue"};
    assert_refused(control_request_answer(&request, &ops, true), 405, "must be GET");
    request = (struct control_request){.method = "GET", .path = "/queue/hold"};
    struct control_reply reply = control_request_answer(&request, &ops, true);
    assert_string_equal(reply.allow, "POST");
    assert_refused(reply, 405, "must be POST");
    assert_refused(get("/", NULL, BYTES("")), 404, "no such page");
    assert_refused(get("/queue/explode", NULL, BYTES("")), 404, "no such page");
    assert_refused(get("/metrics", "x", BYTES("1")), 400, "takes no arguments");
    assert_refused(get("/queue", "domain", BYTES("a.example")), 400, "is not known");
    assert_refused(get("/queue", "limit", BYTES("0")), 400, "is not 1 to 100000");
    assert_refused(get("/queue/messages", "limit", BYTES("1000000")), 400, "is not 1 to 100000");
    assert_refused(get("/queue/messages", "sender", BYTES("a\rb")), 400, "control character");
    assert_refused(get("/queue/messages", "colour", BYTES("red")), 400, "is not known");
    assert_refused(get("/queue/messages/12", NULL, BYTES("")), 400, "16 hexadecimal digits");
}

static void test_summary(void **state)
{
    (void)state;
    fake.destinations = 1200;
    json_t *json = json_of(get("/queue", NULL, BYTES("")), 200);
    json_t *list = json_object_get(json, "destinations");
    assert_int_equal(json_array_size(list), 1000);
    assert_true(json_is_true(json_object_get(json, "more")));
    assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "domain")), "d1199.example");
    assert_int_equal(json_integer_value(json_object_get(json_object_get(json, "total"), "destinations")), 1200);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(json, "total"), "deferred")), 1200);
    json_decref(json);
    fake.destinations = 1;
    json = json_of(get("/queue", "limit", BYTES("5")), 200);
    json_t *only = json_array_get(json_object_get(json, "destinations"), 0);
    assert_int_equal(json_integer_value(json_object_get(only, "oldest_age_seconds")), 90);
    assert_int_equal(json_integer_value(json_object_get(only, "next_attempt_in_seconds")), 30);
    assert_string_equal(json_string_value(json_object_get(only, "last_error")), "421 4.7.0 \"later\"\r\n?");
    json_decref(json);
}

static void test_messages(void **state)
{
    (void)state;
    fake.recipients = 2;
    json_t *json = json_of(get("/queue/messages/0000000000000ABC", NULL, BYTES("")), 200);
    assert_string_equal(fake.asked, "id=abc domain=- sender=- all=0");
    json_t *first = json_array_get(json_object_get(json, "recipients"), 0);
    assert_string_equal(json_string_value(json_object_get(first, "id")), "0000000000000abc");
    assert_string_equal(json_string_value(json_object_get(first, "state")), "deferred");
    assert_int_equal(json_integer_value(json_object_get(first, "age_seconds")), 5);
    assert_true(json_is_null(json_object_get(first, "next_attempt_in_seconds")));
    json_decref(json);
    json_decref(json_of(get("/queue/messages", NULL, BYTES("")), 200));
    assert_string_equal(fake.asked, "id=0 domain=- sender=- all=1");
    assert_int_equal(fake.limit, CONTROL_QUEUE_LIMIT_DEFAULT);
    json_decref(json_of(get("/queue/messages", "sender", BYTES("")), 200));
    assert_string_equal(fake.asked, "id=0 domain=- sender= all=0");
    fake.recipients = 0;
    assert_refused(get("/queue/messages/0000000000000abc", NULL, BYTES("")), 404, "no such message");
}

static void test_probes(void **state)
{
    (void)state;
    for (unsigned sick = 0; sick < 2; sick++) {
        fake.sick = sick;
        struct control_reply reply = get("/healthz", NULL, BYTES(""));
        assert_int_equal(reply.status, sick ? 503 : 200);
        assert_string_equal(reply.body, sick ? "shard 1 does not answer\n" : "ok\n");
        free(reply.body);
        reply = get("/readyz", NULL, BYTES(""));
        assert_int_equal(reply.status, sick ? 503 : 200);
        assert_string_equal(reply.body, sick ? "stopping\n" : "ok\n");
        free(reply.body);
        json_decref(json_of(get("/queue", NULL, BYTES("")), sick ? 503 : 200)); /* half a queue is no answer */
        json_decref(json_of(get("/queue/messages", NULL, BYTES("")), sick ? 503 : 200));
    }
    fake.sick = false;
}

static void test_metrics_are_bounded(void **state)
{
    (void)state;
    for (unsigned destinations = 0; destinations <= 1000; destinations += 500) {
        fake.destinations = destinations;
        struct control_reply reply = get("/metrics", NULL, BYTES(""));
        assert_int_equal(reply.status, 200);
        assert_non_null(strstr(reply.body, "ringpost_x 1\n"));
        unsigned series = 0;
        for (const char *at = reply.body; (at = strstr(at, "\nringpost_destination_recipients{")) != NULL; at++) {
            series++;
        }
        assert_int_equal(series, 4 * (destinations != 0 ? 21 : 1));
        char total[64];
        snprintf(total, sizeof total, "{destination=\"other\",state=\"deferred\"} %u\n",
                 destinations != 0 ? destinations - 20 : 0);
        assert_non_null(strstr(reply.body, total));
        free(reply.body);
    }
}

/* Names that strangers chose are told apart, and none is taken for what is ours. */
static void test_metrics_of_strange_names(void **state)
{
    static const char *const names[] = {"other", "\xc3\xa4.test", "\xc3\xb6.test", "x\"\\\n\xff.test"};
    static const char *const labels[] = {"other.", "\xc3\xa4.test", "\xc3\xb6.test", "x\\\"\\\\??.test", "other"};
    (void)state;
    fake.names = names;
    fake.destinations = fake.names_count = 4;
    struct control_reply reply = get("/metrics", NULL, BYTES(""));
    for (size_t i = 0; i < sizeof labels / sizeof *labels; i++) {
        char series[80];
        snprintf(series, sizeof series, "\nringpost_destination_recipients{destination=\"%s\",state=\"held\"} ",
                 labels[i]);
        const char *found = strstr(reply.body, series);
        assert_non_null(found);
        assert_null(strstr(found + 1, series));
    }
    free(reply.body);
    fake.destinations = fake.names_count = 0;
}

static void test_destinations_of_several_shards(void **state)
{
    struct control_destination *all = calloc(5, sizeof *all);
    (void)state;
    all[0] = (struct control_destination){
        .domain = strdup("b.test"), .ready = 1, .oldest_ms = 50, .next_attempt_ms = 9};
    all[1] = (struct control_destination){.domain = NULL, .held = 1};
    all[2] = (struct control_destination){.domain = strdup("a.test"), .active = 3, .last_error = strdup("one")};
    all[3] = (struct control_destination){.domain = strdup("b.test"),
                                          .ready = 2,
                                          .active = 1,
                                          .deferred = 4,
                                          .held = 5,
                                          .oldest_ms = 40,
                                          .next_attempt_ms = 0,
                                          .last_error = strdup("two")};
    all[4] = (struct control_destination){.domain = strdup("a.test"), .active = 1, .last_error = strdup("three")};
    assert_int_equal(control_ops_merge_destinations(all, 5), 3);
    assert_null(all[0].domain);
    assert_string_equal(all[1].domain, "a.test");
    assert_int_equal(all[1].active, 4);
    assert_non_null(all[1].last_error);
    assert_string_equal(all[2].domain, "b.test");
    assert_int_equal(all[2].ready, 3);
    assert_int_equal(all[2].active, 1);
    assert_int_equal(all[2].deferred, 4);
    assert_int_equal(all[2].held, 5);
    assert_int_equal(all[2].oldest_ms, 40);
    assert_int_equal(all[2].next_attempt_ms, 9);
    assert_string_equal(all[2].last_error, "two");
    control_ops_free_destinations(all, 3);
    assert_int_equal(control_ops_merge_destinations(NULL, 0), 0);
}

/* --- sockets ------------------------------------------------------------------------------------------------------ */

static char socket_path[64];

static struct control *start(struct config_endpoint listen)
{
    struct control *control = NULL;
    char reason[256] = "";
    struct control_settings settings = {.socket = socket_path, .listen = listen};
    if (control_new(&settings, &ops, &control, reason, sizeof reason) != 0) {
        fail_msg("%s", reason);
    }
    return control;
}

static unsigned ask(const char *method, const char *target, struct bytes body, char *ret_body, size_t size)
{
    struct control_client_reply reply;
    char reason[256] = "";
    if (control_client_request(socket_path, method, target, body, &reply, reason, sizeof reason) != 0) {
        fail_msg("%s", reason);
    }
    snprintf(ret_body, size, "%s", reply.body);
    free(reply.body);
    return reply.status;
}

static void test_requests_over_the_socket(void **state)
{
    (void)state;
    char body[256];
    static char long_body[CONTROL_REQUEST_BODY_BYTES_MAX + 2];
    struct control *control = start((struct config_endpoint){.length = 0});
    struct stat status;
    assert_int_equal(stat(socket_path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0660);
    assert_int_equal(ask("GET", "/healthz", BYTES(""), body, sizeof body), 200);
    assert_string_equal(body, "ok\n");
    assert_int_equal(ask("POST", "/queue/hold", BYTES("{\"domain\":\"a.example\"}"), body, sizeof body), 200);
    assert_string_equal(fake.asked, "id=0 domain=a.example sender=- all=0");
    fake.recipients = 1;
    assert_int_equal(ask("GET", "/queue/messages?sender=a%2Bb@example.com&limit=3", BYTES(""), body, sizeof body), 200);
    assert_string_equal(fake.asked, "id=0 domain=- sender=a+b@example.com all=0");
    assert_int_equal(fake.limit, 3);
    assert_int_equal(ask("GET", "/queue/messages?sender=a%0d%0ab", BYTES(""), body, sizeof body), 400);
    assert_int_equal(ask("GET", "/queue/messages?sender=a%00b", BYTES(""), body, sizeof body), 400);
    assert_int_equal(ask("GET", "/queue/messages?sender", BYTES(""), body, sizeof body), 400);
    assert_int_equal(ask("GET", "/queue/messages?sender=a&domain=b", BYTES(""), body, sizeof body), 400);
    assert_int_equal(ask("DELETE", "/queue", BYTES(""), body, sizeof body), 405);
    memset(long_body, ' ', sizeof long_body);
    memcpy(long_body, "{\"all\":true}", 12);
    unsigned actions = fake.actions;
    assert_int_equal(ask("POST", "/queue/delete", bytes_of(long_body, sizeof long_body - 1), body, sizeof body), 413);
    assert_int_equal(fake.actions, actions);
    assert_int_equal(ask("POST", "/queue/delete", bytes_of(long_body, sizeof long_body - 2), body, sizeof body), 200);
    assert_int_equal(fake.actions, actions + 1);
    control_delete(control);
    assert_int_equal(access(socket_path, F_OK), -1);
}

static void test_a_large_answer_comes_whole(void **state)
{
    (void)state;
    struct control_client_reply reply;
    char reason[256];
    struct control *control = start((struct config_endpoint){.length = 0});
    fake.recipients = 20000;
    assert_int_equal(
        control_client_request(socket_path, "GET", "/queue/messages", BYTES(""), &reply, reason, sizeof reason), 0);
    json_t *json = json_loadb(reply.body, reply.length, 0, NULL);
    assert_int_equal(json_array_size(json_object_get(json, "recipients")), 20000);
    json_decref(json);
    free(reply.body);
    fake.recipients = 0;
    control_delete(control);
}

static void test_socket_of_a_dead_server_is_replaced_that_of_a_living_one_not(void **state)
{
    (void)state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct control *second = NULL;
    char reason[256] = "";
    snprintf(address.sun_path, sizeof address.sun_path, "%s", socket_path);
    int dead = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(dead, (struct sockaddr *)&address, sizeof address), 0);
    close(dead);
    struct control *control = start((struct config_endpoint){.length = 0});
    struct control_settings settings = {.socket = socket_path};
    assert_int_equal(control_new(&settings, &ops, &second, reason, sizeof reason), -EADDRINUSE);
    assert_non_null(strstr(reason, socket_path));
    assert_int_equal(access(socket_path, F_OK), 0);
    control_delete(control);
    FILE *file = fopen(socket_path, "w");
    fclose(file);
    assert_int_equal(control_new(&settings, &ops, &second, reason, sizeof reason), -EEXIST);
    assert_int_equal(access(socket_path, F_OK), 0);
    unlink(socket_path);
}

static void test_client_without_a_server(void **state)
{
    (void)state;
    struct control_client_reply reply;
    char reason[256] = "";
    assert_int_equal(control_client_request("/no/such.sock", "GET", "/queue", BYTES(""), &reply, reason, sizeof reason),
                     -ENOENT);
    assert_non_null(strstr(reason, "/no/such.sock: No such file or directory"));
}

/* A free loopback port, of a socket that was bound and closed. */
static struct config_endpoint free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct config_endpoint endpoint = {.length = sizeof address};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&endpoint.address, &endpoint.length), 0);
    close(fd);
    return endpoint;
}

static unsigned ask_port(const struct config_endpoint *endpoint, const char *request)
{
    char text[512] = "";
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&endpoint->address, endpoint->length), 0);
    assert_int_equal(send(fd, request, strlen(request), 0), (ssize_t)strlen(request));
    assert_true(recv(fd, text, sizeof text - 1, 0) > 12);
    close(fd);
    return (unsigned)strtoul(text + 9, NULL, 10);
}

static void test_the_port_reveals_and_changes_nothing(void **state)
{
    (void)state;
    struct config_endpoint endpoint = free_port();
    struct control *control = start(endpoint);
    unsigned actions = fake.actions;
    assert_int_equal(ask_port(&endpoint, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"), 200);
    assert_int_equal(ask_port(&endpoint, "GET /healthz HTTP/1.0\r\n\r\n"), 200);
    assert_int_equal(ask_port(&endpoint, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"), 200);
    assert_int_equal(ask_port(&endpoint, "GET /queue HTTP/1.1\r\nHost: x\r\n\r\n"), 404);
    assert_int_equal(ask_port(&endpoint, "GET /queue/messages HTTP/1.1\r\nHost: x\r\n\r\n"), 404);
    assert_int_equal(ask_port(&endpoint, "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"), 405);
    assert_int_equal(
        ask_port(&endpoint, "POST /queue/delete HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\n{\"all\":true}"), 404);
    assert_int_equal(fake.actions, actions);
    struct control *second = NULL;
    char reason[256] = "";
    struct control_settings settings = {.listen = endpoint};
    assert_int_equal(control_new(&settings, &ops, &second, reason, sizeof reason), -EADDRINUSE);
    assert_non_null(strstr(reason, "admin listener 127.0.0.1:"));
    control_delete(control);
}

int main(void)
{
    snprintf(socket_path, sizeof socket_path, "/tmp/test_control-%d/control.sock", (int)getpid());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_actions),
        cmocka_unit_test(test_bodies_that_are_refused),
        cmocka_unit_test(test_pages_and_methods),
        cmocka_unit_test(test_summary),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_probes),
        cmocka_unit_test(test_metrics_are_bounded),
        cmocka_unit_test(test_metrics_of_strange_names),
        cmocka_unit_test(test_destinations_of_several_shards),
        cmocka_unit_test(test_requests_over_the_socket),
        cmocka_unit_test(test_a_large_answer_comes_whole),
        cmocka_unit_test(test_socket_of_a_dead_server_is_replaced_that_of_a_living_one_not),
        cmocka_unit_test(test_client_without_a_server),
        cmocka_unit_test(test_the_port_reveals_and_changes_nothing),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    *strrchr(socket_path, '/') = '\0';
    rmdir(socket_path);
    return failed;
}
