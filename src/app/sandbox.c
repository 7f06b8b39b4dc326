/* The order in which things are given up follows from how the kernel counts them.
 *
 *   main thread alone    sandbox_enter         user and groups (the C library changes all threads; there is one),
 *                                              capabilities but the one for ports below 1024
 *   directories made     sandbox_close_files   no_new_privs, Landlock: of this thread and those that it makes
 *   threads, rings,      (start of the shards)
 *   listeners
 *                        sandbox_seal          the last capability, thread by thread; seccomp for all threads at once
 *
 * Landlock has to come before the threads, because it binds only the caller and its children; seccomp has to come after
 * the rings, because making one is what it forbids. What is read before the change of user is the configuration, once;
 * all else is read as the user, so that what works at the start works on reload.
 *
 * "auto" takes what the kernel has and says in the log what it has not. "required" refuses to start without all of it,
 * and as root. "off" is for debugging; `user` holds all the same.
 *
 * Which files: the spool, events, control socket, sockets of listeners and mailboxes may be written; the directories of
 * the configuration and of every file that it names, and those of the system that libraries read, may be read. Nothing
 * may be executed. A reload that brings a path outside of all these is refused (sandbox_covers): it needs a restart.
 */
#include "app/sandbox.h"

#include <errno.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

#include "app/sandbox_calls.h"
#include "app/sandbox_files.h"
#include "app/sandbox_paths.h"
#include "app/sandbox_user.h"
#include "core/file.h"
#include "core/log.h"

static const char *const system_paths[] = {
    "/etc", "/usr", "/lib", "/lib64", "/proc", "/sys", "/run/systemd/resolve", "/dev/urandom", "/dev/random",
};

/* --- the user ----------------------------------------------------------------------------------------------------- */

static unsigned port_of(const struct config_endpoint *endpoint)
{
    uint16_t port = 0;
    if (endpoint->length != 0 && (endpoint->address.ss_family == AF_INET || endpoint->address.ss_family == AF_INET6)) {
        memcpy(&port, (const char *)&endpoint->address + 2, sizeof port); /* at the same place in both */
        port = (uint16_t)(port >> 8 | port << 8);
    }
    return port;
}

static bool binds_privileged_port(const struct settings *settings)
{
    unsigned first_free = sandbox_user_first_free_port();
    for (unsigned i = 0; i < settings->listeners_count; i++) {
        unsigned port = port_of(&settings->listeners[i].endpoint);
        if (port != 0 && port < first_free) {
            return true;
        }
    }
    return false;
}

/* "root", "ringpost", or the number when it has no name. */
static void put_user(struct sandbox_state *state)
{
    const struct passwd *user = getpwuid(geteuid());
    state->user_done = geteuid() != 0;
    if (user != NULL) {
        snprintf(state->user, sizeof state->user, "%.80s", user->pw_name);
    } else {
        snprintf(state->user, sizeof state->user, "%u", (unsigned)geteuid());
    }
}

bool sandbox_enter(const struct settings *settings, struct sandbox_state *state)
{
    char reason[160] = "";
    *state = (struct sandbox_state){0};
    if (settings->user[0] != '\0' &&
        sandbox_user_become(settings->user, binds_privileged_port(settings), reason, sizeof reason) != 0) {
        log_line(LOG_ERROR, "the user cannot be changed", "user=%s reason=\"%s\"", settings->user, reason);
        return false;
    }
    put_user(state);
    if (settings->sandbox == SANDBOX_REQUIRED && !state->user_done) {
        log_line(LOG_ERROR, "the sandbox is required", "reason=\"it would run as root: set user\"");
        return false;
    }
    return true;
}

/* --- files -------------------------------------------------------------------------------------------------------- */

struct rules {
    int descriptor;
    int error; /* the first */
};

/* sandbox_paths visits a directory once for each file in it that is named. */
static void allow(void *context, const char *path, bool write)
{
    struct rules *rules = context;
    if (write) {
        file_make_directories(path, 0700); /* what cannot be made has no rule, and says so when it is needed */
    }
    int error = sandbox_files_allow(rules->descriptor, path, write ? SANDBOX_FILES_WRITE : SANDBOX_FILES_READ);
    rules->error = rules->error == 0 ? error : rules->error;
}

static int close_files(const struct settings *settings)
{
    struct rules rules = {.descriptor = sandbox_files_begin()};
    if (rules.descriptor < 0) {
        return rules.descriptor;
    }
    if (settings->events.path[0] != '\0') {
        file_make_directories(settings->events.path, 0750); /* as the event log would */
    }
    for (size_t i = 0; i < sizeof system_paths / sizeof *system_paths; i++) {
        allow(&rules, system_paths[i], false);
    }
    int error = sandbox_files_allow(rules.descriptor, "/dev/null", SANDBOX_FILES_WRITE);
    rules.error = rules.error == 0 ? error : rules.error;
    sandbox_paths_visit(settings, allow, &rules);
    if (rules.error != 0) {
        close(rules.descriptor);
        return rules.error;
    }
    return sandbox_files_enforce(rules.descriptor);
}

