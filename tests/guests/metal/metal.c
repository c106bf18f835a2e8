/* SPDX-License-Identifier: Apache-2.0 */
/* metal's C part: output, results, traps, descriptors. Compiled for both widths. */
#include "metal.h"

#include <stdarg.h>

#define COM1         0x3f8
#define PM1A_CONTROL 0x604
#define S5           (1u << 13 | 5u << 10)
#define LONG_MODE    (sizeof(word) == 8)

struct metal_trap metal_trap;
struct metal_tss metal_tss __attribute__((aligned(4096)));
bool (*metal_hook)(struct metal_frame *frame);
volatile uint32_t metal_interrupts[16];
uint8_t metal_user_stack[8192] __attribute__((aligned(4096)));
uint8_t metal_trap_stack[8192] __attribute__((aligned(4096)));

static uint8_t idt[256 * (LONG_MODE ? 16 : 8)] __attribute__((aligned(4096)));
static const char *case_name;
static unsigned checks, failures, case_failures;
static uint32_t start_info;

/* start32.S, start64.S */
extern word metal_try_sp;
extern void metal_reload_segments(void);

/* --- the C library that there is none of ------------------------------------------------------------------------ */

void *memcpy(void *to, const void *from, size_t bytes)
{
    void *result = to;
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes)::"memory");
    return result;
}

void *memset(void *to, int value, size_t bytes)
{
    void *result = to;
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(bytes) : "a"(value) : "memory");
    return result;
}

int memcmp(const void *a, const void *b, size_t bytes)
{
    const uint8_t *x = a, *y = b;
    for (size_t i = 0; i < bytes; i++) {
        if (x[i] != y[i]) {
            return x[i] < y[i] ? -1 : 1;
        }
    }
    return 0;
}

int strcmp(const char *a, const char *b)
{
    while (*a && *a == *b) {
        a++;
        b++;
    }
    return (uint8_t)*a - (uint8_t)*b;
}

bool metal_has_word(const char *text, const char *word_wanted)
{
    for (; *text; text++) {
        const char *a = text, *b = word_wanted;
        while (*b && *a == *b) {
            a++;
            b++;
        }
        if (!*b && (!*a || *a == ' ')) {
            return true;
        }
        while (*text && *text != ' ') {
            text++;
        }
        if (!*text) {
            return false;
        }
    }
    return false;
}

/* --- output ----------------------------------------------------------------------------------------------------- */

static void put(char c)
{
    while (!(in8(COM1 + 5) & 0x20)) {
        pause();
    }
    out8(COM1, (uint8_t)c);
}

static void put_text(const char *text)
{
    for (; *text; text++) {
        put(*text);
    }
}

static void put_hex(uint64_t value)
{
    put_text("0x");
    int shift = 60;
    while (shift && !(value >> shift)) {
        shift -= 4;
    }
    for (; shift >= 0; shift -= 4) {
        put("0123456789abcdef"[value >> shift & 15]);
    }
}

static void put_decimal(uint32_t value)
{
    char digits[12];
    unsigned i = sizeof(digits);
    digits[--i] = 0;
    do {
        digits[--i] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    put_text(digits + i);
}

void metal_print(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    for (; *format; format++) {
        if (*format != '%') {
            put(*format);
            continue;
        }
        switch (*++format) {
        case 's':
            put_text(va_arg(list, const char *));
            break;
        case 'c':
            put((char)va_arg(list, int));
            break;
        case 'u':
        case 'd':
            put_decimal(va_arg(list, uint32_t));
            break;
        case 'x':
            put_hex(va_arg(list, word));
            break;
        case 'X':
            put_hex(va_arg(list, uint64_t));
            break;
        default:
            put(*format);
        }
    }
    va_end(list);
}

static void end_case(void)
{
    if (case_name && !case_failures) {
        metal_print("metal: ok %s\n", case_name);
    }
    case_name = NULL;
}

void metal_case(const char *name)
{
    end_case();
    case_name = name;
    case_failures = 0;
}

void metal_check(const char *what, uint64_t got, uint64_t expected)
{
    checks++;
    if (got == expected) {
        return;
    }
    failures++;
    if (case_failures++ < 20) {
        metal_print("metal: FAIL %s: %s: got %X, expected %X\n", case_name ? case_name : "-", what, got,
                    expected);
    }
}

void metal_note(const char *text)
{
    metal_print("metal: note %s\n", text);
}

void metal_power_off(void)
{
    for (;;) {
        out16(PM1A_CONTROL, S5);
        __asm__ volatile("cli; hlt");
    }
}

void metal_finish(void)
{
    end_case();
    if (failures) {
        metal_print("metal: failed %u of %u\n", failures, checks);
    } else {
        metal_print("metal: passed %u\n", checks);
    }
    metal_power_off();
}

void metal_fail(const char *why)
{
    metal_print("metal: FAIL %s: %s\n", case_name ? case_name : "-", why);
    metal_print("metal: failed %u of %u\n", failures + 1, checks + 1);
    metal_power_off();
}

/* --- tables ----------------------------------------------------------------------------------------------------- */

uint64_t metal_descriptor(uint32_t base, uint32_t limit, unsigned access, unsigned flags)
{
    return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)access << 40 |
           (uint64_t)(limit >> 16 & 15) << 48 | (uint64_t)flags << 52 | (uint64_t)(base >> 24) << 56;
}

