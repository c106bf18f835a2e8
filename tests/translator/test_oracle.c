/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs every form of instruction, and sequences of them, with random states on the host CPU, in the interpreter and in T0, and
 * compares.
 *
 * Broken if it fails: an instruction that computes something else than the processor does, raises another exception, or
 * raises it with other state. A failure prints the encoding, what differs and the options that repeat it.
 */
#include <cpuid.h>
#include <errno.h>
#include <glib.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/translator/oracle_compare.h"
#include "tests/translator/oracle_sequence.h"
#include "translator/stats.h"

#define ENCODING_STATES 8u /* per encoding of a form */
#define SEQUENCE_STATES 4u

static int states = 200;
static int sequences = 20000;
static int soak_seconds;
static int jobs = 1;
static gint64 seed = 1;
static gint64 only_sequence = -1;
static char *filter;
static char *tier_name;
static char *mode_name;
static int max_reports = 20;
static gboolean verbose, json;

static const GOptionEntry options[] = {
    {"states", 's', 0, G_OPTION_ARG_INT, &states, "States per form", "N"},
    {"sequences", 'q', 0, G_OPTION_ARG_INT, &sequences, "Sequences of several instructions, per kind of code",
     "N"},
    {"sequence", 0, 0, G_OPTION_ARG_INT64, &only_sequence, "Only this sequence", "NUMBER"},
    {"seed", 0, 0, G_OPTION_ARG_INT64, &seed, "Seed of the random numbers", "N"},
    {"filter", 'f', 0, G_OPTION_ARG_STRING, &filter, "Only forms whose name contains TEXT, no sequences",
     "TEXT"},
    {"tier", 't', 0, G_OPTION_ARG_STRING, &tier_name, "Only 'interpreter' or 't0'", "TIER"},
    {"mode", 'm', 0, G_OPTION_ARG_STRING, &mode_name, "Only code of 64, 32 or 16 bits", "BITS"},
    {"reports", 'r', 0, G_OPTION_ARG_INT, &max_reports, "Stop reporting after N failures", "N"},
    {"soak", 0, 0, G_OPTION_ARG_INT, &soak_seconds, "Go on with other seeds for so long", "SECONDS"},
    {"jobs", 'j', 0, G_OPTION_ARG_INT, &jobs, "Processes, each with seeds of its own", "N"},
    {"json", 0, 0, G_OPTION_ARG_NONE, &json, "Progress and result as JSON lines", NULL},
    {"verbose", 'v', 0, G_OPTION_ARG_NONE, &verbose, "Name every form", NULL},
    {NULL},
};

enum { TIER_INTERPRETER, TIER_T0, TIERS };
static const char *const tier_names[TIERS] = {"interpreter", "t0"};
static const char *const mode_names[ORACLE_MODES] = {"64", "32", "16"};

struct session {
    struct oracle_guest *guests[TIERS];
    struct form_list lists[ORACLE_MODES];
    GPtrArray *runs;                   /* const struct form *, those to run */
    GPtrArray *joinable[ORACLE_MODES]; /* those for sequences */
    uint64_t seed;                     /* of this round */
    uint64_t states, comparisons, faults, failures, sequences;
    uint64_t notes;     /* differences that do not count on this host */
    bool modelled;      /* the references follow this vendor where processors differ */
    GHashTable *failed; /* names of forms already reported, by tier */
    GTimer *timer;
    double next_progress;
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    interrupted = 1;
}

/*
 * A test that goes round in circles, on the host or under the translator, would do so for ever. Every few seconds: is there
 * progress? Thread-local storage is not to be touched here.
 */
#define WATCH_SECONDS 30
static volatile uint64_t watched_states;
static char watched_name[128];

static void on_alarm(int number)
{
    static uint64_t before = UINT64_MAX;
    static const char text[] = "no progress in ";

    if (before != watched_states) {
        before = watched_states;
        return;
    }
    if (write(STDOUT_FILENO, text, sizeof(text) - 1) < 0 ||
        write(STDOUT_FILENO, watched_name, strlen(watched_name)) < 0)
        _exit(4);
    _exit(3);
}

static void watch(void)
{
    const struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_ONSTACK | SA_RESTART};
    const struct itimerval interval = {{WATCH_SECONDS, 0}, {WATCH_SECONDS, 0}};

    sigaction(SIGVTALRM, &action, NULL);
    setitimer(ITIMER_VIRTUAL, &interval, NULL); /* of our own time: a busy machine decides nothing */
}

/* Only where a test runs: its registers are anything, so on the alternative stack. */
static void catch_interrupts(void)
{
    const struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = SA_ONSTACK | SA_RESTART};

    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static bool finished(const struct session *session)
{
    return interrupted || (soak_seconds && g_timer_elapsed(session->timer, NULL) >= soak_seconds);
}

