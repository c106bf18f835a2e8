/* SPDX-License-Identifier: Apache-2.0 */
#include "translator/report.h"

#include <inttypes.h>
#include <string.h>

#include "translator/block_find.h"
#include "translator/mmu_internal.h"
#include "translator/stats.h"
#include "translator/t0/t0.h"
#include "translator/t0/t0_internal.h"
#include "translator/t0/regs.h"
#include "translator/vm.h"

#define HOST_BYTES_BEFORE 64
#define HOST_BYTES_AFTER  32
#define CHAIN_MAX         1000000u /* a list that was destroyed may have no end */

bool report_in_code(const struct x86_cpu *cpu, const uint8_t *host_pc)
{
    const struct code_cache *code = cpu->vm->code;
    return host_pc && code && host_pc >= code->rx && host_pc < code->rx + code->used;
}

/* --- registers ---------------------------------------------------------------------------------------------- */

static uint64_t guest_register(const struct x86_cpu *cpu, const struct host_fault *fault, unsigned reg)
{
    if (!report_in_code(cpu, fault->pc) || t0_host_reg[reg] == H_NONE) {
        return cpu->gpr[reg];
    }
    return fault->gpr[t0_host_reg[reg]];
}

void report_cpu(const struct x86_cpu *cpu, const struct host_fault *fault, struct text_buffer *out)
{
    static const char *const names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                        "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    static const char *const segs[] = {"es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"};
    bool in_code = report_in_code(cpu, fault->pc);
    text_append(out, "vCPU %u: %s\n", cpu->index, cpu->fatal[0] ? cpu->fatal : "no inconsistency noted");
    text_append(out, "rip %016" PRIx64 "%s rflags %08" PRIx64 " mode %05x cpl %u\n",
                in_code ? cpu->pc_base : cpu->rip, in_code ? " (its page)" : "", cpu->rflags, cpu->mode, cpu->cpl);
    for (unsigned i = 0; i < 16; i++) {
        text_append(out, "%-3s %016" PRIx64 "%c", names[i], guest_register(cpu, fault, i), i % 4 == 3 ? '\n' : ' ');
    }
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        const struct x86_seg *seg = &cpu->seg[i];
        text_append(out, "%-4s %04x base %016" PRIx64 " limit %08x attr %05x%c", segs[i], seg->sel, seg->base,
                    seg->limit, seg->attr, i % 2 ? '\n' : ' ');
    }
    text_append(out, "cr0 %08" PRIx64 " cr2 %016" PRIx64 " cr3 %016" PRIx64 " cr4 %08" PRIx64 " efer %04" PRIx64 "\n",
                cpu->cr0, cpu->cr2, cpu->cr3, cpu->cr4, cpu->efer);
    text_append(out, "xcr0 %" PRIx64 " mxcsr %04x dr7 %08" PRIx64 "\n", cpu->xcr0, cpu->mxcsr, cpu->dr[7]);
    text_append(out, "gdt %016" PRIx64 "/%04x idt %016" PRIx64 "/%04x\n", cpu->gdtr.base, cpu->gdtr.limit, cpu->idtr.base,
                cpu->idtr.limit);
    text_append(out, "exception %u error %x%s, requests %x, halted %d, shadow %d, last way out %u\n", cpu->exc.vector,
                cpu->exc.error, cpu->exc.pending ? " pending" : "", atomic_load(&cpu->requests), cpu->halted,
                cpu->interrupt_shadow, cpu->t0_exit);
}

/* --- the block ---------------------------------------------------------------------------------------------- */

/* The block whose code is the last one that begins at or before host_pc. */
static const struct block *block_of_code(const struct x86_cpu *cpu, const uint8_t *host_pc)
{
    const struct block *best = NULL;
    const uint8_t *best_entry = NULL;
    unsigned left = CHAIN_MAX;
    for (const struct block *block = cpu->vm->blocks->allocated; block && left--; block = block->next_allocated) {
        for (unsigned i = 0; i < 2 && block->t0; i++) {
            const uint8_t *entry = block->t0->entry[i];
            if (entry && entry <= host_pc && entry > best_entry) {
                best = block;
                best_entry = entry;
            }
        }
    }
    return best;
}

