/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Debug exceptions (SDM 3B 17.2, 17.3), in both widths: single step, instruction, data and I/O breakpoints, general detect, DR6,
 * RF in every kind of pushed image, and what MOV SS holds back.
 */
#include "metal.h"

#ifdef __x86_64__
const char metal_name[] = "debug64";
#else
const char metal_name[] = "debug32";
#endif

#define FLAG_TF (1u << 8)
#define FLAG_RF (1u << 16)
#define DR6_BD  (1u << 13)
#define DR6_BS  (1u << 14)
#define CR4_DE  (1u << 3)

/* DR7 of breakpoint n: enabled, kind, length. */
enum { EXECUTE = 0, WRITE = 1, IO = 2, ACCESS = 3 };
enum { BYTES_1 = 0, BYTES_2 = 1, BYTES_8 = 2, BYTES_4 = 3 };
#define BREAK(n, kind, length) (2u << 2 * (n) | (word)((kind) | (length) << 2) << (16 + 4 * (n)))

/* What #DB reported, one after the other; its handler continues. */
static struct hit {
    word ip, dr6, flags;
} hits[32];
static unsigned hit_count, stop_after;

static bool on_debug(struct metal_frame *frame)
{
    if (frame->vector != V_DB) {
        return false;
    }
    if (hit_count < sizeof(hits) / sizeof(hits[0])) {
        hits[hit_count] = (struct hit){frame->ip, dr6_read(), frame->flags};
    }
    hit_count++;
    dr6_write(0);
    if (hit_count >= stop_after) {
        frame->flags &= ~(word)FLAG_TF;
    }
    frame->flags |= FLAG_RF; /* an instruction breakpoint is passed once */
    return true;
}

static unsigned run(void (*body)(void), unsigned steps)
{
    hit_count = 0;
    stop_after = steps;
    dr6_write(0);
    metal_hook = on_debug;
    unsigned vector = metal_try(body);
    metal_hook = NULL;
    dr7_write(0x400);
    return vector;
}

#define CAUSE(hit) ((hit).dr6 & 0xe00f)

/* TF comes with the POPF; the trap follows the instruction after it. */
#define SET_TF "pushf; " METAL_OR " $0x100, (%%" METAL_SP "); popf; "
#ifdef __x86_64__
#define METAL_SP  "rsp"
#define METAL_OR  "orq"
#define METAL_AND "andq"
#else
#define METAL_SP  "esp"
#define METAL_OR  "orl"
#define METAL_AND "andl"
#endif

#define LABELS(...) extern uint8_t __VA_ARGS__

/* --- single step ---------------------------------------------------------------------------------------------------- */

static void step_plain(void)
{
    __asm__ volatile(SET_TF "s0: nop; s1: xor %%eax, %%eax; s2: inc %%eax; s3:" ::: "eax", "memory", "cc");
}
LABELS(s0[], s1[], s2[], s3[]);

static void step_clear(void)
{
    __asm__ volatile(SET_TF "c0: pushf; c1: " METAL_AND " $~0x100, (%%" METAL_SP "); c2: popf; c3: nop" ::
                         : "memory", "cc");
}
LABELS(c1[], c2[], c3[]);

static void step_string(void)
{
    static uint8_t from[4], to[4];
    word si = (word)from, di = (word)to, cx = 3;
    __asm__ volatile("cld; " SET_TF "r0: rep movsb; r1: nop; r2:"
                     : "+S"(si), "+D"(di), "+c"(cx)::"memory", "cc");
}
LABELS(r0[], r1[], r2[]);

static void step_stack_segment(void)
{
    __asm__ volatile("mov %%ss, %%eax; " SET_TF "m0: mov %%eax, %%ss; m1: nop; m2: nop; m3:" ::
                         : "eax", "memory", "cc");
}
LABELS(m2[], m3[]);

static word int_flags;
static bool on_int(struct metal_frame *frame)
{
    if (frame->vector == 0x60) {
        int_flags = frame->flags;
        return true;
    }
    return on_debug(frame);
}

static void step_int(void)
{
    metal_hook = on_int;
    __asm__ volatile(SET_TF "i0: int $0x60; i1: nop; i2:" ::: "memory", "cc");
}
LABELS(i1[], i2[]);