/* Says what became of a part. `version` 0: none to tell. */
static void put(bool *done, char text[96], int error, const char *name, int version)
{
    *done = error == 0;
    if (error != 0) {
        snprintf(text, 96, "no: %s", error == -EOPNOTSUPP ? "the kernel has none" : strerror(-error));
    } else if (version != 0) {
        snprintf(text, 96, "%s %d", name, version);
    } else {
        snprintf(text, 96, "%s", name);
    }
}

static bool is_missing(const struct settings *settings, bool done, const char *what, const char *why)
{
    if (settings->sandbox == SANDBOX_REQUIRED && !done) {
        log_line(LOG_ERROR, "the sandbox is required", "missing=%s reason=\"%s\"", what, why);
        return true;
    }
    return false;
}

bool sandbox_close_files(const struct settings *settings, struct sandbox_state *state)
{
    if (settings->sandbox == SANDBOX_OFF) {
        snprintf(state->files, sizeof state->files, "no: sandbox is \"off\"");
        return true;
    }
    int error = sandbox_user_no_new_privileges();
    error = error != 0 ? error : close_files(settings);
    put(&state->files_done, state->files, error, "landlock", sandbox_files_version());
    if (state->files_done) {
        state->paths = sandbox_paths_new(settings, system_paths, sizeof system_paths / sizeof *system_paths);
    }
    return !is_missing(settings, state->files_done, "landlock", state->files);
}

struct coverage {
    const struct sandbox_paths *paths;
    bool good;
};

static void look_covered(void *context, const char *path, bool write)
{
    struct coverage *coverage = context;
    if (!sandbox_paths_hold(coverage->paths, path, write)) {
        char quoted[600];
        log_line(LOG_ERROR, "the sandbox is closed for a path until a restart", "path=%s access=%s",
                 log_quote(bytes_of_string(path), quoted, sizeof quoted), write ? "write" : "read");
        coverage->good = false;
    }
}

bool sandbox_covers(const struct sandbox_state *state, const struct settings *next)
{
    struct coverage coverage = {.paths = state->paths, .good = true};
    if (state->paths != NULL) {
        sandbox_paths_visit(next, look_covered, &coverage);
    }
    return coverage.good;
}

void sandbox_end(struct sandbox_state *state)
{
    if (state->paths != NULL) {
        sandbox_paths_delete(state->paths);
        state->paths = NULL;
    }
}

/* --- the end of the start ----------------------------------------------------------------------------------------- */

void sandbox_drop_capabilities(void)
{
    if (geteuid() != 0) {
        sandbox_user_drop_capabilities();
    }
}

static void put_capabilities(struct sandbox_state *state)
{
    bool has = sandbox_user_has_capabilities();
    state->capabilities_done = !has;
    snprintf(state->capabilities, sizeof state->capabilities, "%s", !has ? "none" : "root's");
}

bool sandbox_seal(const struct settings *settings, struct sandbox_state *state)
{
    sandbox_drop_capabilities();
    put_capabilities(state);
    if (settings->sandbox == SANDBOX_OFF) {
        snprintf(state->calls, sizeof state->calls, "no: sandbox is \"off\"");
    } else {
        put(&state->calls_done, state->calls, sandbox_calls_possible() ? sandbox_calls_restrict() : -EOPNOTSUPP,
            "seccomp", 0);
    }
    log_line(LOG_INFO, "sandbox", "user=%s capabilities=\"%s\" files=\"%s\" calls=\"%s\"", state->user,
             state->capabilities, state->files, state->calls);
    return !is_missing(settings, state->calls_done, "seccomp", state->calls);
}

/* --- ringpost check ----------------------------------------------------------------------------------------------- */

static void foresee_user(const struct settings *settings, struct sandbox_state *state)
{
    const struct passwd *user = settings->user[0] != '\0' ? getpwnam(settings->user) : NULL;
    put_user(state);
    if (settings->user[0] != '\0' && user == NULL) {
        state->user_done = false;
        snprintf(state->user, sizeof state->user, "no: there is no user %.60s", settings->user);
    } else if (user != NULL && geteuid() == 0) {
        state->user_done = user->pw_uid != 0;
        snprintf(state->user, sizeof state->user, "%.80s", settings->user);
    } else if (user != NULL && user->pw_uid != geteuid()) {
        state->user_done = false;
        snprintf(state->user, sizeof state->user, "no: only root can become %.60s", settings->user);
    }
}

void sandbox_foresee(const struct settings *settings, struct sandbox_state *ret_state)
{
    struct sandbox_state state = {0};
    int version = sandbox_files_version();
    foresee_user(settings, &state);
    bool leaves_root = state.user_done;
    state.capabilities_done = leaves_root;
    snprintf(state.capabilities, sizeof state.capabilities, "%s",
             !leaves_root                      ? "root's"
             : binds_privileged_port(settings) ? "none, after ports below 1024 are bound"
                                               : "none");
    if (settings->sandbox == SANDBOX_OFF) {
        snprintf(state.files, sizeof state.files, "no: sandbox is \"off\"");
        snprintf(state.calls, sizeof state.calls, "no: sandbox is \"off\"");
    } else {
        put(&state.files_done, state.files, version != 0 ? 0 : -EOPNOTSUPP, "landlock", version);
        put(&state.calls_done, state.calls, sandbox_calls_possible() ? 0 : -EOPNOTSUPP, "seccomp", 0);
    }
    *ret_state = state;
}
