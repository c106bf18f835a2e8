/* SPDX-License-Identifier: Apache-2.0 */
/* bulkhead: the command for people. See cli.h. */
#include "tools/bulkhead/cli.h"

#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

G_DEFINE_QUARK(bulkhead - cli - error, cli_error)

gboolean cli_fail(GError **error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_propagate_error(error, g_error_new_valist(CLI_ERROR, 0, format, args));
    va_end(args);
    return FALSE;
}

void cli_say(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    fprintf(stderr, "bulkhead: %s\n", text);
}

static void print_help(void)
{
    printf(
        "Usage: bulkhead COMMAND [OPTION…]\n\nRuns virtual machines whose devices live in processes of their "
        "own.\n\nCommands:\n");
    for (const struct cli_command *command = cli_commands; command->name; command++) {
        printf("  %-8s %-8s %s\n", command->name, command->arguments, command->summary);
    }
    printf("\nExample:\n  %s\n\nbulkhead COMMAND --help tells its options; man bulkhead tells the rest.\n",
           cli_commands[0].example);
}

static int run_cli_command(const struct cli_command *command, int argc, char **argv)
{
    g_autofree char *parameters =
        g_strdup_printf("%s%s- %s", command->arguments, command->arguments[0] ? " " : "", command->summary);
    g_autofree char *description = g_strdup_printf("Example:\n  %s\n", command->example);
    g_autoptr(GOptionContext) context = g_option_context_new(parameters);
    g_option_context_add_main_entries(context, command->entries, NULL);
    g_option_context_set_description(context, description);
    g_autofree char *program = g_strdup_printf("bulkhead %s", command->name);
    g_set_prgname(program);

    g_autoptr(GError) error = NULL;
    int status = CLI_FAILURE;
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        g_autofree char *text = g_strdup(error->message);
        g_clear_error(&error);
        cli_fail(&error, "%s; %s --help tells the options", text, program);
    } else {
        char **words = argv + 1;
        if (words[0] && strcmp(words[0], "--") == 0) {
            words++;
        }
        status = command->run(words, &error);
    }
    if (error) {
        cli_say("%s", error->message);
    }
    return status;
}

int main(int argc, char **argv)
{
    setlocale(LC_ALL, "");
    signal(SIGPIPE, SIG_IGN);
    const char *word = argc > 1 ? argv[1] : "";
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0) {
        print_help();
        return CLI_OK;
    }
    if (strcmp(word, "--version") == 0) {
        printf("bulkhead %s\n", BULKHEAD_VERSION);
        return CLI_OK;
    }
    for (const struct cli_command *command = cli_commands; command->name; command++) {
        if (strcmp(word, command->name) == 0) {
            return run_cli_command(command, argc - 1, argv + 1);
        }
    }
    if (argc > 1) {
        cli_say("no command \"%s\"; bulkhead --help lists them", word);
    } else {
        cli_say("say what to do; bulkhead --help lists the commands");
    }
    return CLI_FAILURE;
}