static void progress(struct session *session)
{
    double seconds = g_timer_elapsed(session->timer, NULL);

    if (!soak_seconds || seconds < session->next_progress)
        return;
    session->next_progress = seconds + 5;
    printf(json ? "{\"seconds\": %.0f, \"seed\": %lu, \"states\": %lu, \"comparisons\": %lu, \"rate\": %.0f, "
                  "\"differences\": %lu}\n"
                : "%.0f s, seed %lu: %lu states, %lu comparisons, %.0f states/s, %lu differences\n",
           seconds, session->seed, session->states, session->comparisons, (double)session->states / seconds,
           session->failures);
}

/* --- reporting ----------------------------------------------------------------------------------------------- */

/*
 * Where the architecture leaves something open, the references follow Intel's processors: results and condition codes of
 * x87 corner cases, the order of NaNs in dot products, which of several bytes faults first. On another vendor's
 * processor a difference there is worth a note only.
 */
static bool counts(const struct session *session, const struct scope *scope,
                   const struct oracle_state *native)
{
    return session->modelled || !(scope->rules & RULE_VENDOR || scope->x87 || native->vector == EXC_PF);
}

static void print_insn(GString *text, const struct insn *insn)
{
    ZydisFormatter formatter;
    char line[128] = "";

    ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
    ZydisFormatterFormatInstruction(&formatter, &insn->info, insn->operands, insn->info.operand_count_visible,
                                    line, sizeof(line), ORACLE_INSN, NULL);
    g_string_append_printf(text, "    %-36s %s:", insn->form->name, line);
    for (unsigned i = 0; i < insn->length; i++)
        g_string_append_printf(text, " %02x", insn->bytes[i]);
    g_string_append_c(text, '\n');
}

struct subject {
    const char *name;
    char repeat[96]; /* options */
    const struct insn *const *insns;
    unsigned count;
    const struct sequence *sequence;
};

static void report_failure(struct session *session, unsigned tier, const struct subject *subject,
                           const struct scope *scope, const GString *report,
                           const struct oracle_state *before, const struct oracle_state *native)
{
    char *key = g_strdup_printf("%s/%s", tier_names[tier], subject->name);

    if (!counts(session, scope, native)) {
        session->notes++;
        g_free(key);
        return;
    }
    session->failures++;
    if (!g_hash_table_add(session->failed, key) || (int)g_hash_table_size(session->failed) > max_reports)
        return;
    g_autoptr(GString) text = g_string_new(NULL);
    for (unsigned i = 0; i < subject->count; i++)
        print_insn(text, subject->insns[i]);
    if (subject->sequence) {
        g_string_append(text, "    code:");
        for (unsigned i = 0; i < subject->sequence->length; i++)
            g_string_append_printf(text, " %02x", subject->sequence->bytes[i]);
        g_string_append_c(text, '\n');
    }
    printf("%s: %s   (--seed %lu %s --tier %s)\n%s%s    native vector %d at %lx\n", tier_names[tier],
           subject->name, session->seed, subject->repeat, tier_names[tier], text->str, report->str,
           native->vector, native->rip);
    state_print(before, scope->address);
}

/* --- running ------------------------------------------------------------------------------------------------- */

static void load_code(struct session *session, const struct oracle_code *code)
{
    oracle_native_code(code);
    for (unsigned t = 0; t < TIERS; t++)
        if (session->guests[t])
            oracle_guest_code(session->guests[t], code);
}

static void run_state(struct session *session, const struct subject *subject, struct scope *scope,
                      const struct oracle_state *before)
{
    static struct oracle_state native, guest;

    memcpy(&native, before, sizeof(native));
    oracle_native_run(&native);
    outcome_normalise(scope, &native);
    watched_states = ++session->states;
    session->faults += native.vector >= 0;
    for (unsigned t = 0; t < TIERS; t++) {
        if (!session->guests[t])
            continue;
        memcpy(&guest, before, sizeof(guest));
        oracle_guest_run(session->guests[t], &guest);
        outcome_normalise(scope, &guest);
        session->comparisons++;
        if (!memcmp(&native, &guest, sizeof(native)))
            continue;
        g_autoptr(GString) report = g_string_new(NULL);
        if (!outcome_compare(scope, &native, &guest, report))
            report_failure(session, t, subject, scope, report, before, &native);
    }
}

