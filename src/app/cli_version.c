#include <dlfcn.h>
#include <gnu/libc-version.h>
#include <jansson.h>
#include <libconfig.h>
#include <microhttpd.h>
#include <string.h>
#include <sys/utsname.h>

#include "app/cli.h"
#include "core/tls.h"
#include "ringpost/version.h"

static const struct cli_option options[] = {{.name = NULL}};

/* jemalloc's; absent from sanitizer builds. */
extern int mallctl(const char *name, void *old, size_t *old_length, void *new, size_t new_length) __attribute__((weak));

static void line(const char *name, const char *version)
{
    printf("%-14s %s\n", name, version);
}

/* Libraries whose headers belong to other folders are asked by name. */
static void *symbol(const char *name)
{
    return dlsym(RTLD_DEFAULT, name);
}

static void print_ares(void)
{
    const char *(*version)(int *) = NULL;
    void *found = symbol("ares_version");
    if (found != NULL) {
        memcpy(&version, &found, sizeof version);
        line("c-ares", version(NULL));
    }
}

static void print_liburing(void)
{
    int (*major)(void) = NULL;
    int (*minor)(void) = NULL;
    void *found[2] = {symbol("io_uring_major_version"), symbol("io_uring_minor_version")};
    if (found[0] != NULL && found[1] != NULL) { /* from 2.4 on */
        memcpy(&major, &found[0], sizeof major);
        memcpy(&minor, &found[1], sizeof minor);
        printf("%-14s %d.%d\n", "liburing", major(), minor());
    }
}

static int run(int argc, char **argv)
{
    const char *argument = NULL;
    struct utsname kernel;
    const char *jemalloc = NULL;
    size_t size = sizeof jemalloc;
    int next = cli_next(&cli_version_command, argc, argv, &argument);
    if (next != CLI_END) {
        return cli_leave(next);
    }
    if (optind < argc) {
        return cli_usage(&cli_version_command, "unexpected argument '%s'", argv[optind]);
    }
    line("ringpost", RINGPOST_VERSION);
    line("wolfSSL", tls_library_version());
    print_ares();
    print_liburing();
    line("libmicrohttpd", MHD_get_version());
    line("jansson", jansson_version_str());
    printf("%-14s %d.%d.%d\n", "libconfig", LIBCONFIG_VER_MAJOR, LIBCONFIG_VER_MINOR, LIBCONFIG_VER_REVISION);
    if (mallctl != NULL && mallctl("version", &jemalloc, &size, NULL, 0) == 0) {
        line("jemalloc", jemalloc);
    }
    line("glibc", gnu_get_libc_version());
    if (uname(&kernel) == 0) {
        line(kernel.sysname, kernel.release);
    }
    return CLI_OK;
}

const struct cli_command cli_version_command = {
    .name = "version",
    .arguments = "",
    .summary = "Print the versions of ringpost and of the libraries it runs with.",
    .options = options,
    .run = run,
};
