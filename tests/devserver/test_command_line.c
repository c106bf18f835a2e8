/* SPDX-License-Identifier: Apache-2.0 */
/* The command line that all device servers share: which words are taken, and what is said of the others. */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <unistd.h>

#include "devserver/core/command_line.h"
#include "protocol/base/units.h"

struct own {
    unsigned count;
    int fd;
    const char *name;
};

static int take_count(void *settings, const char *value, char *why, size_t why_bytes)
{
    return command_line_take_number(&((struct own *)settings)->count, value, 2, 8, "count", why, why_bytes);
}

static int take_other_fd(void *settings, const char *value, char *why, size_t why_bytes)
{
    return command_line_take_fd(&((struct own *)settings)->fd, value, why, why_bytes);
}

static int take_name(void *settings, const char *value, char *why, size_t why_bytes)
{
    ((struct own *)settings)->name = value;
    return 0;
}

static const struct command_option own_options[] = {
    {"count", "N", "how many", take_count},
    {"other-fd", "N", "another descriptor", take_other_fd},
    {"name", "TEXT", "a name", take_name},
};

static const struct command_line line = {.program = "test",
                                         .usage = "",
                                         .summary = "",
                                         .example = "",
                                         .options = own_options,
                                         .option_count = ARRAY_LEN(own_options)};

/* Parses one string of words. */
static int parse(const char *words, struct program_settings *program, struct own *own, char *why,
                 size_t why_bytes)
{
    static char **kept; /* settings point into it until the next call */
    g_autofree char *text = g_strdup_printf("test %s", words);
    int argc;

    g_strfreev(kept);
    g_assert_true(g_shell_parse_argv(text, &argc, &kept, NULL));
    *own = (struct own){.fd = -1};
    why[0] = '\0';
    return command_line_parse(&line, argc, kept, program, own, why, why_bytes);
}

/* A server would not start with correct words, or take them for something else. */
static void test_accepted(void)
{
    struct program_settings program;
    struct own own;
    char why[256];

    g_assert_cmpint(parse("--fd=0 --count 3 --name='a=b' --log-level=debug --no-sandbox", &program, &own, why,
                          sizeof(why)),
                    ==, 0);
    g_assert_cmpint(program.connected_fd, ==, 0);
    g_assert_cmpint(program.listen_fd, ==, -1);
    g_assert_cmpint(program.log_level, ==, LOG_LEVEL_DEBUG);
    g_assert_false(program.sandbox);
    g_assert_cmpint(own.count, ==, 3);
    g_assert_cmpstr(own.name, ==, "a=b");
    g_assert_cmpint(parse("--help", &program, &own, why, sizeof(why)), ==, 0);
    g_assert_true(program.help);
}

/* A wrong word would be passed over, or the message would not tell which one and why. */
static void test_refused(void)
{
    static const struct {
        const char *words, *why;
    } cases[] = {
        {"", "no socket: give one of --socket-path, --fd and --listen-fd"},
        {"--fd=0 --socket-path=s", "more than one socket: give one of --socket-path, --fd and --listen-fd"},
        {"--fd=0 --counts=3", "unknown option '--counts=3'; see --help"},
        {"--fd=0 --coun=3", "unknown option '--coun=3'; see --help"},
        {"--fd=0 count=3", "unknown option 'count=3'; see --help"},
        {"--fd=0 --", "unknown option '--'; see --help"},
        {"--fd=0 --count", "option --count needs a value; see --help"},
        {"--fd=0 --help=yes", "option --help takes no value; see --help"},
        {"--fd=0 --count=1", "'1' is no count: use 2 to 8"},
        {"--fd=0 --count=9", "'9' is no count: use 2 to 8"},
        {"--fd=0 --count=-3", "'-3' is no count: use 2 to 8"},
        {"--fd=0 --count=3x", "'3x' is no count: use 2 to 8"},
        {"--fd=0 --count=99999999999999999999", "'99999999999999999999' is no count: use 2 to 8"},
        {"--fd=x", "'x' is not a value for --fd; see --help"},
        {"--fd=999999", "descriptor 999999 is not open: pass it through exec"},
        {"--fd=0 --other-fd=-1", "'-1' is not a value for --other-fd; see --help"},
        {"--fd=0 --log-level=loud", "'loud' is not a value for --log-level; see --help"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct program_settings program;
        struct own own;
        char why[256];

        g_assert_cmpint(parse(cases[i].words, &program, &own, why, sizeof(why)), ==, -EINVAL);
        g_assert_cmpstr(why, ==, cases[i].why);
    }
}

/* Who started the server would never hear of a wrong word that stands before --ready-fd. */
static void test_ready_fd_behind_a_fault(void)
{
    struct program_settings program;
    struct own own;
    char why[256];

    g_assert_cmpint(parse("--fd=0 --count=1 --bogus --ready-fd=1", &program, &own, why, sizeof(why)), ==,
                    -EINVAL);
    g_assert_cmpint(program.ready_fd, ==, 1);
    g_assert_cmpstr(why, ==, "'1' is no count: use 2 to 8");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/command-line/accepted", test_accepted);
    g_test_add_func("/command-line/refused", test_refused);
    g_test_add_func("/command-line/ready-fd-behind-a-fault", test_ready_fd_behind_a_fault);
    return g_test_run();
}