/* The generator depends on the form's key, so that --filter repeats a failure. */
static void run_form(struct session *session, const struct form *form, unsigned count)
{
    static struct oracle_state before;
    struct random random = random_fork(session->seed, form->key);
    struct insn insn;
    const struct insn *const insns[1] = {&insn};
    struct subject subject = {.name = form->name, .insns = insns, .count = 1};
    struct oracle_code code;

    if (verbose)
        printf("%s\n", form->name);
    g_snprintf(subject.repeat, sizeof(subject.repeat), "--states %u --filter '%s'", count, form->name);
    g_snprintf(watched_name, sizeof(watched_name), "--seed %lu %s\n", session->seed, subject.repeat);
    for (unsigned i = 0; i < count; i++) {
        if (i % ENCODING_STATES == 0) {
            if (!form_encode(form, &random, 0, 0, &insn)) {
                printf("%s: no encoding found\n", form->name);
                session->failures++;
                return;
            }
            oracle_code_init(&code, form->mode, insn.bytes, insn.length, true);
            load_code(session, &code);
        }
        struct scope scope = {.mode = form->mode, .rules = form->rule->flags, .x87 = insn_is_x87(&insn)};
        scope.any_segment_fault = form->memory && insn_bytes(&insn) >= 16;
        /* 10 bytes are two accesses. */
        scope.any_order = insn_memory_operands(&insn) > 1 || insn_bytes(&insn) == 10;
        scope.rep32 =
            form->mode == ORACLE_64 && insn.info.address_width == 32 && form->rule->flags & RULE_COUNT &&
            insn.info.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE);
        state_random(insns, 1, &random, &before, &scope.address);
        /* What the architecture leaves open is as on the processors that the translator follows. */
        scope.flags = session->modelled ? ORACLE_FLAGS : insn_defined_flags(&insn, &before);
        run_state(session, &subject, &scope, &before);
    }
}

static void run_sequence(struct session *session, enum oracle_mode mode, uint64_t number)
{
    static struct oracle_state before;
    static struct sequence sequence;
    struct random random = random_fork(session->seed, number * ORACLE_MODES + mode);
    const GPtrArray *forms = session->joinable[mode];
    char name[32];
    struct subject subject = {.name = name, .insns = sequence.pointers, .sequence = &sequence};
    struct scope scope = {.mode = mode, .flags = ORACLE_FLAGS, .any_segment_fault = true, .any_order = true};
    struct oracle_code code;

    sequence_make((const struct form *const *)forms->pdata, forms->len, &random, &sequence);
    subject.count = sequence.count;
    g_snprintf(name, sizeof(name), "%s-bit sequence %lu", mode_names[mode], number);
    g_snprintf(subject.repeat, sizeof(subject.repeat), "--mode %s --sequence %lu", mode_names[mode], number);
    for (unsigned i = 0; i < sequence.count; i++) {
        scope.rules |= sequence.insns[i].form->rule->flags;
        scope.x87 |= insn_is_x87(&sequence.insns[i]);
        if (!session->modelled && sequence.insns[i].form->rule->undefined == UNDEF_AF)
            scope.flags &= ~(uint64_t)FLAG_AF;
    }
    oracle_code_init(&code, mode, sequence.bytes, sequence.length, false);
    g_snprintf(watched_name, sizeof(watched_name), "--seed %lu %s\n", session->seed, subject.repeat);
    load_code(session, &code);
    session->sequences++;
    for (unsigned i = 0; i < SEQUENCE_STATES; i++) {
        sequence_state(&sequence, &random, &before);
        run_state(session, &subject, &scope, &before);
    }
}

static void run_sequences(struct session *session, uint64_t count)
{
    for (unsigned mode = 0; mode < ORACLE_MODES; mode++) {
        if (!session->joinable[mode]->len)
            continue;
        if (only_sequence >= 0)
            run_sequence(session, mode, (uint64_t)only_sequence);
        for (uint64_t i = 0; i < count && only_sequence < 0 && !finished(session); i++) {
            run_sequence(session, mode, i);
            progress(session);
        }
    }
}

static void run_all(struct session *session, unsigned form_states, uint64_t sequence_count)
{
    for (unsigned i = 0; i < session->runs->len && only_sequence < 0 && !finished(session); i++) {
        run_form(session, g_ptr_array_index(session->runs, i), form_states);
        progress(session);
    }
    if (!filter)
        run_sequences(session, sequence_count);
}

/* --- setting up ---------------------------------------------------------------------------------------------- */

static bool host_is_intel(void)
{
    uint32_t eax, ebx = 0, ecx, edx;

    __get_cpuid(0, &eax, &ebx, &ecx, &edx);
    return ebx == 0x756e6547 && __builtin_cpu_supports("avx512f"); /* "Genu" */
}

