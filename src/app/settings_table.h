/* How a row of the tables of keys is written; for the files that have such tables. */
#ifndef APP_SETTINGS_TABLE_H
#define APP_SETTINGS_TABLE_H

#include <stddef.h>

#include "app/settings_check.h"

#define AT(group, field) .offset = offsetof(struct group, field), .size = sizeof(((struct group *)0)->field)
#define MANY(group, field) AT(group, field), .count_offset = offsetof(struct group, field##_count)
#define RANGE(low, high) .minimum = (low), .maximum = (high)
#define DEFAULT(text) .standard = (text)
#define END          \
    {                \
        .name = NULL \
    }

#define SECOND 1000ull
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)
#define KIB 1024ull
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define MILLION 1000000u

#define HOSTNAME .valid = config_value_hostname, .expected = "a host name in ASCII"
#define PATH .valid = settings_check_path, .expected = "an absolute path"

#endif
