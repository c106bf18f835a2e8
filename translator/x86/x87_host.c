/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the x87 reference meets the host: moving the guest's state out of the host's registers, and the transcendental
 * instructions.
 *
 * Generated code runs x87 and MMX instructions on the host's own unit and leaves the state there, so that a block
 * without them costs nothing. C code that looks at it, or that may use the unit itself, calls x86_x87_sync() first.
 *
 * The architecture gives bounds, not values, for transcendental results. On an x86 host they are what the host gives,
 * flags included, so that interpreter and generated code agree. On other hosts they come from libm in double precision:
 * within the bounds for most purposes, but not to the last bit of 64.
 */
#include "translator/x86/x87_internal.h"

#include <math.h>

void x86_x87_sync(struct x86_cpu *cpu)
{
    if (!cpu->x87_live)
        return;
    cpu->x87_live = false;
#if defined(__x86_64__)
    uint16_t fop = cpu->fx.fop;
    uint64_t fip = cpu->fx.fip, fdp = cpu->fx.fdp;
    /* FNINIT: compiled code expects an empty stack and the default control word. It also drops a pending exception,
     * which stays pending in the saved image. */
    __asm__ volatile("fxsave64 %0\n\tfninit" : "=m"(cpu->fx));
    /* The pointers are the host's: not for the guest to see. Its own FOP and FDP change with unmasked exceptions only, and those
     * are the interpreter's. */
    if (cpu->x87_pc != X87_PC_NONE) {
        fip = cpu->x87_base + cpu->x87_pc;
        if (!(cpu->mode & MODE_CS64))
            fip = (uint32_t)fip;
    }
    cpu->fx.fop = fop;
    cpu->fx.fip = fip;
    cpu->fx.fdp = fdp;
#endif
}

#if defined(__x86_64__)

#define ON_HOST(instruction)                                                                                 \
    __asm__ volatile("fxrstor64 %0\n\t" instruction "\n\tfxsave64 %0\n\tfninit"                              \
                     : "+m"(*fx)                                                                             \
                     :                                                                                       \
                     : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",       \
                       "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15")

/* The whole state goes through the host's unit: stack faults, tags, C1, C2 and masked or unmasked results are its. */
void x87_transcendental(struct x86_cpu *cpu, unsigned modrm)
{
    struct x86_fxsave *fx = &cpu->fx;

    fx->mxcsr = __builtin_ia32_stmxcsr();
    switch (modrm) {
    case 0xf0:
        ON_HOST("f2xm1");
        break;
    case 0xf1:
        ON_HOST("fyl2x");
        break;
    case 0xf2:
        ON_HOST("fptan");
        break;
    case 0xf3:
        ON_HOST("fpatan");
        break;
    case 0xf9:
        ON_HOST("fyl2xp1");
        break;
    case 0xfb:
        ON_HOST("fsincos");
        break;
    case 0xfe:
        ON_HOST("fsin");
        break;
    default:
        ON_HOST("fcos");
        break;
    }
}

#else

static double get_double(const struct x86_fxsave *fx, unsigned i)
{
    struct softfp_env env = {.masked = FSW_EXCEPTIONS};
    struct softfp value = x87_get(fx, i);
    uint64_t bits;
    double number;

    if (value.cls == SOFTFP_UNSUPPORTED)
        value = softfp_default_nan();
    value = softfp_round(&env, &softfp_double, value);
    bits = softfp_to_double(&value);
    memcpy(&number, &bits, sizeof(number));
    return number;
}

static void put_double(struct x86_fxsave *fx, unsigned i, double number)
{
    struct softfp_env env = {0};
    uint64_t bits;

    memcpy(&bits, &number, sizeof(bits));
    struct softfp value = softfp_from_double(&env, bits);
    if (value.cls == SOFTFP_NAN)
        fx->fsw |= SOFTFP_I;
    x87_put(fx, i, &value);
}

static void move_top(struct x86_fxsave *fx, bool up)
{
    if (up)
        x87_set_tag(fx, 0, false);
    x87_set_top(fx, (x87_top(fx) + (up ? 1 : 7)) & 7);
}

void x87_transcendental(struct x86_cpu *cpu, unsigned modrm)
{
    struct x86_fxsave *fx = &cpu->fx;
    double a = get_double(fx, 0), b = get_double(fx, 1);
    bool trigonometric = modrm == 0xf2 || modrm >= 0xfb;

    fx->fsw &= (uint16_t) ~(FSW_C1 | FSW_C2);
    if (trigonometric && fabs(a) >= 0x1p63) {
        fx->fsw |= FSW_C2; /* out of range: ST(0) stays */
        return;
    }
    fx->fsw |= SOFTFP_P;
    switch (modrm) {
    case 0xf0:
        put_double(fx, 0, exp2(a) - 1);
        break;
    case 0xf1:
    case 0xf9:
        move_top(fx, true);
        put_double(fx, 0, modrm == 0xf1 ? b * log2(a) : b * log1p(a) * 1.4426950408889634);
        break;
    case 0xf3:
        move_top(fx, true);
        put_double(fx, 0, atan2(b, a));
        break;
    case 0xf2:
    case 0xfb:
        put_double(fx, 0, modrm == 0xf2 ? tan(a) : sin(a));
        move_top(fx, false);
        put_double(fx, 0, modrm == 0xf2 ? 1.0 : cos(a));
        break;
    default:
        put_double(fx, 0, modrm == 0xfe ? sin(a) : cos(a));
        break;
    }
    x87_update_es(fx);
}

#endif