static void step_iret(void)
{
#ifdef __x86_64__
    __asm__ volatile("mov %%rsp, %%rax; mov %%ss, %%ecx; push %%rcx; push %%rax; pushf; orq $0x100, (%%rsp); "
                     "mov %%cs, %%ecx; push %%rcx;"
                     "push $t0; iretq; t0: nop; t1: nop" ::
                         : "rax", "rcx", "memory", "cc");
#else
    __asm__ volatile("pushf; orl $0x100, (%%esp); push %%cs; push $t0; iret; t0: nop; t1: nop" ::
                         : "memory", "cc");
#endif
}
LABELS(t0[], t1[]);

static void step_branch(void)
{
    __asm__ volatile(SET_TF "b0: jmp b2; b1: nop; b2: call b3; b3: add %0, %%" METAL_SP ::"i"(sizeof(word))
                     : "memory", "cc");
}
LABELS(b2[], b3[]);

static void step_fault(void)
{
    __asm__ volatile(SET_TF "f0: ud2" ::: "memory");
}
LABELS(f0[]);

static void single_step(void)
{
    CHECK(run(step_plain, 3), V_NONE);
    CHECK(hit_count, 3);
    static uint8_t *const plain[] = {s1, s2, s3};
    for (unsigned i = 0; i < 3; i++) {
        CHECK(hits[i].ip, (word)plain[i]);
        CHECK(CAUSE(hits[i]), DR6_BS);
        CHECK(hits[i].flags & (FLAG_RF | FLAG_TF), FLAG_TF);
    }
    /* The POPF that clears TF still traps. */
    CHECK(run(step_clear, 99), V_NONE);
    CHECK(hit_count, 3);
    CHECK(hits[0].ip, (word)c1);
    CHECK(hits[1].ip, (word)c2);
    CHECK(hits[2].ip, (word)c3);
    CHECK(hits[2].flags & FLAG_TF, 0);
    /* Each iteration; RF in the image but after the last (17.3.1.1). */
    CHECK(run(step_string, 4), V_NONE);
    CHECK(hits[0].ip, (word)r0);
    CHECK(hits[0].flags & FLAG_RF, FLAG_RF);
    CHECK(hits[1].ip, (word)r0);
    CHECK(hits[2].ip, (word)r1);
    CHECK(hits[2].flags & FLAG_RF, 0);
    CHECK(hits[3].ip, (word)r2);
    /* MOV to SS holds the trap back by one instruction (6.8.3). */
    CHECK(run(step_stack_segment, 2), V_NONE);
    CHECK(hits[0].ip, (word)m2);
    CHECK(hits[1].ip, (word)m3);
    /* INT n clears TF after it has pushed it: no trap at the handler, one behind its IRET's next instruction. */
    CHECK(run(step_int, 1), V_NONE);
    CHECK(int_flags & FLAG_TF, FLAG_TF);
    CHECK(hits[0].ip, (word)i2);
    /* IRET to TF: the next instruction, then the trap. */
    CHECK(run(step_iret, 1), V_NONE);
    CHECK(hits[0].ip, (word)t1);
    CHECK(run(step_branch, 2), V_NONE);
    CHECK(hits[0].ip, (word)b2);
    CHECK(hits[1].ip, (word)b3);
    /* A fault comes instead of the trap, with TF in its image. */
    CHECK(run(step_fault, 1), V_UD);
    CHECK(hit_count, 0);
    CHECK(metal_trap.ip, (word)f0);
    CHECK(metal_trap.flags & (FLAG_TF | FLAG_RF), FLAG_TF | FLAG_RF);
}

/* --- instruction breakpoints ----------------------------------------------------------------------------------------- */

static void three_nops(void)
{
    __asm__ volatile("x0: nop; x1: nop; x2: nop; x3:" ::: "memory");
}
LABELS(x0[], x1[], x2[]);

static void x_after_mov_ss(void)
{
    __asm__ volatile("mov %%ss, %%eax; mov %%eax, %%ss; y0: nop; y1: nop" ::: "eax", "memory");
}
LABELS(y0[], y1[]);

