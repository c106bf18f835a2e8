/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files that implement the x86 system level share: register and segment access, descriptor look-up, stacks,
 * event delivery. Internal to translator/x86.
 *
 * Error rule: functions that return int return X86_OK (0), or X86_RAISE with the exception recorded and no guest
 * register changed, unless they say otherwise.
 */
#pragma once

#include <string.h>

#include "translator/engine.h"
#include "translator/mmu.h"
#include "translator/x86/cpu.h"
#include "translator/x86/state.h"
#include "translator/x86/sys.h"

#define DR6_FIXED  UINT64_C(0xffff0ff0)
#define DR6_BD     (1u << 13)
#define DR6_BS     (1u << 14)
#define DR6_BT     (1u << 15)
#define DR7_FIXED  UINT64_C(0x400)
#define DR7_GD     (1u << 13)
#define MXCSR_MASK 0xffffu
#define MXCSR_INIT 0x1f80u

#define TSS32_IO_MAP 0x66 /* offset of the I/O permission bitmap's base in a 32- or 64-bit TSS */

/* System descriptor types (SDM 3A table 3-2). */
enum x86_system_type {
    SYSTEM_TSS16 = 1,
    SYSTEM_LDT = 2,
    SYSTEM_TSS16_BUSY = 3,
    SYSTEM_CALL16 = 4,
    SYSTEM_TASK = 5,
    SYSTEM_INT16 = 6,
    SYSTEM_TRAP16 = 7,
    SYSTEM_TSS32 = 9,
    SYSTEM_TSS32_BUSY = 11,
    SYSTEM_CALL32 = 12,
    SYSTEM_INT32 = 14,
    SYSTEM_TRAP32 = 15,
};

#define ATTR_FLAT_CODE64(dpl) (0xa09bu | (dpl) << 5)
#define ATTR_FLAT_CODE32(dpl) (0xc09bu | (dpl) << 5)
#define ATTR_FLAT_DATA(dpl)   (0xc093u | (dpl) << 5)

/* --- small helpers ------------------------------------------------------------------------------------------ */

static inline bool x86_real_mode(const struct x86_cpu *cpu)
{
    return !(cpu->mode & MODE_PE);
}

static inline bool x86_v86_mode(const struct x86_cpu *cpu)
{
    return cpu->mode & MODE_VM;
}

/* Protected mode proper: neither real nor virtual-8086. */
static inline bool x86_protected(const struct x86_cpu *cpu)
{
    return (cpu->mode & (MODE_PE | MODE_VM)) == MODE_PE;
}

static inline bool x86_code64(const struct x86_cpu *cpu)
{
    return cpu->mode & MODE_CS64;
}

static inline bool x86_long_mode(const struct x86_cpu *cpu)
{
    return cpu->mode & MODE_LMA;
}

static inline unsigned x86_iopl(const struct x86_cpu *cpu)
{
    return cpu->rflags >> 12 & 3;
}

/* Virtual-8086 mode extensions: below IOPL 3 the program's IF is VIF (SDM 3A 20.3). */
static inline bool x86_v86_virtual_if(const struct x86_cpu *cpu)
{
    return x86_v86_mode(cpu) && x86_iopl(cpu) < 3 && cpu->cr4 & CR4_VME;
}

static inline bool x86_canonical(uint64_t address)
{
    return (uint64_t)((int64_t)(address << 16) >> 16) == address;
}

static inline int x86_gp0(struct x86_cpu *cpu)
{
    return x86_raise_error(cpu, EXC_GP, 0);
}

static inline uint64_t x86_size_mask(unsigned size)
{
    return size >= 8 ? UINT64_MAX : (UINT64_C(1) << size * 8) - 1;
}

/* Register write by operand size: 4 clears the upper half, 1 and 2 merge (IR_AH… too). */
static inline void x86_write_reg(struct x86_cpu *cpu, unsigned reg, unsigned size, uint64_t value)
{
    if (reg >= IR_AH && reg <= IR_BH) {
        uint64_t *gpr = &cpu->gpr[reg - IR_AH];
        *gpr = (*gpr & ~UINT64_C(0xff00)) | (value & 0xff) << 8;
    } else if (size >= 4) {
        cpu->gpr[reg] = size == 4 ? (uint32_t)value : value;
    } else {
        uint64_t mask = x86_size_mask(size);
        cpu->gpr[reg] = (cpu->gpr[reg] & ~mask) | (value & mask);
    }
}

