/* Stands in for libFuzzer's main in ordinary builds: gives each file of a corpus directory to the target once, so that
 * what a fuzzer ever found stays found. Writes TAP; names a file before it runs it, so that a crash has a culprit. */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int is_input(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

/* Exactly as many bytes as the file has are allocated: a read past the end is one that the sanitizer sees. */
static int replay(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
        return -errno;
    }
    long size = ftell(file);
    rewind(file);
    uint8_t *data = malloc((size_t)size);
    size_t got = fread(data, 1, (size_t)size, file);
    fclose(file);
    int result = got == (size_t)size ? LLVMFuzzerTestOneInput(data, got) : -EIO;
    free(data);
    return result;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s CORPUS-DIRECTORY\n", argv[0]);
        return 2;
    }
    struct dirent **entries = NULL;
    int count = scandir(argv[1], &entries, is_input, alphasort);
    int failed = 0;
    printf("1..%d\n", count < 0 ? 0 : count);
    for (int i = 0; i < count; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", argv[1], entries[i]->d_name);
        printf("# %s\n", path);
        fflush(stdout);
        int result = replay(path);
        printf("%s %d - %s\n", result == 0 ? "ok" : "not ok", i + 1, entries[i]->d_name);
        failed += result != 0;
        free(entries[i]);
    }
    free(entries);
    return failed != 0;
}
