/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli: what the files of the bulkhead command share.
 *
 *   main.c       the table of subcommands, --help, --version
 *   commands.c   run, ps, stop, kill, console: one function each
 *   words.c      option words (sizes, --disk, --net) -> messages of control.proto
 *   session.c    a connection to the broker, which it starts where none runs
 *   terminal.c   this terminal (or these pipes) as a machine's console
 *
 * The command holds no state and judges nothing that the broker judges: it turns words into a message, and an answer
 * into words. Every failure is one line on stderr (what, where, the cure) and exit status 2.
 *
 * One thread. Errors are GErrors of CLI_ERROR; their message is that line.
 */
#pragma once

#include <glib.h>

#include "protocol/control.pb-c.h"
#include "protocol/control_channel.h"

#define CLI_OK      0
#define CLI_FAILURE 2
#define CLI_ERROR   (cli_error_quark())

GQuark cli_error_quark(void);
/* Sets the error and returns false. */
gboolean cli_fail(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* "bulkhead: TEXT" on stderr. */
void cli_say(const char *format, ...) G_GNUC_PRINTF(1, 2);

/* A subcommand. `entries` fill static variables; `run` gets what is left, NULL-terminated, and returns a status. */
struct cli_command {
    const char *name, *arguments, *summary, *example;
    const GOptionEntry *entries;
    int (*run)(char **words, GError **error); /* CLI_FAILURE with error set, or a status with its line said */
};
extern const struct cli_command cli_commands[];

/* words.c: all return owned messages, NULL and an error. */
gboolean words_size(const char *option, const char *text, uint64_t *ret_bytes, GError **error);
Bulkhead__Disk *words_disk(const char *text, GError **error); /* the path made absolute */
Bulkhead__Net *words_net(const char *text, GError **error);
char *words_path(const char *path);         /* absolute; returns owned */
char *words_show_bytes(uint64_t bytes);     /* "2 GiB"; returns owned */
char *words_show_duration(uint64_t ms);     /* "3m12s"; returns owned */
char *words_json(const char *text);         /* a JSON string with its quotes; returns owned */

/* session.c */
struct session {
    struct control_channel channel;
    uint64_t next_id;
};
/* start: start a broker if none runs. Without: *ret_none is set if none runs, and there is no session. */
gboolean session_open(struct session *session, gboolean start, gboolean *ret_none, GError **error);
void session_close(struct session *session); /* accepts one that is zeroed */
/* Sends it with a fresh id, which is returned; 0 on failure. */
uint64_t session_send(struct session *session, Bulkhead__Request *request, GError **error);
/*
 * Takes the next reply that is there: returned owned with its fd (owned, or -1); NULL without an error when none is
 * complete yet. A closed connection is an error.
 */
Bulkhead__Reply *session_receive(struct session *session, int *ret_fd, GError **error);
/* Waits for a reply to that id; an Error reply becomes an error. ret_fd may be NULL. */
Bulkhead__Reply *session_wait(struct session *session, uint64_t id, int *ret_fd, GError **error);

/* terminal.c */
enum terminal_end { TERMINAL_ENDED, TERMINAL_DETACHED, TERMINAL_SIGNALLED, TERMINAL_FAILED };
/*
 * Relays stdin and stdout to console_fd (taken) until the machine ended (its Ended reply to `id` is returned owned
 * in *ret_ended), Ctrl-] was typed, or a signal came. With `owner`, SIGINT and SIGTERM stop the machine (a second
 * one kills it) and the relay goes on until it has ended.
 */
enum terminal_end terminal_relay(struct session *session, uint64_t id, const char *name, int console_fd,
                                 gboolean owner, Bulkhead__Ended **ret_ended, GError **error);