static inline uint64_t x86_read_reg(const struct x86_cpu *cpu, unsigned reg, unsigned size)
{
    if (reg >= IR_AH && reg <= IR_BH) {
        return cpu->gpr[reg - IR_AH] >> 8 & 0xff;
    }
    return cpu->gpr[reg] & x86_size_mask(size);
}

/* src|mem and dst|mem of a system instruction. */
int x86_sys_read(struct x86_cpu *cpu, const struct ir_op *op, unsigned size, uint64_t *ret_value);
/* Registers get `reg_size` bytes, memory `mem_size`. */
int x86_sys_write(struct x86_cpu *cpu, const struct ir_op *op, unsigned reg_size, unsigned mem_size,
                  uint64_t value);

/* An interrupt that was held back may be takeable now: has x86_run() look again. */
void x86_irq_recheck(struct x86_cpu *cpu);
/* 16-bit FLAGS as a program in virtual-8086 mode sees and loads them; #GP for what must reach the monitor. sys_flags.c */
uint64_t x86_v86_flags_image(const struct x86_cpu *cpu);
int x86_v86_flags_load(struct x86_cpu *cpu, uint64_t image);
/* IRET: NMIs may be delivered again. run.c */
void x86_unblock_nmi(struct x86_cpu *cpu);

/* Replaces RFLAGS with everything that follows from it (mode, MMU context, interrupts). */
void x86_set_rflags(struct x86_cpu *cpu, uint64_t rflags);
/* CPL := DPL of the new CS etc. Sets the field only; x86_update_mode() follows. */
void x86_set_flat_segment(struct x86_seg *seg, uint16_t selector, uint32_t attr);

/* --- segments (segment.c) ----------------------------------------------------------------------------------- */

static inline uint64_t x86_desc_base(uint64_t raw)
{
    return (raw >> 16 & 0xffffff) | (raw >> 56 << 24);
}

static inline uint32_t x86_desc_attr(uint64_t raw)
{
    return raw >> 40 & 0xf0ff;
}

static inline uint32_t x86_desc_limit(uint64_t raw)
{
    uint32_t limit = (raw & 0xffff) | (raw >> 32 & 0xf0000);
    return x86_desc_attr(raw) & SEG_ATTR_G ? limit << 12 | 0xfff : limit;
}

static inline unsigned x86_attr_dpl(uint32_t attr)
{
    return attr >> 5 & 3;
}

static inline bool x86_attr_is_code(uint32_t attr)
{
    return (attr & (SEG_ATTR_S | SEG_TYPE_CODE)) == (SEG_ATTR_S | SEG_TYPE_CODE);
}

static inline bool x86_attr_is_data(uint32_t attr)
{
    return (attr & (SEG_ATTR_S | SEG_TYPE_CODE)) == SEG_ATTR_S;
}

static inline bool x86_attr_is_writable(uint32_t attr)
{
    return x86_attr_is_data(attr) && attr & SEG_TYPE_WRITABLE;
}

static inline bool x86_selector_null(uint16_t selector)
{
    return selector < 4;
}

/* Reads a descriptor. Beyond its table's limit: `vector`(selector | ext). */
int x86_desc_read(struct x86_cpu *cpu, uint16_t selector, enum x86_vector vector, unsigned ext,
                  uint64_t *ret_raw);
/* Second half of a 16-byte descriptor. */
int x86_desc_read_high(struct x86_cpu *cpu, uint16_t selector, enum x86_vector vector, unsigned ext,
                       uint64_t *ret_raw);
/* Sets the accessed bit in memory if it is clear. */
int x86_desc_set_accessed(struct x86_cpu *cpu, uint16_t selector, uint64_t *raw);
/* Sets (or clears) the busy bit of a TSS descriptor. */
int x86_desc_set_busy(struct x86_cpu *cpu, uint16_t selector, bool busy);
/* Fills a segment register from a descriptor. */
void x86_seg_from_desc(struct x86_seg *seg, uint16_t selector, uint64_t raw);
/* Segment register values in real and virtual-8086 mode. */
void x86_seg_real(struct x86_cpu *cpu, enum x86_seg_reg reg, uint16_t selector);