/* The living block that holds the instruction at cpu->rip, if its mapping is at hand. */
static const struct block *block_of_rip(const struct x86_cpu *cpu)
{
    gva_t la = cpu->seg[SEG_CS].base + cpu->rip;
    la = cpu->efer & EFER_LMA ? la : (uint32_t)la;
    const uint8_t *host = mmu_fetch_hit(cpu->mmu->table, la);
    gpa_t gpa = host ? mmu_host_to_gpa(cpu->vm, host) : BLOCK_NO_PAGE;
    unsigned left = CHAIN_MAX;
    for (const struct block *block = cpu->vm->blocks->allocated; host && block && left--;
         block = block->next_allocated) {
        if (gpa - block->gpa < block->bytes && block->mode == cpu->mode && !atomic_load(&block->dead)) {
            return block;
        }
    }
    return NULL;
}

static void append_line(void *opaque, const char *line)
{
    text_append(opaque, "  %s\n", line);
}

static void append_host_code(const struct x86_cpu *cpu, const uint8_t *host_pc, struct text_buffer *out)
{
    const struct code_cache *code = cpu->vm->code;
    const uint8_t *from = host_pc - code->rx > HOST_BYTES_BEFORE ? host_pc - HOST_BYTES_BEFORE : code->rx;
    const uint8_t *end = code->rx + code->used;
    size_t count = (size_t)(end - from);
    if (count > HOST_BYTES_BEFORE + HOST_BYTES_AFTER) {
        count = HOST_BYTES_BEFORE + HOST_BYTES_AFTER;
    }
    text_append(out, "host code around %#" PRIxPTR " (cache offset %#zx%s):\n", (uintptr_t)host_pc,
                (size_t)(host_pc - code->rx), host_pc < code->rx + code->start ? ", a thunk" : "");
    text_append_bytes(out, (uintptr_t)from, from, count);
}

void report_block(struct x86_cpu *cpu, const struct host_fault *fault, struct text_buffer *out)
{
    bool in_code = report_in_code(cpu, fault->pc);
    const struct block *block = in_code ? block_of_code(cpu, fault->pc) : block_of_rip(cpu);
    if (in_code) {
        append_host_code(cpu, fault->pc, out);
    }
    if (!block || !block->guest) {
        text_append(out, "no block is known for it\n");
        return;
    }
    text_append(out, "block at physical %#" PRIx64 ", mode %05x, %u instructions%s%s, guest bytes:\n", block->gpa,
                block->mode, block->insn_count, block_straddles(block) ? ", crosses pages" : "",
                atomic_load(&block->dead) ? ", dead" : "");
    text_append_bytes(out, cpu->pc_base + (block->gpa & 0xfff), block->guest, block->bytes);
    if (block->t0) {
        text_append(out, "its code: entries %#" PRIxPTR " and %#" PRIxPTR "\n", (uintptr_t)block->t0->entry[0],
                    (uintptr_t)block->t0->entry[1]);
    }
    struct ir_block ir;
    const struct ir_block *shown = block->ir;
    if (!shown && block_decode(cpu, block, &ir) == 0) {
        shown = &ir;
    }
    if (shown) {
        ir_dump(shown, append_line, out);
    }
}

void report_vm(const struct x86_cpu *cpu, struct text_buffer *out)
{
    static const char *const tiers[] = {"auto", "interpreter", "t0", "lockstep"};
    static const char *const states[] = {
        [VM_CPU_OUT] = "out", [VM_CPU_RUNNING] = "running", [VM_CPU_MID_INSN] = "waits in an instruction"};
    const struct translator_vm *vm = cpu->vm;
    for (unsigned i = 0; i < vm->max_cpus; i++) {
        const struct x86_cpu *other = vm->cpus[i];
        if (other && other != cpu) {
            text_append(out, "vCPU %u: about rip %016" PRIx64 " mode %05x cpl %u, %s, requests %x\n", i, other->rip,
                        other->mode, other->cpl, states[atomic_load(&vm->cpu_state[i])], atomic_load(&other->requests));
        }
    }
    text_append(out, "exclusive section: owner %d, %u wait\n", vm->exclusive_owner, vm->exclusive_waiters);
    text_append(out, "tier %s; %u blocks", tiers[vm->tier], vm->blocks->count);
    if (vm->code) {
        text_append(out, "; code cache %zu of %zu bytes, generation %u", vm->code->used, vm->code->bytes,
                    vm->code->generation);
    }
    text_append(out, "\n");
    for (unsigned i = 0; i < TRANSLATOR_STATS; i++) {
        text_append(out, "%s %" PRIu64 "%c", translator_stat_name(i), cpu->stats[i],
                    i % 4 == 3 || i == TRANSLATOR_STATS - 1 ? '\n' : ' ');
    }
}
