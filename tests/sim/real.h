/* What the wrapped functions are really called. */
#ifndef SIM_REAL_H
#define SIM_REAL_H

#include <dirent.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>

void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void __real_free(void *memory);
int __real_close(int fd);
int __real_openat(int directory, const char *path, int flags, ...);
int __real_unlinkat(int directory, const char *path, int flags);
int __real_renameat(int from_directory, const char *from, int to_directory, const char *to);
int __real_mkdir(const char *path, mode_t mode);
int __real_closedir(DIR *directory);
_Noreturn void __real__exit(int status);

#define real_calloc __real_calloc
#define real_realloc __real_realloc
#define real_free __real_free
#define real_close __real_close
#define real_openat __real_openat
#define real_unlinkat __real_unlinkat
#define real_renameat __real_renameat
#define real_mkdir __real_mkdir
#define real_closedir __real_closedir
#define real_exit __real__exit

#endif