/* MOV/POP/Lxx to a data or stack segment with all checks of the present mode. Does not call x86_update_mode(). */
int x86_load_segment(struct x86_cpu *cpu, enum x86_seg_reg reg, uint16_t selector);
/* Checks a stack segment for privilege `cpl`: errors are `vector`(selector | ext), #SS when not present. */
int x86_check_stack_desc(struct x86_cpu *cpu, uint16_t selector, unsigned cpl, enum x86_vector vector,
                         unsigned ext, uint64_t *ret_raw);
/* After a return to an outer privilege: data segments that it may not have become null (SDM 2A IRET). */
void x86_drop_inner_segments(struct x86_cpu *cpu);
/* Loads LDTR; null makes it unusable. Errors: `vector`(selector). */
int x86_load_ldt(struct x86_cpu *cpu, uint16_t selector, enum x86_vector vector);
/* Limit and type check of an access; #GP(0), or #SS(0) for SS. No-op in 64-bit code. Linear address in *ret_la. */
int x86_seg_address(struct x86_cpu *cpu, enum x86_seg_reg reg, uint64_t offset, unsigned size, bool write,
                    gva_t *ret_la);

/* --- stacks (stack.c) --------------------------------------------------------------------------------------- */

/* A stack while values are pushed on or popped off it; `sp` goes to RSP when all has succeeded. */
struct x86_stack {
    uint64_t sp, mask;
    const struct x86_seg *ss;
    bool code64;    /* addresses are not segmented */
    uint8_t cpl;    /* rights of the accesses: 0-2 supervisor, 3 user */
    uint32_t error; /* error code of #SS */
};

void x86_stack_current(struct x86_cpu *cpu, struct x86_stack *ret_stack);
int x86_stack_push(struct x86_cpu *cpu, struct x86_stack *stack, unsigned size, uint64_t value);
int x86_stack_pop(struct x86_cpu *cpu, struct x86_stack *stack, unsigned size, uint64_t *ret_value);
/* RSP := stack->sp, under its mask. */
void x86_stack_commit(struct x86_cpu *cpu, const struct x86_stack *stack);

/* --- events ------------------------------------------------------------------------------------------------- */

struct x86_event {
    uint8_t vector;
    bool has_error;
    bool software; /* INT n, INT3, INTO: the gate's DPL is checked */
    uint8_t ext;   /* EXT bit of error codes */
    uint32_t error;
    uint64_t return_rip;
    uint64_t rflags; /* image to push */
};

/* One attempt at delivery: X86_JUMP, or X86_RAISE with the fault that it met. */
int x86_event_enter(struct x86_cpu *cpu, const struct x86_event *event);
int x86_event_real(struct x86_cpu *cpu, const struct x86_event *event);
int x86_event_protected(struct x86_cpu *cpu, const struct x86_event *event);
int x86_event_long(struct x86_cpu *cpu, const struct x86_event *event);

/* RSPn/ISTn of the 64-bit TSS at byte `offset`; SSn:ESPn of a legacy TSS. */
int x86_tss_stack64(struct x86_cpu *cpu, unsigned offset, unsigned ext, uint64_t *ret_rsp);
int x86_tss_stack(struct x86_cpu *cpu, unsigned cpl, unsigned ext, uint16_t *ret_ss, uint32_t *ret_esp);

enum x86_task_reason { TASK_JUMP, TASK_CALL, TASK_IRET, TASK_EVENT };
/* Switches to the task of the TSS `selector` with `next_rip` as the old task's return address; `raw` is its descriptor
 * (privilege and present already checked). X86_JUMP or X86_RAISE. */
int x86_task_switch(struct x86_cpu *cpu, uint16_t selector, uint64_t raw, enum x86_task_reason reason,
                    uint64_t next_rip, const struct x86_event *event);

/* --- state images (xsave.c); the whole-vCPU ones are in state.h ----------------------------------------------- */

/* Bytes of the standard or compacted image for the components in `mask`. */
uint32_t x86_xsave_bytes(uint64_t mask, bool compacted);

