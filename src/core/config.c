#include "core/config.h"

#include <errno.h>
#include <libconfig.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/check.h"
#include "core/config_read.h"
#include "core/config_value.h"

struct block {
    struct block *next;
    max_align_t data[];
};

struct config {
    config_t document;
    char *path;
    config_report *report;
    void *context;
    unsigned errors;
    struct block *blocks;
};

void *config_allocate(struct config *config, size_t size)
{
    struct block *block = calloc(1, sizeof *block + size);
    CHECK(block != NULL);
    block->next = config->blocks;
    config->blocks = block;
    return block->data;
}

char *config_copy(struct config *config, struct bytes text)
{
    char *copy = config_allocate(config, text.length + 1);
    if (text.length != 0) {
        memcpy(copy, text.data, text.length);
    }
    return copy;
}

/* `file` is an included one, or NULL; libconfig has its name as written or already completed, depending on its version.
 */
static void report_line(struct config *config, const char *file, unsigned line, const char *message)
{
    char text[1024];
    char number[16] = "";
    const char *slash = strrchr(config->path, '/');
    int directory = slash == NULL ? 0 : (int)(slash - config->path) + 1;
    if (file == NULL || file[0] == '/' || strncmp(file, config->path, (size_t)directory) == 0) {
        directory = 0;
    }
    if (line != 0) {
        snprintf(number, sizeof number, ":%u", line);
    }
    snprintf(text, sizeof text, "%.*s%s%s: %s", directory, config->path, file != NULL ? file : config->path, number,
             message);
    config->errors++;
    config->report(config->context, text);
}

void config_read_error(struct config *config, const struct config_setting_t *at, const char *format, va_list arguments)
{
    char message[768];
    vsnprintf(message, sizeof message, format, arguments);
    const char *file = config_setting_source_file(at);
    unsigned line = config_setting_source_line(at);
    report_line(config, file, line != 0 ? line : 1, message);
}

/* What libconfig's parser says, completed by what it wants. */
static void report_syntax(struct config *config)
{
    static const struct {
        const char *found;
        const char *expected;
    } table[] = {
        {"syntax error", "key = value; with \"text\", 10, true, ( list ) or { group }"},
        {"duplicate setting name", "each key once in its group"},
        {"mismatched element type in array", "values of one type between [ and ]"},
        {"cannot open include file", "a readable file after @include"},
    };
    const char *found = config_error_text(&config->document);
    const char *expected = "the configuration file's syntax";
    char message[512];
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (strcmp(found, table[i].found) == 0) {
            expected = table[i].expected;
        }
    }
    snprintf(message, sizeof message, "%s, expected %s", found, expected);
    report_line(config, config_error_file(&config->document), (unsigned)config_error_line(&config->document), message);
}

/* The parser ends the program when a read fails half-way, as it does on a directory: look before. */
static bool readable(struct config *config)
{
    struct stat status;
    char message[256];
    int error = stat(config->path, &status) != 0 ? errno : S_ISDIR(status.st_mode) ? EISDIR : 0;
    if (error != 0) {
        snprintf(message, sizeof message, "cannot be read: %s, expected a configuration file", strerror(error));
        report_line(config, NULL, 0, message);
    }
    return error == 0;
}

#if LIBCONFIG_VER_MAJOR > 1 || LIBCONFIG_VER_MINOR >= 7
/* Earlier versions see by themselves that it is a directory. */
static const char **include(config_t *document, const char *directory, const char *path, const char **ret_error)
{
    const char **files = config_default_include_func(document, directory, path, ret_error);
    struct stat status;
    if (files != NULL && files[0] != NULL && stat(files[0], &status) == 0 && S_ISDIR(status.st_mode)) {
        void *list = files;
        for (char **name = list; *name != NULL; name++) {
            free(*name);
        }
        free(list);
        *ret_error = "cannot open include file";
        return NULL;
    }
    return files;
}
#endif

static bool parse(struct config *config)
{
    FILE *file = fopen(config->path, "re");
    if (file == NULL) {
        char message[256];
        snprintf(message, sizeof message, "cannot be read: %s, expected a configuration file", strerror(errno));
        report_line(config, NULL, 0, message);
        return false;
    }
    bool parsed = config_read(&config->document, file) == CONFIG_TRUE;
    fclose(file);
    if (!parsed) {
        report_syntax(config);
    }
    return parsed;
}

struct config *config_open(const char *path, config_report *report, void *context)
{
    struct config *config = calloc(1, sizeof *config);
    CHECK(config != NULL);
    config_init(&config->document);
#if LIBCONFIG_VER_MAJOR > 1 || LIBCONFIG_VER_MINOR >= 7
    config_set_include_func(&config->document, include);
#endif
    config->report = report;
    config->context = context;
    config->path = config_copy(config, bytes_of_string(path));
    const char *slash = strrchr(path, '/');
    if (slash != NULL) { /* @include is relative to the file that says it */
        size_t length = slash == path ? 1 : (size_t)(slash - path);
        config_set_include_dir(&config->document, config_copy(config, bytes_of(path, length)));
    }
    if (!readable(config) || !parse(config)) {
        config_close(config);
        return NULL;
    }
    return config;
}

void config_close(struct config *config)
{
    while (config->blocks != NULL) {
        struct block *block = config->blocks;
        config->blocks = block->next;
        free(block);
    }
    config_destroy(&config->document);
    free(config);
}

void config_defaults(struct config *config, const struct config_key *keys, void *target)
{
    config_read_defaults(config, keys, target);
}

void config_fill(struct config *config, const struct config_key *keys, void *target)
{
    config_defaults(config, keys, target);
    config_read_group(config, config_root_setting(&config->document), keys, target);
}

/* Walks a path of names and [indexes]. Returns the setting, or NULL and in *ret_around the innermost one that exists.
 */
static const config_setting_t *find(const struct config *config, const char *path, const config_setting_t **ret_around)
{
    const config_setting_t *at = config_root_setting(&config->document);
    while (at != NULL && *path != '\0') {
        *ret_around = at;
        size_t length = strcspn(path, ".[");
        if (*path == '[') {
            char *end = NULL;
            unsigned long index = strtoul(path + 1, &end, 10);
            at = config_setting_is_aggregate(at) ? config_setting_get_elem(at, (unsigned)index) : NULL;
            length = (size_t)(end + 1 - path);
        } else {
            char name[128];
            snprintf(name, sizeof name, "%.*s", (int)length, path);
            at = config_setting_is_group(at) ? config_setting_get_member(at, name) : NULL;
        }
        path += length + (path[length] == '.');
    }
    return at;
}

void config_error(struct config *config, const char *path, const char *format, ...)
{
    const config_setting_t *around = config_root_setting(&config->document);
    const config_setting_t *at = find(config, path, &around);
    va_list arguments;
    va_start(arguments, format);
    config_read_error(config, at != NULL ? at : around, format, arguments);
    va_end(arguments);
}

unsigned config_errors(const struct config *config)
{
    return config->errors;
}

bool config_present(const struct config *config, const char *path)
{
    const config_setting_t *around = NULL;
    return find(config, path, &around) != NULL;
}
