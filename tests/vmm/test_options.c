/* SPDX-License-Identifier: Apache-2.0 */
/* Broken if these fail: a wrong command line starts something else than it says, or is refused without saying what is wrong. */
#include "vmm/options.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <glib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "protocol/base/units.h"

static char why[512];

/* Parses "bulkhead-vmm" and the words of `line`. */
static int parse(const char *line, struct options *ret_options)
{
    g_autofree char *copy = g_strconcat("bulkhead-vmm ", line, NULL);
    static char *words[64], **split; /* options keep pointers into them */
    int count = 0;

    g_strfreev(split);
    split = g_strsplit(g_strchomp(copy), " ", 0);
    for (; split[count]; count++)
        words[count] = split[count];
    words[count] = NULL;
    optind = 0; /* getopt starts again */
    why[0] = 0;
    return options_parse(count, words, ret_options, why, sizeof(why));
}

static void test_accepted(void)
{
    struct options options;
    int pair[2], extra = open("/dev/null", O_RDONLY);

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), ==, 0);
    g_autofree char *line =
        g_strdup_printf("--kernel=/dev/null --memory 2G --cpus=3 --cpu max,-pku --append a=b "
                        "--device kind=blk,fd=%d,queues=2,id=root --console-fd=%d --no-sandbox",
                        pair[0], extra);
    g_assert_cmpint(parse(line, &options), ==, 0);
    g_assert_cmpuint(options.memory_bytes, ==, 2 * GIB);
    g_assert_cmpuint(options.cpus, ==, 3);
    g_assert_cmpstr(options.cpu_model, ==, "max,-pku");
    g_assert_cmpstr(options.append, ==, "a=b");
    g_assert_false(options.sandbox);
    g_assert_cmpuint(options.device_count, ==, 1);
    g_assert_cmpint(options.devices[0].fd, ==, pair[0]);
    g_assert_cmpuint(options.devices[0].queues, ==, 2);
    g_assert_cmpstr(options.devices[0].id, ==, "root");
    g_assert_cmpint(options.console_in, ==, extra);
    g_assert_cmpint(options.console_out, ==, extra);
    /* Nothing leaks into a child. */
    g_assert_cmpint(fcntl(pair[0], F_GETFD) & FD_CLOEXEC, !=, 0);
    options_finish(&options);
    g_assert_cmpint(fcntl(pair[0], F_GETFD), ==, -1);
    close(pair[1]);

    g_assert_cmpint(parse("--kernel /dev/null", &options), ==, 0);
    g_assert_cmpint(options.console_in, ==, 0);
    g_assert_cmpint(options.console_out, ==, 1);
    g_assert_cmpuint(options.memory_bytes, ==, 512 * MIB);
    g_assert_true(options.sandbox);
    options_finish(&options);
}

static void test_refused(void)
{
    /* The line, and a word that the message must hold. */
    static const struct {
        const char *line, *says;
    } cases[] = {
        {"", "--kernel"},
        {"--kernel /nonexistent", "/nonexistent"},
        {"--kernel", "--kernel"},
        {"--nonsense", "--nonsense"},
        {"stray", "stray"},
        {"--memory 12X", "12X"},
        {"--memory -1", "-1"},
        {"--memory M", "'M'"},
        {"--memory 99999999999999999999G", "size"},
        {"--memory 18014398509481984K", "size"},
        {"--cpus 0", "'0'"},
        {"--cpus 17", "17"},
        {"--cpus 1x", "1x"},
        {"--cpu v9", "v9"},
        {"--cpu v2,+aess", "aes"},
        {"--kernel-fd 999", "999"},
        {"--kernel-fd -1", "-1"},
        {"--log-level loud", "loud"},
        {"--device kind=blk", "fd or socket"},
        {"--device fd=0", "kind"},
        {"--device kind=gpu,fd=0", "gpu"},
        {"--device kind", "key=value"},
        {"--device colour=red", "colour"},
        {"--device kind=blk,socket=/nonexistent", "/nonexistent"},
        {"--device kind=net,fd=77777", "77777"},
        {"--device kind=blk,queues=65", "65"},
        {"--device kind=blk,id=a-name-that-is-far-too-long-for-any-log", "too long"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct options options;

        g_test_message("%s", cases[i].line);
        g_assert_cmpint(parse(cases[i].line, &options), ==, -EINVAL);
        if (!strstr(why, cases[i].says))
            g_error("'%s' gives '%s'", cases[i].line, why);
        g_assert_null(strchr(why, '\n'));
        options_finish(&options);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/options/accepted", test_accepted);
    g_test_add_func("/options/refused", test_refused);
    return g_test_run();
}
