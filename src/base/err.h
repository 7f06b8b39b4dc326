/* The errors that layers above core return. 0 is success; every value has a name for logs and the control API. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

enum err {
    ERR_OK = 0,
    ERR_NO_MEMORY, /* a bounded pool is empty */
    ERR_FULL,      /* a named limit is reached */
    ERR_NO_SPACE,  /* the disk is full */
    ERR_IO,        /* the disk failed */
    ERR_CORRUPT,   /* bytes on disk do not verify */
    ERR_FORMAT,    /* an unknown or older format version */
    ERR_LOCKED,    /* another instance holds it */
    ERR_NOT_FOUND, /* no such thing */
    ERR_SYNTAX,    /* input is not well formed */
    ERR_TEMPORARY, /* may succeed later */
    ERR_PERMANENT, /* never succeeds */
    ERR_CLOSED,    /* shutting down */
    ERR_COUNT,
};

/* A short lower-case name ("no-space"); never NULL. */
const char *err_name(enum err err);

#endif
