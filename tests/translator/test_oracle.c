/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs every form of instruction with random states on the host CPU, in the interpreter and in T0, and compares.
 *
 * Broken if it fails: an instruction that computes something else than the processor does, raises another exception, or
 * raises it with other state. A failure prints the encoding, what differs and the options that repeat it.
 */
#include <cpuid.h>
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/translator/oracle_forms.h"
#include "translator/stats.h"

static int states = 40;
static int sequences = 20000;
static gint64 seed = 1;
static char *filter;
static char *tier_name;
static int max_reports = 20;
static gboolean verbose;

static const GOptionEntry options[] = {
    {"states", 's', 0, G_OPTION_ARG_INT, &states, "States per form", "N"},
    {"sequences", 'q', 0, G_OPTION_ARG_INT, &sequences, "Sequences of several instructions", "N"},
    {"seed", 0, 0, G_OPTION_ARG_INT64, &seed, "Seed of the random numbers", "N"},
    {"filter", 'f', 0, G_OPTION_ARG_STRING, &filter, "Only forms whose name contains TEXT", "TEXT"},
    {"tier", 't', 0, G_OPTION_ARG_STRING, &tier_name, "Only 'interpreter' or 't0'", "TIER"},
    {"reports", 'r', 0, G_OPTION_ARG_INT, &max_reports, "Stop reporting after N failures", "N"},
    {"verbose", 'v', 0, G_OPTION_ARG_NONE, &verbose, "Name every form", NULL},
    {NULL},
};

enum { TIER_INTERPRETER, TIER_T0, TIERS };
static const char *const tier_names[TIERS] = {"interpreter", "t0"};

struct session {
    struct oracle_guest *guests[TIERS];
    uint64_t forms, runs, failures, faults;
    uint64_t notes;     /* differences that do not count on this host */
    bool modelled;      /* the references follow this vendor where processors differ */
    GHashTable *failed; /* names of forms already reported, by tier */
    GArray *joinable;   /* struct form */
};

static void zero_range(struct oracle_state *state, uint64_t address, unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++)
        if (address + i - ORACLE_DATA < ORACLE_DATA_BYTES)
            state->data[address + i - ORACLE_DATA] = 0;
}

/* Blanks what is not compared. */
static void normalise(const struct form *form, uint64_t address, struct oracle_state *state)
{
    if (form->flags & FORM_ENV32)
        zero_range(state, address, 12, 28);
    if (form->flags & FORM_ENV16)
        zero_range(state, address, 6, 14);
    if (form->flags & FORM_FXSAVE)
        zero_range(state, address, 6, 24);
    if (state->vector ==
        EXC_SS) /* an address that is not canonical: the MMU raises #GP for the stack segment, too */
        state->vector = EXC_GP;
    for (unsigned i = 0; i < 8; i++)
        memset(state->fx.st[i] + 10, 0, 6);
}

static void differ(GString *report, const char *what, uint64_t native, uint64_t guest)
{
    g_string_append_printf(report, "    %-8s native %016lx  guest %016lx\n", what, native, guest);
}

static void compare_bytes(GString *report, const char *what, unsigned number, const uint8_t *native,
                          const uint8_t *guest, unsigned bytes)
{
    if (!memcmp(native, guest, bytes))
        return;
    g_string_append_printf(report, "    %s%-6u native ", what, number);
    for (unsigned i = bytes; i-- > 0;)
        g_string_append_printf(report, "%02x", native[i]);
    g_string_append(report, "  guest ");
    for (unsigned i = bytes; i-- > 0;)
        g_string_append_printf(report, "%02x", guest[i]);
    g_string_append(report, "\n");
}

/* A faulting MMX instruction has already made TOP zero on some processors. */
static bool x87_matters(const struct form *form, const struct oracle_state *native)
{
    return !(form->flags & FORM_VECTOR && (native->vector == EXC_PF || native->vector == EXC_GP));
}

