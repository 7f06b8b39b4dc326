/* Which ringpost this is: `ringpost version`, the greeting of the control API and the file `VERSION` of a release. */
#ifndef RINGPOST_VERSION_H
#define RINGPOST_VERSION_H

#define RINGPOST_VERSION_MAJOR 0
#define RINGPOST_VERSION_MINOR 1
#define RINGPOST_VERSION_PATCH 0
#define RINGPOST_VERSION "0.1.0"

/* Raised by changes that a client of the control API, or a reader of the event log, would notice. */
#define RINGPOST_CONTROL_VERSION 1
#define RINGPOST_EVENT_VERSION 1

#endif
