/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interpreter: MOVS, STOS, LODS, CMPS, SCAS.
 *
 * Registers always describe a boundary between two iterations, so that a fault or an interrupt leaves an instruction
 * that goes on where it stopped. Runs of MOVS and STOS that lie within a page each go through host pointers; the result
 * equals that of single iterations, also when source and destination overlap.
 */
#include "translator/interp_internal.h"

#define POLL_ITERATIONS 256 /* slow iterations between two looks at cpu->requests */
#define PAGE_BYTES      4096u

struct string {
    const struct ir_op *op;
    uint64_t count; /* iterations left (1 without a repeat prefix) */
    bool repeat;
    bool checked; /* alignment, each time */
    int64_t step; /* +size or -size */
};

static int source_address(struct x86_cpu *cpu, const struct ir_op *op, gva_t *ret_la)
{
    uint64_t offset = size_truncate(cpu->gpr[IR_RSI], op->aux);
    *ret_la = interp_linear(cpu, op->src, offset);
    if (op->flags & IRF_SEGCHECK && op->src != IR_NONE)
        return interp_seg_check(cpu, op->src, offset, op->size, false);
    return X86_OK;
}

/* ES:rDI; no override. */
static int destination_address(struct x86_cpu *cpu, const struct ir_op *op, bool write, gva_t *ret_la)
{
    uint64_t offset = size_truncate(cpu->gpr[IR_RDI], op->aux);
    if (!(op->flags & IRF_SEGCHECK)) {
        *ret_la = offset;
        return X86_OK;
    }
    *ret_la = interp_linear(cpu, SEG_ES, offset);
    return interp_seg_check(cpu, SEG_ES, offset, op->size, write);
}

static void advance(struct x86_cpu *cpu, struct string *s, bool source, bool destination, uint64_t iterations)
{
    unsigned asize = s->op->aux;
    uint64_t distance = (uint64_t)s->step * iterations;
    if (source)
        reg_set(cpu, IR_RSI, cpu->gpr[IR_RSI] + distance, asize);
    if (destination)
        reg_set(cpu, IR_RDI, cpu->gpr[IR_RDI] + distance, asize);
    s->count -= iterations;
    if (s->repeat)
        reg_set(cpu, IR_RCX, s->count, asize);
}

/* --- bulk runs ---------------------------------------------------------------------------------------------- */