static void instruction_breakpoints(void)
{
    dr0_write((word)x1);
    dr1_write((word)x2);
    dr7_write(BREAK(0, EXECUTE, BYTES_1) | BREAK(1, EXECUTE, BYTES_1));
    CHECK(run(three_nops, 99), V_NONE);
    CHECK(hit_count, 2);
    CHECK(hits[0].ip, (word)x1);
    CHECK(CAUSE(hits[0]), 1);
    CHECK(hits[0].flags & FLAG_RF, 0); /* pushed as it was */
    CHECK(hits[1].ip, (word)x2);
    CHECK(CAUSE(hits[1]), 2);
    /* Two on one instruction are reported together; with single step before it, in two exceptions or one. */
    dr1_write((word)x1);
    dr7_write(BREAK(0, EXECUTE, BYTES_1) | BREAK(1, EXECUTE, BYTES_1));
    CHECK(run(three_nops, 99), V_NONE);
    CHECK(hit_count, 1);
    CHECK(CAUSE(hits[0]), 3);
    /* Not enabled: not reported as a break. */
    dr7_write(BREAK(0, EXECUTE, BYTES_1) & ~3ul);
    CHECK(run(three_nops, 99), V_NONE);
    CHECK(hit_count, 0);
    /* Behind MOV to SS it is not seen (17.3.1.1). */
    dr0_write((word)y0);
    dr1_write((word)y1);
    dr7_write(BREAK(0, EXECUTE, BYTES_1) | BREAK(1, EXECUTE, BYTES_1));
    CHECK(run(x_after_mov_ss, 99), V_NONE);
    CHECK(hit_count, 1);
    CHECK(hits[0].ip, (word)y1);
}

/* --- data breakpoints ------------------------------------------------------------------------------------------------- */

static uint8_t data[32] __attribute__((aligned(32)));
static unsigned data_at, data_size;
static bool data_write;

static void access(void)
{
    uint8_t *p = data + data_at;
    if (data_size == 1) {
        data_write ? (void)(*(volatile uint8_t *)p = 1) : (void)*(volatile uint8_t *)p;
    } else if (data_size == 2) {
        data_write ? (void)(*(volatile uint16_t *)p = 1) : (void)*(volatile uint16_t *)p;
    } else if (data_size == 4) {
        data_write ? (void)(*(volatile uint32_t *)p = 1) : (void)*(volatile uint32_t *)p;
    } else {
        data_write ? (void)(*(volatile uint64_t *)p = 1) : (void)*(volatile uint64_t *)p;
    }
}

static void data_after(void)
{
    __asm__ volatile("d0: movl $1, %0; d1: nop" : "=m"(data[8])::"memory");
}
LABELS(d1[]);

static void data_string(void)
{
    word di = (word)data, cx = 16;
    __asm__ volatile("cld; e0: rep stosb; e1: nop" : "+D"(di), "+c"(cx) : "a"(0) : "memory");
}
LABELS(e0[], e1[]);

static void data_mov_ss(void)
{
    *(volatile uint16_t *)(data + 8) = SEL_DATA;
    __asm__ volatile("g0: mov %0, %%ss; g1: nop; g2: nop" ::"m"(data[8]) : "memory");
}
LABELS(g2[]);

static void data_breakpoints(void)
{
    static const unsigned lengths[] = {[BYTES_1] = 1, [BYTES_2] = 2, [BYTES_8] = 8, [BYTES_4] = 4};
    for (unsigned length = 0; length < 4; length++) {
        if (length == BYTES_8 && sizeof(word) == 4) {
            continue;
        }
        for (unsigned kind = WRITE; kind <= ACCESS; kind += 2) {
            for (unsigned size = 1; size <= sizeof(word); size *= 2) {
                for (unsigned at = 1; at < 24; at++) {
                    for (unsigned write = 0; write < 2; write++) {
                        bool touches = at < 8 + lengths[length] && at + size > 8;
                        data_at = at;
                        data_size = size;
                        data_write = write;
                        dr3_write((word)data + 8);
                        dr7_write(BREAK(3, kind, length));
                        run(access, 99);
                        metal_check("a data breakpoint", hit_count, touches && (write || kind == ACCESS));
                        if (hit_count) {
                            metal_check("its cause", CAUSE(hits[0]), 8);
                        }
                    }
                }
            }
        }
    }
    dr0_write((word)data + 8);
    dr7_write(BREAK(0, WRITE, BYTES_4));
    run(data_after, 99);
    CHECK(hits[0].ip, (word)d1); /* a trap: after the instruction, which is done */
    CHECK(hits[0].flags & FLAG_RF, 0);
    CHECK(*(uint32_t *)(data + 8), 1);
    dr7_write(BREAK(0, WRITE, BYTES_1));
    run(data_string, 99);
    CHECK(hit_count, 1);
    CHECK(hits[0].ip == (word)e0 || hits[0].ip == (word)e1,
          true); /* after the iteration; fast strings may be late */
    dr7_write(BREAK(0, ACCESS, BYTES_2));
    run(data_mov_ss, 99);
    CHECK(hit_count >= 1, true);
    CHECK(hits[hit_count - 1].ip, (word)g2);
}

/* --- I/O breakpoints, DR4 and DR5, general detect ------------------------------------------------------------------------- */

