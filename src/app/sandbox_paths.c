#include "app/sandbox_paths.h"

#include <stdlib.h>
#include <string.h>

#define UNIX_PREFIX "unix:"
#define DIRECTORY_BYTES 512

/* --- visiting ----------------------------------------------------------------------------------------------------- */

struct walk {
    sandbox_paths_visitor *visit;
    void *context;
};

static void visit(struct walk *walk, const char *path, bool write)
{
    if (path[0] != '\0') {
        walk->visit(walk->context, path, write);
    }
}

/* The directory that holds the first `length` octets of a path: the file itself may be replaced. */
static void visit_parent(struct walk *walk, const char *path, size_t length, bool write)
{
    char directory[DIRECTORY_BYTES];
    while (length > 0 && path[length - 1] != '/') {
        length--;
    }
    if (length > 0 && length < sizeof directory) {
        snprintf(directory, sizeof directory, "%.*s", length > 1 ? (int)length - 1 : 1, path);
        visit(walk, directory, write);
    }
}

static void visit_file(struct walk *walk, const char *path)
{
    char *real = path[0] == '/' ? realpath(path, NULL) : NULL;
    visit_parent(walk, path, strlen(path), false);
    if (path[0] != '\0' && strchr(path, '/') == NULL) {
        visit(walk, ".", false); /* the configuration's own path may be relative */
    }
    if (real != NULL && strcmp(real, path) != 0) { /* as of certificates that a tool renews */
        visit_parent(walk, real, strlen(real), false);
    }
    free(real);
}

static void visit_certificates(struct walk *walk, const struct settings_certificate *certificates, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        visit_file(walk, certificates[i].certificate);
        visit_file(walk, certificates[i].key);
    }
}

static void visit_listener(struct walk *walk, const struct settings_listener *listener)
{
    size_t prefix = strlen(UNIX_PREFIX);
    if (strncmp(listener->address, UNIX_PREFIX, prefix) == 0) {
        visit_parent(walk, listener->address + prefix, strlen(listener->address + prefix), true);
    }
    visit_certificates(walk, listener->certificates, listener->certificates_count);
    visit_file(walk, listener->client_authorities);
}

static void visit_domain(struct walk *walk, const struct settings_domain *domain)
{
    visit_file(walk, domain->mailboxes);
    visit_file(walk, domain->aliases);
    visit_parent(walk, domain->maildir, strcspn(domain->maildir, "%"), true);
}

void sandbox_paths_visit(const struct settings *settings, sandbox_paths_visitor *visitor, void *context)
{
    struct walk walk = {.visit = visitor, .context = context};
    visit(&walk, settings->spool.path, true);
    visit(&walk, settings->events.path, true);
    visit_parent(&walk, settings->admin.socket, strlen(settings->admin.socket), true);
    visit_file(&walk, settings->path);
    visit_file(&walk, settings->auth.passwords);
    visit_certificates(&walk, settings->tls.certificates, settings->tls.certificates_count);
    for (unsigned i = 0; i < settings->listeners_count; i++) {
        visit_listener(&walk, &settings->listeners[i]);
    }
    for (unsigned i = 0; i < settings->routes_count; i++) {
        visit_file(&walk, settings->routes[i].tls_ca);
    }
    for (unsigned i = 0; i < settings->domains_count; i++) {
        visit_domain(&walk, &settings->domains[i]);
    }
}

/* --- asking ------------------------------------------------------------------------------------------------------- */

struct directory {
    char *path;
    bool write;
};

struct sandbox_paths {
    struct directory *directories;
    unsigned count;
    unsigned room;
    bool failed;
};

static bool holds(const struct directory *directory, const char *path, bool write)
{
    size_t length = strlen(directory->path);
    bool root = length == 1;
    return (directory->write || !write) && strncmp(path, directory->path, length) == 0 &&
           (root || path[length] == '\0' || path[length] == '/');
}

bool sandbox_paths_hold(const struct sandbox_paths *paths, const char *path, bool write)
{
    for (unsigned i = 0; i < paths->count; i++) {
        if (holds(&paths->directories[i], path, write)) {
            return true;
        }
    }
    return false;
}

static void keep(void *context, const char *path, bool write)
{
    struct sandbox_paths *paths = context;
    if (sandbox_paths_hold(paths, path, write)) {
        return; /* many files are in few directories */
    }
    if (paths->count == paths->room) {
        unsigned room = paths->room != 0 ? 2 * paths->room : 16;
        struct directory *larger = realloc(paths->directories, room * sizeof *larger);
        paths->failed |= larger == NULL;
        paths->directories = larger != NULL ? larger : paths->directories;
        paths->room = larger != NULL ? room : paths->room;
    }
    char *copy = paths->count < paths->room ? strdup(path) : NULL;
    paths->failed |= copy == NULL;
    if (copy != NULL) {
        paths->directories[paths->count++] = (struct directory){.path = copy, .write = write};
    }
}

struct sandbox_paths *sandbox_paths_new(const struct settings *settings, const char *const *more, size_t more_count)
{
    struct sandbox_paths *paths = calloc(1, sizeof *paths);
    if (paths == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < more_count; i++) {
        keep(paths, more[i], false);
    }
    sandbox_paths_visit(settings, keep, paths);
    if (paths->failed) {
        sandbox_paths_delete(paths);
        return NULL;
    }
    return paths;
}

void sandbox_paths_delete(struct sandbox_paths *paths)
{
    for (unsigned i = 0; i < paths->count; i++) {
        free(paths->directories[i].path);
    }
    free(paths->directories);
    free(paths);
}