static int select_forms(struct session *session)
{
    session->runs = g_ptr_array_new();
    for (unsigned mode = 0; mode < ORACLE_MODES; mode++) {
        struct form_list *list = &session->lists[mode];
        session->joinable[mode] = g_ptr_array_new();
        if ((mode_name && strcmp(mode_name, mode_names[mode])) || !oracle_native_supports(mode))
            continue;
        int r = form_catalogue(mode, list);
        if (r < 0)
            return r;
        for (unsigned i = 0; i < list->count; i++) {
            struct form *form = &list->items[i];
            if (form_status(form) == FORM_RUNS && (!filter || strstr(form->name, filter)))
                g_ptr_array_add(session->runs, form);
            if (sequence_accepts(form, session->modelled))
                g_ptr_array_add(session->joinable[mode], form);
        }
    }
    return 0;
}

static int create_guests(struct session *session)
{
    static const enum engine_tier tiers[TIERS] = {ENGINE_INTERPRETER, ENGINE_T0};
    int r = 0;

    for (unsigned t = 0; t < TIERS && r == 0; t++)
        if (!tier_name || !strcmp(tier_name, tier_names[t]))
            r = oracle_guest_create(tiers[t], &session->guests[t]);
    return r;
}

static void print_result(struct session *session)
{
    double seconds = g_timer_elapsed(session->timer, NULL);

    printf(json ? "{\"forms\": %u, \"states\": %lu, \"sequences\": %lu, \"comparisons\": %lu, "
                  "\"native_faults\": %lu, "
                  "\"differences\": %lu, \"in\": %u, \"seconds\": %.1f}\n"
                : "%u forms, %lu states, %lu sequences, %lu comparisons, %lu native faults, %lu differences "
                  "in %u "
                  "forms, %.1f s\n",
           session->runs->len, session->states, session->sequences, session->comparisons, session->faults,
           session->failures, g_hash_table_size(session->failed), seconds);
    if (session->guests[TIER_T0]) {
        uint64_t entries = oracle_guest_stat(session->guests[TIER_T0], STAT_ENTRIES);
        if (!json)
            printf("t0: %lu blocks compiled, entered %lu times, %lu ops by the interpreter\n",
                   oracle_guest_stat(session->guests[TIER_T0], STAT_COMPILED), entries,
                   oracle_guest_stat(session->guests[TIER_T0], STAT_FALLBACKS));
        session->failures += !filter && !mode_name && !entries; /* then nothing of it was tested */
    }
    if (session->notes && !json)
        printf("%lu differences do not count: there the references follow another vendor's processors\n",
               session->notes);
}

static void session_finish(struct session *session)
{
    for (unsigned t = 0; t < TIERS; t++)
        oracle_guest_destroy(session->guests[t]);
    for (unsigned mode = 0; mode < ORACLE_MODES; mode++) {
        form_list_finish(&session->lists[mode]);
        if (session->joinable[mode])
            g_ptr_array_free(session->joinable[mode], TRUE);
    }
    if (session->runs)
        g_ptr_array_free(session->runs, TRUE);
    g_hash_table_destroy(session->failed);
    g_timer_destroy(session->timer);
}

/* Splits into `jobs` processes. Returns -1 in each of them, in the parent their common exit status. */
static int split(void)
{
    int status = 0, one;

    for (int i = 0; i < jobs; i++) {
        if (fork() == 0) {
            seed += (gint64)i << 32;
            return -1;
        }
    }
    catch_interrupts(); /* the terminal interrupts all of us */
    for (int left = jobs; left > 0;) {
        if (wait(&one) > 0) {
            status |= one != 0;
            left--;
        } else if (errno != EINTR) {
            break;
        }
    }
    return status;
}

int main(int argc, char **argv)
{
    g_autoptr(GOptionContext) context =
        g_option_context_new("- compare the translator with the host's processor");
    g_autoptr(GError) error = NULL;

    setvbuf(stdout, NULL, _IOLBF, 0);
    g_option_context_add_main_entries(context, options, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        fprintf(stderr, "%s\n", error->message);
        return 2;
    }
    int status = jobs > 1 ? split() : -1;
    if (status >= 0)
        return status;
    struct session session = {
        .failed = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL),
        .modelled = host_is_intel(),
        .timer = g_timer_new(),
    };
    int r = oracle_native_init();
    if (r == 0)
        r = create_guests(&session);
    if (r == 0)
        r = select_forms(&session);
    if (r < 0) {
        fprintf(stderr, "cannot set up the oracle: %s\n", strerror(-r));
        return 2;
    }
    catch_interrupts();
    watch();
    session.seed = (uint64_t)seed;
    if (soak_seconds) {
        for (; !finished(&session); session.seed++)
            run_all(&session, (unsigned)states, (uint64_t)sequences);
    } else {
        run_all(&session, (unsigned)states, (uint64_t)sequences);
    }
    print_result(&session);
    bool failed = session.failures > 0;
    session_finish(&session);
    return failed;
}