static void port_in(void)
{
    __asm__ volatile("mov $0x3fd, %%edx; in %%dx, %%al; p1: nop" ::: "eax", "edx");
}
LABELS(p1[]);

static void port_in16(void)
{
    __asm__ volatile("mov $0x3fc, %%edx; in %%dx, %%ax; nop" ::: "eax", "edx");
}

static void read_dr4(void)
{
    __asm__ volatile(".byte 0x0f, 0x21, 0xe0" ::: METAL_AX);
}

static void write_dr5(void)
{
    __asm__ volatile("mov $0x400, %%eax; .byte 0x0f, 0x23, 0xe8" ::: METAL_AX);
}

static void io_and_detect(void)
{
    CHECK(metal_try(read_dr4), V_NONE); /* DR6, while CR4.DE is clear */
    CHECK(metal_try(write_dr5), V_NONE);
    CHECK(dr7_read(), 0x400);
    cr4_write(cr4_read() | CR4_DE);
    CHECK(metal_try(read_dr4), V_UD);
    CHECK(metal_try(write_dr5), V_UD);
    dr0_write(0x3fd);
    dr7_write(BREAK(0, IO, BYTES_1));
    run(port_in, 99);
    CHECK(hit_count, 1);
    CHECK(hits[0].ip, (word)p1);
    dr7_write(BREAK(0, IO, BYTES_1));
    run(port_in16, 99);
    CHECK(hit_count, 1);
    dr0_write(0x3f8);
    dr7_write(BREAK(0, IO, BYTES_4));
    run(port_in, 99);
    CHECK(hit_count, 0);
    cr4_write(cr4_read() & ~(word)CR4_DE);
}

static void touch_dr0(void)
{
    __asm__ volatile("q0: mov %%dr0, %%" METAL_AX "; q1: nop" ::: METAL_AX);
}
LABELS(q0[]);

static word dr7_in_handler;
static bool on_detect(struct metal_frame *frame)
{
    if (frame->vector == V_DB) {
        dr7_in_handler = dr7_read();
    }
    return false;
}

static void detect(void)
{
    metal_hook = on_detect;
    dr7_write(1u << 13 | 0x400);
    CHECK(metal_try(touch_dr0), V_DB);
    metal_hook = NULL;
    CHECK(metal_trap.dr6 & 0xe00f, DR6_BD);
    CHECK(metal_trap.ip, (word)q0); /* a fault */
    CHECK(metal_trap.flags & FLAG_RF, FLAG_RF);
    CHECK(dr7_in_handler & 1u << 13, 0);
    dr7_write(0x400);
}

/* --- RF (17.3.1.1) ---------------------------------------------------------------------------------------------------------- */

static void raise_gp(void)
{
    __asm__ volatile("mov %0, %%fs" ::"r"(GDT_ENTRIES * 8));
}

static void raise_bp(void)
{
    __asm__ volatile("int3");
}

static void raise_int(void)
{
    __asm__ volatile("int $0x60");
}

static void raise_ud(void)
{
    __asm__ volatile("ud2");
}

static void resume_flag(void)
{
    static const struct {
        void (*body)(void);
        unsigned vector;
        bool rf;
    } rows[] = {
        {raise_gp, V_GP, true}, {raise_bp, V_BP, false}, {raise_int, 0x60, false}, {raise_ud, V_UD, true}};
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        CHECK(metal_try(rows[i].body), rows[i].vector);
        CHECK(metal_trap.flags & FLAG_RF, rows[i].rf ? FLAG_RF : 0);
    }
    /* DR6 keeps what software does not clear. */
    dr6_write(0xf);
    dr0_write((word)x1);
    dr7_write(BREAK(0, EXECUTE, BYTES_1));
    CHECK(metal_try(three_nops), V_DB);
    dr7_write(0x400);
    CHECK(metal_trap.dr6 & 1, 1);
}

void metal_main(void)
{
    metal_case("single step (SDM 3B 17.3.1.4)");
    single_step();
    metal_case("instruction breakpoints (SDM 3B 17.3.1.1)");
    instruction_breakpoints();
    metal_case("data breakpoints (SDM 3B 17.3.1.2)");
    data_breakpoints();
    metal_case("I/O breakpoints, DR4 and DR5 (SDM 3B 17.2.2)");
    io_and_detect();
    metal_case("general detect (SDM 3B 17.3.1.3)");
    detect();
    metal_case("RF (SDM 3B 17.3.1.1)");
    resume_flag();
}