/* --- MSRs and CPUID ----------------------------------------------------------------------------------------- */

/* 0, or -EINVAL for #GP. */
int x86_msr_read(struct x86_cpu *cpu, uint32_t msr, uint64_t *ret_value);
int x86_msr_write(struct x86_cpu *cpu, uint32_t msr, uint64_t value);
/* MAXPHYADDR. */
unsigned x86_phys_bits(const struct x86_cpu *cpu);
/* CR4 bits that the offered features define. */
uint64_t x86_cr4_defined(const struct x86_cpu *cpu);
/* XCR0 bits that CPUID offers; whether a value is one that XSETBV accepts. */
bool x86_xcr0_valid(const struct x86_cpu *cpu, uint64_t value);
uint64_t x86_xcr0_offered(const struct x86_cpu *cpu);

/* --- handlers, one per enum x86_sys ------------------------------------------------------------------------- */

#define X86_SYS_HANDLER(name) int x86_sys_##name(struct x86_cpu *cpu, const struct ir_op *op)
X86_SYS_HANDLER(cpuid);
X86_SYS_HANDLER(rdmsr);
X86_SYS_HANDLER(wrmsr);
X86_SYS_HANDLER(mov_from_cr);
X86_SYS_HANDLER(mov_to_cr);
X86_SYS_HANDLER(mov_from_dr);
X86_SYS_HANDLER(mov_to_dr);
X86_SYS_HANDLER(clts);
X86_SYS_HANDLER(lmsw);
X86_SYS_HANDLER(smsw);
X86_SYS_HANDLER(load_table);
X86_SYS_HANDLER(store_table);
X86_SYS_HANDLER(lldt);
X86_SYS_HANDLER(ltr);
X86_SYS_HANDLER(store_system_selector);
X86_SYS_HANDLER(lar_lsl);
X86_SYS_HANDLER(verify);
X86_SYS_HANDLER(arpl);
X86_SYS_HANDLER(mov_to_seg);
X86_SYS_HANDLER(mov_from_seg);
X86_SYS_HANDLER(pop_seg);
X86_SYS_HANDLER(push_seg);
X86_SYS_HANDLER(load_far_ptr);
X86_SYS_HANDLER(jmp_far);
X86_SYS_HANDLER(call_far);
X86_SYS_HANDLER(ret_far);
X86_SYS_HANDLER(iret);
X86_SYS_HANDLER(int_n);
X86_SYS_HANDLER(into);
X86_SYS_HANDLER(int1);
X86_SYS_HANDLER(bound);
X86_SYS_HANDLER(syscall);
X86_SYS_HANDLER(sysret);
X86_SYS_HANDLER(sysenter);
X86_SYS_HANDLER(sysexit);
X86_SYS_HANDLER(swapgs);
X86_SYS_HANDLER(fsgsbase);
X86_SYS_HANDLER(pushf);
X86_SYS_HANDLER(popf);
X86_SYS_HANDLER(cli);
X86_SYS_HANDLER(sti);
X86_SYS_HANDLER(clac_stac);
X86_SYS_HANDLER(invlpg);
X86_SYS_HANDLER(invpcid);
X86_SYS_HANDLER(cache);
X86_SYS_HANDLER(clflush);
X86_SYS_HANDLER(in);
X86_SYS_HANDLER(out);
X86_SYS_HANDLER(ins);
X86_SYS_HANDLER(outs);
X86_SYS_HANDLER(enter);
X86_SYS_HANDLER(pusha);
X86_SYS_HANDLER(popa);
X86_SYS_HANDLER(decimal);
X86_SYS_HANDLER(xlat);
X86_SYS_HANDLER(fxsave);
X86_SYS_HANDLER(fxrstor);
X86_SYS_HANDLER(xsave);
X86_SYS_HANDLER(xrstor);
X86_SYS_HANDLER(xgetbv);
X86_SYS_HANDLER(xsetbv);
X86_SYS_HANDLER(pkru);
X86_SYS_HANDLER(ldmxcsr);
X86_SYS_HANDLER(stmxcsr);
X86_SYS_HANDLER(fwait);
X86_SYS_HANDLER(maskmov);
