/* The HTTP side of the control interface: listening sockets, and requests turned into struct control_request.
 *
 * The library calls `handle` several times per request: first with the head, then with each piece of the body, then
 * once more with nothing, which is when the answer is made. A body that is too long is read to its end and dropped,
 * because clients look at the reply only after having sent everything.
 */
#include "app/control.h"

#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "app/control_request.h"
#include "base/check.h"
#include "core/config_value.h"
#include "core/log.h"

#define CONNECTIONS_MAX 64u
#define CONNECTION_MEMORY_BYTES 32768u
#define TIMEOUT_SECONDS 10u
#define BACKLOG 32

struct server {
    const struct control_ops *ops;
    struct MHD_Daemon *daemon;
    bool all; /* the unix socket, which has every page */
};

struct control {
    struct control_ops ops;
    struct server socket;
    struct server port;
    char path[sizeof((struct sockaddr_un *)0)->sun_path];
};

/* A request on its way in. */
struct exchange {
    size_t length;
    bool too_long;
    char body[CONTROL_REQUEST_BODY_BYTES_MAX + 1];
};

/* --- requests ----------------------------------------------------------------------------------------------------- */

static enum MHD_Result send_reply(struct MHD_Connection *connection, const struct control_reply *reply)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(reply->length, reply->body, MHD_RESPMEM_MUST_FREE);
    if (response == NULL) {
        free(reply->body);
        return MHD_NO;
    }
    MHD_add_response_header(response, "Content-Type", reply->type);
    MHD_add_response_header(response, "Cache-Control", "no-store");
    if (reply->allow != NULL) {
        MHD_add_response_header(response, "Allow", reply->allow);
    }
    enum MHD_Result queued = MHD_queue_response(connection, reply->status, response);
    MHD_destroy_response(response);
    return queued;
}

struct collection {
    struct control_request *request;
    const char *wrong;
};

static enum MHD_Result collect_argument(void *context, enum MHD_ValueKind kind, const char *name, size_t name_size,
                                        const char *value, size_t value_size)
{
    struct collection *collection = context;
    struct control_request *request = collection->request;
    (void)kind;
    if (request->arguments_count == CONTROL_REQUEST_ARGUMENTS_MAX) {
        collection->wrong = "too many arguments";
    } else if (value == NULL || strlen(name) != name_size || strlen(value) != value_size) {
        collection->wrong = "an argument without value, or with a NUL";
    } else {
        request->arguments[request->arguments_count].name = name;
        request->arguments[request->arguments_count++].value = bytes_of(value, value_size);
    }
    return collection->wrong == NULL ? MHD_YES : MHD_NO;
}

static struct control_reply answer(const struct server *server, struct MHD_Connection *connection, const char *method,
                                   const char *path, const struct exchange *exchange)
{
    struct control_request request = {
        .method = method,
        .path = path,
        .body = bytes_of(exchange->body, exchange->length),
    };
    struct collection collection = {.request = &request};
    MHD_get_connection_values_n(connection, MHD_GET_ARGUMENT_KIND, collect_argument, &collection);
    if (collection.wrong != NULL) {
        return control_request_error(400, "%s", collection.wrong);
    }
    if (exchange->too_long) {
        return control_request_error(413, "a body has at most %d octets", CONTROL_REQUEST_BODY_BYTES_MAX);
    }
    return control_request_answer(&request, server->ops, server->all);
}

static enum MHD_Result handle(void *context, struct MHD_Connection *connection, const char *path, const char *method,
                              const char *version, const char *data, size_t *data_size, void **state)
{
    struct exchange *exchange = *state;
    (void)version;
    if (exchange == NULL) {
        *state = calloc(1, sizeof *exchange);
        return *state != NULL ? MHD_YES : MHD_NO;
    }
    if (*data_size != 0) {
        if (*data_size > CONTROL_REQUEST_BODY_BYTES_MAX - exchange->length) {
            exchange->too_long = true;
        } else {
            memcpy(exchange->body + exchange->length, data, *data_size);
            exchange->length += *data_size;
        }
        *data_size = 0;
        return MHD_YES;
    }
    struct control_reply reply = answer(context, connection, method, path, exchange);
    return send_reply(connection, &reply);
}

static void forget(void *context, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode code)
{
    (void)context;
    (void)connection;
    (void)code;
    free(*state);
    *state = NULL;
}

/* --- sockets ------------------------------------------------------------------------------------------------------ */