/* Iterations from the page offset of `la` that stay within its page. */
static uint64_t page_iterations(gva_t la, unsigned size)
{
    return (PAGE_BYTES - (la & (PAGE_BYTES - 1))) / size;
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Iterations before rSI or rDI wrap around the address size. */
static uint64_t wrap_iterations(uint64_t offset, const struct ir_op *op)
{
    return op->aux == 8 ? UINT64_MAX : (size_mask(op->aux) - size_truncate(offset, op->aux)) / op->size;
}

static bool bulk_possible(const struct string *s)
{
    return s->repeat && s->count >= 4 && s->step > 0 && !(s->op->flags & IRF_SEGCHECK) && !s->checked;
}

/* Copies upwards as single iterations of `size` would. */
static void copy_upwards(uint8_t *dst, const uint8_t *src, uint64_t bytes, unsigned size)
{
    uint64_t distance = (uint64_t)(dst - src);
    if (distance >= bytes) { /* behind the source's end, or below the source */
        memmove(dst, src, bytes);
        return;
    }
    for (uint64_t i = 0; i < bytes; i += size) {
        uint64_t value;
        memcpy(&value, src + i, size);
        memcpy(dst + i, &value, size);
    }
}

/* Returns the iterations done, 0 when a single slow one is needed. */
static uint64_t movs_bulk(struct x86_cpu *cpu, struct string *s)
{
    const struct ir_op *op = s->op;
    gva_t from, to;
    source_address(cpu, op, &from);
    destination_address(cpu, op, true, &to);
    uint64_t n = min_u64(min_u64(s->count, page_iterations(from, op->size)), page_iterations(to, op->size));
    n = min_u64(n, min_u64(wrap_iterations(cpu->gpr[IR_RSI], op), wrap_iterations(cpu->gpr[IR_RDI], op)));
    if (!n)
        return 0;
    uint8_t *dst = mmu_host(cpu, to, (unsigned)(n * op->size), MMU_WRITE);
    const uint8_t *src = dst ? mmu_host(cpu, from, (unsigned)(n * op->size), MMU_READ) : NULL;
    if (!src)
        return 0;
    copy_upwards(dst, src, n * op->size, op->size);
    advance(cpu, s, true, true, n);
    return n;
}

static void fill(uint8_t *dst, uint64_t value, uint64_t n, unsigned size)
{
    uint64_t mask = UINT64_MAX >> (64 - size * 8);
    if ((value & mask) == (UINT64_C(0x0101010101010101) * (uint8_t)value & mask)) {
        memset(dst, (uint8_t)value, n * size); /* clearing a page, most of all */
        return;
    }
    for (uint64_t i = 0; i < n; i++)
        memcpy(dst + i * size, &value, size);
}

static uint64_t stos_bulk(struct x86_cpu *cpu, struct string *s)
{
    const struct ir_op *op = s->op;
    gva_t to;
    destination_address(cpu, op, true, &to);
    uint64_t n =
        min_u64(min_u64(s->count, page_iterations(to, op->size)), wrap_iterations(cpu->gpr[IR_RDI], op));
    uint8_t *dst = n ? mmu_host(cpu, to, (unsigned)(n * op->size), MMU_WRITE) : NULL;
    if (!dst)
        return 0;
    fill(dst, cpu->gpr[IR_RAX], n, op->size);
    advance(cpu, s, false, true, n);
    return n;
}

/* --- single iterations -------------------------------------------------------------------------------------- */

static int movs_one(struct x86_cpu *cpu, struct string *s)
{
    gva_t from, to;
    uint64_t value;
    int r = source_address(cpu, s->op, &from);
    if (r == X86_OK)
        r = mem_load(cpu, from, s->op->size, &value);
    if (r == X86_OK)
        r = destination_address(cpu, s->op, true, &to);
    if (r == X86_OK)
        r = mem_store(cpu, to, s->op->size, value);
    if (r == X86_OK)
        advance(cpu, s, true, true, 1);
    return r;
}

static int stos_one(struct x86_cpu *cpu, struct string *s)
{
    gva_t to;
    int r = destination_address(cpu, s->op, true, &to);
    if (r == X86_OK)
        r = mem_store(cpu, to, s->op->size, cpu->gpr[IR_RAX]);
    if (r == X86_OK)
        advance(cpu, s, false, true, 1);
    return r;
}

static int lods_one(struct x86_cpu *cpu, struct string *s)
{
    gva_t from;
    uint64_t value;
    int r = source_address(cpu, s->op, &from);
    if (r == X86_OK)
        r = mem_load(cpu, from, s->op->size, &value);
    if (r != X86_OK)
        return r;
    reg_set(cpu, IR_RAX, value, s->op->size);
    advance(cpu, s, true, false, 1);
    return X86_OK;
}

/* CMPS: [rSI] - [rDI]; SCAS: rAX - [rDI]. Processors load [rDI] first, which tells when both fault. */
static int compare_one(struct x86_cpu *cpu, struct string *s)
{
    const struct ir_op *op = s->op;
    gva_t from, to;
    uint64_t a = size_truncate(cpu->gpr[IR_RAX], op->size), b;
    int r = destination_address(cpu, op, false, &to);
    if (r == X86_OK)
        r = mem_load(cpu, to, op->size, &b);
    if (r == X86_OK && op->sub == IR_CMPS) {
        r = source_address(cpu, op, &from);
        if (r == X86_OK)
            r = mem_load(cpu, from, op->size, &a);
    }
    if (r != X86_OK)
        return r;
    flags_set(cpu, FLAGS_ARITH, flags_sub(a, b, a - b, op->size));
    advance(cpu, s, op->sub == IR_CMPS, true, 1);
    return X86_OK;
}

static int string_one(struct x86_cpu *cpu, struct string *s)
{
    switch ((enum ir_string)s->op->sub) {
    case IR_MOVS:
        return movs_one(cpu, s);
    case IR_STOS:
        return stos_one(cpu, s);
    case IR_LODS:
        return lods_one(cpu, s);
    default:
        return compare_one(cpu, s);
    }
}

static bool string_bulk(struct x86_cpu *cpu, struct string *s)
{
    if (!bulk_possible(s))
        return false;
    return s->op->sub == IR_MOVS ? movs_bulk(cpu, s) : s->op->sub == IR_STOS ? stos_bulk(cpu, s) : false;
}

/* Does the comparison just made end a REPE or REPNE? */
static bool comparison_ends(const struct x86_cpu *cpu, const struct ir_op *op)
{
    if (op->sub != IR_CMPS && op->sub != IR_SCAS)
        return false;
    bool zero = cpu->rflags & FLAG_ZF;
    return zero != !!(op->flags & IRF_REP);
}

/* A trap comes after this iteration: a single step, or a data breakpoint that it met. */
static bool traps(const struct x86_cpu *cpu)
{
    return cpu->mode & MODE_TF || cpu->debug_hits;
}

static bool must_stop(const struct x86_cpu *cpu)
{
    return traps(cpu) || cpu->code_changed ||
           atomic_load_explicit(&((struct x86_cpu *)cpu)->requests, memory_order_relaxed);
}

int interp_string(struct x86_cpu *cpu, const struct ir_op *op)
{
    struct string s = {
        .op = op,
        .count = 1,
        .repeat = op->flags & (IRF_REP | IRF_REPNE),
        .checked = cpu->mode & MODE_AC,
        .step = cpu->rflags & FLAG_DF ? -(int64_t)op->size : op->size,
    };
    if (!s.repeat)
        return string_one(cpu, &s);

    uint64_t flags = cpu->rflags;
    s.count = size_truncate(cpu->gpr[IR_RCX], op->aux);
    for (unsigned i = 1; s.count; i++) {
        bool bulk = string_bulk(cpu, &s);
        if (!bulk) {
            int r = string_one(cpu, &s);
            if (r != X86_OK) {
                cpu->rflags = flags; /* a faulting REP CMPS or SCAS has not changed the flags */
                return r;
            }
            if (comparison_ends(cpu, op))
                break;
        }
        if ((bulk || i % POLL_ITERATIONS == 0 || traps(cpu) || cpu->code_changed) && s.count &&
            must_stop(cpu))
            return x86_string_stop(cpu);
    }
    return X86_OK;
}