void metal_gate(unsigned vector, unsigned selector, word target, unsigned type, unsigned ist)
{
    uint64_t low = (target & 0xffff) | (uint64_t)selector << 16 | (uint64_t)ist << 32 | (uint64_t)type << 40 |
                   (uint64_t)(target >> 16 & 0xffff) << 48;
    memcpy(idt + vector * (LONG_MODE ? 16 : 8), &low, 8);
    if (LONG_MODE) {
        uint64_t high = (uint64_t)target >> 32;
        memcpy(idt + vector * 16 + 8, &high, 8);
    }
}

void metal_gate_reset(unsigned vector)
{
    bool user = vector == V_USER || vector == V_BP || vector == V_OF;
    metal_gate(vector, SEL_CODE, metal_stubs[vector], user ? 0xee : 0x8e, 0);
}

void metal_load_idt(void)
{
    struct {
        uint16_t limit;
        word base;
    } __attribute__((packed)) pointer = {sizeof(idt) - 1, (word)idt};
    __asm__ volatile("lidt %0" ::"m"(pointer));
}

void metal_load_tss(void)
{
    /* Type 9: available. The limit covers the I/O bitmap and the byte of ones behind it. */
    metal_gdt[SEL_TSS / 8] = metal_descriptor((uint32_t)(word)&metal_tss, sizeof(metal_tss) - 1, 0x89, 0);
    if (LONG_MODE) {
        metal_gdt[SEL_TSS / 8 + 1] = (uint64_t)(word)&metal_tss >> 32;
    }
    __asm__ volatile("ltr %w0" ::"r"(SEL_TSS));
}

static void set_up_tss(void)
{
    word top = (word)metal_trap_stack + sizeof(metal_trap_stack);
#ifdef __x86_64__
    metal_tss.tss.rsp[0] = top;
#else
    metal_tss.tss.sp0 = top;
    metal_tss.tss.ss0 = SEL_DATA;
#endif
    metal_tss.tss.io_base = sizeof(metal_tss.tss);
    memset(metal_tss.io, 0xff, sizeof(metal_tss.io));
    metal_load_tss();
}

/* --- traps ------------------------------------------------------------------------------------------------------ */

static void unexpected(const struct metal_frame *frame)
{
    metal_print("metal: FAIL %s: vector %x, error %x, at %x:%x, flags %x, cr2 %x\n",
                case_name ? case_name : "-", frame->vector, frame->error, frame->cs, frame->ip, frame->flags,
                cr2_read());
    metal_print("metal: failed %u of %u\n", failures + 1, checks + 1);
    metal_power_off();
}

static void record(const struct metal_frame *frame)
{
    word ss;
    bool outer = LONG_MODE || (frame->cs & 3) || frame->flags & 1 << 17;
    __asm__ volatile("mov %%ss, %0" : "=r"(ss));
    metal_trap = (struct metal_trap){
        .vector = frame->vector,
        .error = frame->error,
        .ip = frame->ip,
        .cs = frame->cs & 0xffff,
        .flags = frame->flags,
        .sp = outer ? frame->sp : (word)&frame->sp,
        .ss = (outer ? frame->ss : ss) & 0xffff,
        .cr2 = cr2_read(),
        .dr6 = dr6_read(),
        .ax = frame->ax,
        .bx = frame->bx,
        .cx = frame->cx,
        .dx = frame->dx,
        .si = frame->si,
        .di = frame->di,
        .bp = frame->bp,
        .handler_sp = outer ? (word)(&frame->ss + 1) : (word)&frame->sp,
        .handler_ss = ss,
        .handler_flags = flags_read(),
    };
    __asm__ volatile("mov %%cs, %0" : "=r"(metal_trap.handler_cs));
}

/* Called by the stubs. True: IRET to the frame; false: metal_try() returns. */
bool metal_on_trap(struct metal_frame *frame);
bool metal_on_trap(struct metal_frame *frame)
{
    if (frame->vector >= 0x40 && frame->vector < 0x50) {
        metal_interrupts[frame->vector - 0x40]++;
        lapic_write(LAPIC_EOI, 0);
        return true;
    }
    if (metal_hook && metal_hook(frame)) {
        return true;
    }
    record(frame);
    if (!metal_try_sp) {
        unexpected(frame);
    }
    return false;
}

/* --- start ------------------------------------------------------------------------------------------------------ */

const char *metal_cmdline(void)
{
    /* struct hvm_start_info: magic, version, flags, modules (32 bits each), module list, command line (64 bits) */
    return (const char *)(word) * (uint32_t *)(word)(start_info + 24);
}

void metal_enable_lapic(void)
{
    lapic_write(LAPIC_SVR, 0x1ff);
}

void metal_begin(uint32_t info);
void metal_begin(uint32_t info)
{
    start_info = info;
    out8(0x21, 0xff);
    out8(0xa1, 0xff);
    for (unsigned i = 0; i < 256; i++) {
        metal_gate_reset(i);
    }
    metal_load_idt();
    set_up_tss();
    metal_print("metal: %s starts\n", metal_name);
    metal_main();
    metal_finish();
}