/* A 10-byte store that faults on its second page may have written the first. */
static bool data_matters(const struct form *form, const struct oracle_state *native)
{
    return !(form->flags & FORM_STORE10 && native->vector == EXC_PF);
}

/* Where Linux stops telling whether a page is present. */
#define HOST_END 0x7ffffffff000ull

static void compare(GString *report, uint64_t flags, bool x87, bool x87_env, bool data,
                    const struct oracle_state *native, const struct oracle_state *guest)
{
    static const char *const names[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                          "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

    if (native->vector != guest->vector)
        differ(report, "vector", (uint64_t)native->vector, (uint64_t)guest->vector);
    if (native->error != guest->error && native->address < HOST_END)
        differ(report, "error", native->error, guest->error);
    if (native->address != guest->address && !(x87_env && native->address >> 12 == guest->address >> 12))
        differ(report, "cr2", native->address, guest->address);
    if (native->rip != guest->rip)
        differ(report, "rip", native->rip, guest->rip);
    for (unsigned i = 0; i < 16; i++)
        if (native->gpr[i] != guest->gpr[i])
            differ(report, names[i], native->gpr[i], guest->gpr[i]);
    if ((native->rflags ^ guest->rflags) & flags)
        differ(report, "rflags", native->rflags & flags, guest->rflags & flags);
    for (unsigned i = 0; i < 16; i++)
        compare_bytes(report, "xmm", i, native->fx.xmm[i], guest->fx.xmm[i], 16);
    for (unsigned i = 0; i < 16; i++)
        compare_bytes(report, "ymmh", i, native->ymm_high[i], guest->ymm_high[i], 16);
    if (native->fx.mxcsr != guest->fx.mxcsr)
        differ(report, "mxcsr", native->fx.mxcsr, guest->fx.mxcsr);
    if (native->fx.fcw != guest->fx.fcw)
        differ(report, "fcw", native->fx.fcw, guest->fx.fcw);
    if (x87 && native->fx.fsw != guest->fx.fsw)
        differ(report, "fsw", native->fx.fsw, guest->fx.fsw);
    if (native->fx.ftw != guest->fx.ftw)
        differ(report, "ftw", native->fx.ftw, guest->fx.ftw);
    for (unsigned i = 0; i < 8 && x87; i++)
        compare_bytes(report, "st", i, native->fx.st[i], guest->fx.st[i], 10);
    for (unsigned i = 0; i < ORACLE_DATA_BYTES && data; i += 16)
        if (memcmp(native->data + i, guest->data + i, 16))
            compare_bytes(report, "data+", i, native->data + i, guest->data + i, 16);
}

static void print_state(const struct oracle_state *state, uint64_t address)
{
    printf("  before: rflags %lx mxcsr %x fcw %x fsw %x ftw %x, operand at %lx\n", state->rflags,
           state->fx.mxcsr, state->fx.fcw, state->fx.fsw, state->fx.ftw, address);
    for (unsigned i = 0; i < 16; i++)
        printf("    r%-2u %016lx  xmm%-2u %016lx%016lx%s", i, state->gpr[i], i,
               GUINT64_FROM_LE(*(const uint64_t *)(state->fx.xmm[i] + 8)),
               *(const uint64_t *)state->fx.xmm[i], i < 8 ? "" : "\n");
    for (unsigned i = 0; i < 8; i++)
        printf("    st%u %04x %016lx\n", i, *(const uint16_t *)(state->fx.st[i] + 8),
               *(const uint64_t *)state->fx.st[i]);
    if (address - ORACLE_DATA < ORACLE_DATA_BYTES - 32) {
        printf("    operand ");
        for (unsigned i = 0; i < 32; i++)
            printf("%02x", state->data[address - ORACLE_DATA + i]);
        printf("\n");
    }
}

/* Where the architecture leaves something open, the references follow Intel's processors: results and condition codes of
 * x87 corner cases, the order of NaNs in dot products, which of several bytes faults first. On another vendor's
 * processor a difference there is worth a note only. */
static bool counts(const struct session *session, const struct form *form, const struct oracle_state *native)
{
    return session->modelled || !(form->flags & FORM_VENDOR || native->vector == EXC_PF);
}

static void report_failure(struct session *session, unsigned tier, const struct form *form,
                           const GString *report, const struct oracle_state *before,
                           const struct oracle_state *native, uint64_t address)
{
    char *key = g_strdup_printf("%s/%s", tier_names[tier], form->name);

    if (!counts(session, form, native)) {
        session->notes++;
        g_free(key);
        return;
    }
    session->failures++;
    if (!g_hash_table_add(session->failed, key) || (int)g_hash_table_size(session->failed) > max_reports)
        return;
    printf("%s: %s:", tier_names[tier], form->name);
    for (unsigned i = 0; i < form->length; i++)
        printf(" %02x", form->bytes[i]);
    printf("   (--seed %ld --states %d --filter '%s' --tier %s)\n%s", (long)seed, states, form->name,
           tier_names[tier], report->str);
    print_state(before, address);
}

/* The generator of a form's states depends on its name, so that --filter repeats a failure. */
static void run_form(void *opaque, const struct form *form)
{
    static struct oracle_state before, native, guest;
    struct session *session = opaque;
    struct random random = {(uint64_t)seed * 0x9e3779b97f4a7c15ull ^ g_str_hash(form->name) ^
                            (uint64_t)form->bytes[form->length - 1] << 40 ^ 1ull << 63};

    if (form_can_join(form))
        g_array_append_val(session->joinable, *form);
    if (filter && !strstr(form->name, filter))
        return;
    if (verbose)
        printf("%s\n", form->name);
    session->forms++;
    oracle_native_code(form->bytes, form->length);
    for (unsigned t = 0; t < TIERS; t++)
        if (session->guests[t])
            oracle_guest_code(session->guests[t], form->bytes, form->length);
    for (int i = 0; i < states; i++) {
        uint64_t address;
        form_state(form, &random, &before, &address);
        memcpy(&native, &before, sizeof(native));
        oracle_native_run(&native);
        normalise(form, address, &native);
        session->faults += native.vector >= 0;
        for (unsigned t = 0; t < TIERS; t++) {
            if (!session->guests[t])
                continue;
            g_autoptr(GString) report = g_string_new(NULL);
            memcpy(&guest, &before, sizeof(guest));
            oracle_guest_run(session->guests[t], &guest);
            normalise(form, address, &guest);
            session->runs++;
            compare(report, form_defined_flags(form, &before), x87_matters(form, &native),
                    form->flags & FORM_ENV, data_matters(form, &native), &native, &guest);
            if (report->len)
                report_failure(session, t, form, report, &before, &native, address);
        }
    }
}

/* Blocks of several instructions: what T0 keeps in registers and flags from one to the next, and the state at a fault
 * in the middle. */
static void run_sequence(struct session *session, struct random *random)
{
    static struct oracle_state before, native, guest;
    const struct form *forms[SEQUENCE_MAX];
    struct form joined = {.flags = FORM_VECTOR};
    uint8_t bytes[128];
    unsigned length, count = 2 + random_below(random, SEQUENCE_MAX - 1);

    for (unsigned i = 0; i < count; i++)
        forms[i] =
            &g_array_index(session->joinable, struct form, random_below(random, session->joinable->len));
    count = sequence_join(forms, count, bytes, &length);
    for (unsigned i = 0; i < count; i++) {
        joined.undefined = joined.undefined == UNDEF_NONE ? forms[i]->undefined : joined.undefined;
        joined.flags |= forms[i]->flags & (FORM_STORE10 | FORM_VENDOR);
    }
    oracle_native_code(bytes, length);
    for (unsigned t = 0; t < TIERS; t++)
        if (session->guests[t])
            oracle_guest_code(session->guests[t], bytes, length);
    for (unsigned s = 0; s < 3; s++) {
        sequence_state(forms, count, random, &before);
        memcpy(&native, &before, sizeof(native));
        oracle_native_run(&native);
        normalise(&joined, 0, &native);
        for (unsigned t = 0; t < TIERS; t++) {
            if (!session->guests[t])
                continue;
            g_autoptr(GString) report = g_string_new(NULL);
            memcpy(&guest, &before, sizeof(guest));
            oracle_guest_run(session->guests[t], &guest);
            session->runs++;
            normalise(&joined, 0, &guest);
            compare(report, form_defined_flags(&joined, &before), x87_matters(&joined, &native), false,
                    data_matters(&joined, &native), &native, &guest);
            if (!report->len)
                continue;
            g_snprintf(joined.name, sizeof(joined.name), "sequence of %u", count);
            for (unsigned i = 0; i < count; i++) {
                g_string_append_printf(report, "    %s:", forms[i]->name);
                for (unsigned j = 0; j < forms[i]->length; j++)
                    g_string_append_printf(report, " %02x", forms[i]->bytes[j]);
                g_string_append_c(report, '\n');
            }
            report_failure(session, t, &joined, report, &before, &native, 0);
        }
    }
}

static bool host_is_intel(void)
{
    uint32_t eax, ebx = 0, ecx, edx;

    __get_cpuid(0, &eax, &ebx, &ecx, &edx);
    return ebx == 0x756e6547; /* "Genu" */
}

int main(int argc, char **argv)
{
    g_autoptr(GOptionContext) context =
        g_option_context_new("- compare the translator with the host's processor");
    g_autoptr(GError) error = NULL;
    struct session session = {
        .failed = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL),
        .joinable = g_array_new(FALSE, FALSE, sizeof(struct form)),
        .modelled = host_is_intel(),
    };
    static const enum engine_tier tiers[TIERS] = {ENGINE_INTERPRETER, ENGINE_T0};

    setvbuf(stdout, NULL, _IOLBF, 0);
    g_option_context_add_main_entries(context, options, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        fprintf(stderr, "%s\n", error->message);
        return 2;
    }
    int r = oracle_native_init();
    for (unsigned t = 0; t < TIERS && r == 0; t++)
        if (!tier_name || !strcmp(tier_name, tier_names[t]))
            r = oracle_guest_create(tiers[t], &session.guests[t]);
    if (r < 0) {
        fprintf(stderr, "cannot set up the oracle: %s\n", strerror(-r));
        return 2;
    }
    struct random random = {(uint64_t)seed * 0x2545f4914f6cdd1dull | 1};
    forms_each(&random, run_form, &session);
    for (int i = 0; i < sequences && (!filter || strstr("sequence", filter)); i++)
        run_sequence(&session, &random);
    printf("%lu forms, %lu comparisons, %lu native faults, %lu differences in %u forms\n", session.forms,
           session.runs, session.faults, session.failures, g_hash_table_size(session.failed));
    if (session.guests[TIER_T0]) {
        uint64_t entries = oracle_guest_stat(session.guests[TIER_T0], STAT_ENTRIES);
        printf("t0: %lu blocks compiled, entered %lu times, %lu ops by the interpreter\n",
               oracle_guest_stat(session.guests[TIER_T0], STAT_COMPILED), entries,
               oracle_guest_stat(session.guests[TIER_T0], STAT_FALLBACKS));
        session.failures += !filter && !entries; /* then nothing of it was tested */
    }
    for (unsigned t = 0; t < TIERS; t++)
        oracle_guest_destroy(session.guests[t]);
    if (session.notes)
        printf("%lu differences do not count: there the references follow another vendor's processors\n",
               session.notes);
    g_hash_table_destroy(session.failed);
    g_array_free(session.joinable, TRUE);
    return session.failures ? 1 : 0;
}