/* Takes the descriptor over. */
static int start_server(struct server *server, int fd)
{
    server->daemon = MHD_start_daemon(
        MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL, 0, NULL, NULL, handle, server, MHD_OPTION_LISTEN_SOCKET, fd,
        MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, TIMEOUT_SECONDS,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY_BYTES, MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_NOTIFY_COMPLETED, forget, NULL, MHD_OPTION_END);
    if (server->daemon == NULL) {
        close(fd);
        return -EIO;
    }
    return 0;
}

/* Removes what an earlier run left; -EADDRINUSE when somebody listens on it, -EEXIST when it is no socket. */
static int clear_path(const struct sockaddr_un *address)
{
    struct stat status;
    if (lstat(address->sun_path, &status) != 0) {
        return errno == ENOENT ? 0 : -errno;
    }
    if (!S_ISSOCK(status.st_mode)) {
        return -EEXIST;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -errno;
    }
    int error = connect(fd, (const struct sockaddr *)address, sizeof *address) == 0 ? 0 : errno;
    close(fd);
    if (error != ECONNREFUSED) {
        return -EADDRINUSE;
    }
    return unlink(address->sun_path) == 0 ? 0 : -errno;
}

static int open_socket(const char *path, int *ret_fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *slash = strrchr(path, '/');
    if (strlen(path) >= sizeof address.sun_path) {
        return -ENAMETOOLONG;
    }
    if (slash != NULL && slash != path) { /* /run is empty after every boot; whether that helped shows below */
        memcpy(address.sun_path, path, (size_t)(slash - path));
        mkdir(address.sun_path, 0755);
    }
    memcpy(address.sun_path, path, strlen(path));
    int error = clear_path(&address);
    int fd = error == 0 ? socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) : -1;
    if (fd < 0) {
        return error != 0 ? error : -errno;
    }
    /* The mode is set before there is anything to connect to. */
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || chmod(path, 0660) != 0 ||
        listen(fd, BACKLOG) != 0) {
        error = -errno;
        close(fd);
        return error;
    }
    *ret_fd = fd;
    return 0;
}

static int open_port(const struct config_endpoint *endpoint, int *ret_fd)
{
    int one = 1;
    int fd = socket(endpoint->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -errno;
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (const struct sockaddr *)&endpoint->address, endpoint->length) != 0 || listen(fd, BACKLOG) != 0) {
        int error = -errno;
        close(fd);
        return error;
    }
    *ret_fd = fd;
    return 0;
}

static int start_socket(struct control *control, const char *path, char *reason, size_t reason_size)
{
    int fd = -1;
    int error = open_socket(path, &fd);
    if (error == 0) {
        snprintf(control->path, sizeof control->path, "%s", path);
        error = start_server(&control->socket, fd);
    }
    if (error != 0) {
        snprintf(reason, reason_size, "control socket %s: %s", path, strerror(-error));
    }
    return error;
}

static int start_port(struct control *control, const struct config_endpoint *endpoint, char *reason, size_t reason_size)
{
    int fd = -1;
    int error = open_port(endpoint, &fd);
    if (error == 0) {
        error = start_server(&control->port, fd);
    }
    if (error != 0) {
        char room[64];
        struct buffer text = buffer_of(room, sizeof room);
        config_value_put_endpoint(&text, endpoint);
        snprintf(reason, reason_size, "admin listener %.*s: %s", (int)text.length, text.data, strerror(-error));
    }
    return error;
}

int control_new(const struct control_settings *settings, const struct control_ops *ops, struct control **ret_control,
                char *reason, size_t reason_size)
{
    struct control *control = calloc(1, sizeof *control);
    CHECK(control != NULL);
    int error = 0;
    control->ops = *ops;
    control->socket = (struct server){.ops = &control->ops, .all = true};
    control->port = (struct server){.ops = &control->ops, .all = false};
    if (settings->socket != NULL && settings->socket[0] != '\0') {
        error = start_socket(control, settings->socket, reason, reason_size);
    }
    if (error == 0 && settings->listen.length != 0) {
        error = start_port(control, &settings->listen, reason, reason_size);
    }
    if (error != 0) {
        control_delete(control);
        return error;
    }
    *ret_control = control;
    return 0;
}

void control_delete(struct control *control)
{
    if (control->port.daemon != NULL) {
        MHD_stop_daemon(control->port.daemon);
    }
    if (control->socket.daemon != NULL) {
        MHD_stop_daemon(control->socket.daemon);
    }
    if (control->path[0] != '\0') {
        unlink(control->path);
    }
    free(control);
}
