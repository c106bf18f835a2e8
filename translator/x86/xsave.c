/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FXSAVE and XSAVE images (SDM 1 10.5 and chapter 13), MXCSR and XCR0.
 *
 * A component is "in use" exactly when it differs from its initial configuration; the architecture leaves that choice
 * open and this one makes images smallest. FCS and FDS are always saved as 0 (CPUID says so). An image is written in
 * place when it lies in one RAM page, otherwise in a private copy that is written back as a whole; an image that is
 * loaded is copied first.
 */
#include "translator/x86/sys_internal.h"

#include <errno.h>

#define XSAVE_LEGACY   512u
#define XSAVE_HEADER   64u
#define XSAVE_EXTENDED (XSAVE_LEGACY + XSAVE_HEADER)
#define XSAVE_MAX      X86_XSAVE_IMAGE_BYTES
#define XCOMP_COMPACT  (UINT64_C(1) << 63)

enum { XC_X87 = 0, XC_SSE = 1, XC_AVX = 2, XC_OPMASK = 5, XC_ZMM_HI256 = 6, XC_HI16_ZMM = 7, XC_PKRU = 9 };

/* Extended components in the standard format. All of these are user state and need no alignment when compacted. */
static const struct component {
    uint8_t number;
    uint16_t offset, bytes;
} components[] = {
    {XC_AVX, 576, 256},        {XC_OPMASK, 1088, 64}, {XC_ZMM_HI256, 1152, 512},
    {XC_HI16_ZMM, 1664, 1024}, {XC_PKRU, 2688, 8},
};

uint32_t x86_xsave_bytes(uint64_t mask, bool compacted)
{
    uint32_t bytes = XSAVE_EXTENDED;
    for (unsigned i = 0; i < ARRAY_LEN(components); i++) {
        if (mask >> components[i].number & 1) {
            bytes = compacted ? bytes + components[i].bytes : components[i].offset + components[i].bytes;
        }
    }
    return bytes;
}

/* Offset of component `i` of components[] in an image whose format is given by XCOMP_BV. */
static uint32_t component_offset(unsigned i, uint64_t xcomp)
{
    if (!(xcomp & XCOMP_COMPACT)) {
        return components[i].offset;
    }
    uint32_t offset = XSAVE_EXTENDED;
    for (unsigned j = 0; j < i; j++) {
        offset += xcomp >> components[j].number & 1 ? components[j].bytes : 0;
    }
    return offset;
}

/* Bytes up to the end of the last component in `mask` of an image whose format is given by XCOMP_BV. */
static uint32_t touched_bytes(uint64_t mask, uint64_t xcomp)
{
    uint32_t bytes = XSAVE_LEGACY + XSAVE_HEADER;
    for (unsigned i = 0; i < ARRAY_LEN(components); i++) {
        if (mask >> components[i].number & 1) {
            bytes = component_offset(i, xcomp) + components[i].bytes;
        }
    }
    return bytes;
}

/* --- components <-> vCPU ------------------------------------------------------------------------------------ */

static bool all_zero(const void *data, size_t bytes)
{
    const uint8_t *p = data;
    return bytes == 0 || (p[0] == 0 && memcmp(p, p + 1, bytes - 1) == 0);
}

/* Copies one extended component out of (load: into) the vCPU; of AVX state the first `ymms` registers. */
static void copy_component(struct x86_cpu *cpu, unsigned number, uint8_t *data, bool load, unsigned ymms)
{
    uint64_t pkru = cpu->pkru;
    struct piece {
        void *state;
        unsigned bytes, step, count;
    } piece;
    switch (number) {
    case XC_AVX:
        piece = (struct piece){cpu->vec[0].b + 16, 16, sizeof(cpu->vec[0]), ymms};
        break;
    case XC_OPMASK:
        piece = (struct piece){cpu->opmask, 8, 8, 8};
        break;
    case XC_ZMM_HI256:
        piece = (struct piece){cpu->vec[0].b + 32, 32, sizeof(cpu->vec[0]), 16};
        break;
    case XC_HI16_ZMM:
        piece = (struct piece){cpu->vec[16].b, 64, sizeof(cpu->vec[0]), 16};
        break;
    default:
        piece = (struct piece){&pkru, 8, 8, 1};
        break;
    }
    for (unsigned i = 0; i < piece.count; i++) {
        uint8_t *state = (uint8_t *)piece.state + (size_t)i * piece.step;
        memcpy(load ? state : data + i * piece.bytes, load ? data + i * piece.bytes : state, piece.bytes);
    }
    if (number == XC_PKRU && load) {
        mmu_set_pkru(cpu, (uint32_t)pkru);
    }
    if (number == XC_AVX && load) {
        cpu->vec_upper = ymms == 16 && all_zero(data, 256) ? VEC_UPPER_ZERO : VEC_UPPER_USED;
    }
}

static bool x87_initial(const struct x86_fxsave *fx)
{
    return fx->fcw == 0x37f && !fx->fsw && !fx->ftw && !fx->fop && !fx->fip && !fx->fdp &&
           all_zero(fx->st, sizeof(fx->st));
}

static bool sse_initial(const struct x86_cpu *cpu)
{
    uint64_t any = 0;
    for (unsigned i = 0; i < 16; i++) {
        any |= cpu->vec[i].q[0] | cpu->vec[i].q[1];
    }
    return !any;
}

/* XINUSE of the components in `mask`. */
static uint64_t in_use(struct x86_cpu *cpu, uint64_t mask)
{
    uint64_t used = 0;
    uint8_t data[1024];
    if (mask & 1 && !x87_initial(&cpu->fx)) {
        used |= 1;
    }
    if (mask & 2 && !sse_initial(cpu)) {
        used |= 2;
    }
    for (unsigned i = 0; i < ARRAY_LEN(components); i++) {
        if (mask >> components[i].number & 1) {
            memset(data, 0, components[i].bytes);
            copy_component(cpu, components[i].number, data, false, 16);
            used |= all_zero(data, components[i].bytes) ? 0 : UINT64_C(1) << components[i].number;
        }
    }
    return used;
}

/* `wide`: 64-bit FIP and FDP (REX.W), else 32 bits and a zero selector. */
static void save_x87(const struct x86_cpu *cpu, uint8_t *image, bool wide)
{
    uint64_t fip = wide ? cpu->fx.fip : (uint32_t)cpu->fx.fip,
             fdp = wide ? cpu->fx.fdp : (uint32_t)cpu->fx.fdp;
    memcpy(image, &cpu->fx, 8);
    memcpy(image + 8, &fip, 8);
    memcpy(image + 16, &fdp, 8);
    memcpy(image + 32, cpu->fx.st, sizeof(cpu->fx.st));
}

static void load_x87(struct x86_cpu *cpu, const uint8_t *image, bool wide)
{
    memcpy(&cpu->fx, image, 24);
    if (!wide) {
        cpu->fx.fip = (uint32_t)cpu->fx.fip;
        cpu->fx.fdp = (uint32_t)cpu->fx.fdp;
    }
    memcpy(cpu->fx.st, image + 32, sizeof(cpu->fx.st));
    for (unsigned i = 0; i < 8; i++) {
        memset(cpu->fx.st[i] + 10, 0, 6);
    }
}

static void init_x87(struct x86_cpu *cpu)
{
    memset(&cpu->fx, 0, sizeof(cpu->fx));
    cpu->fx.fcw = 0x37f;
}

/* Outside 64-bit code only xmm0-7 take part. */
static unsigned xmm_count(const struct x86_cpu *cpu)
{
    return x86_code64(cpu) ? 16 : 8;
}

static void save_xmm(const struct x86_cpu *cpu, uint8_t *image, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        memcpy(image + 160 + i * 16, cpu->vec[i].b, 16);
    }
}

static void load_xmm(struct x86_cpu *cpu, const uint8_t *image, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        memcpy(cpu->vec[i].b, image + 160 + i * 16, 16);
    }
}

static void save_mxcsr(const struct x86_cpu *cpu, uint8_t *image)
{
    uint32_t mask = MXCSR_MASK;
    memcpy(image + 24, &cpu->mxcsr, 4);
    memcpy(image + 28, &mask, 4);
}

/* --- images in guest memory --------------------------------------------------------------------------------- */

struct image {
    uint8_t *data; /* RAM itself (being written) or `copy` */
    gva_t la;
    unsigned bytes;
    _Alignas(64) uint8_t copy[XSAVE_MAX];
};

/* Copies bytes [from, to) of the image at cpu->ea. Each byte is read once: what is checked is what is used. */
static int image_read(struct x86_cpu *cpu, struct image *image, unsigned from, unsigned to)
{
    image->data = image->copy;
    const void *host = mmu_host(cpu, cpu->ea + from, to - from, MMU_READ);
    if (host) {
        memcpy(image->copy + from, host, to - from);
        return X86_OK;
    }
    for (unsigned done = from; done < to;) {
        unsigned piece = to - done < 64 ? to - done : 64;
        int r = mmu_read(cpu, cpu->ea + done, piece, image->copy + done);
        if (r) {
            return r;
        }
        done += piece;
    }
    return X86_OK;
}

/* Opens the image for changes of some of its bytes; image_close() stores them and cannot fault. */
static int image_open(struct x86_cpu *cpu, unsigned bytes, struct image *image)
{
    image->la = cpu->ea;
    image->bytes = bytes;
    image->data = mmu_host(cpu, cpu->ea, bytes, MMU_WRITE);
    if (image->data) {
        return X86_OK;
    }
    int r = mmu_probe(cpu, image->la, bytes, MMU_WRITE);
    return r ? r : image_read(cpu, image, 0, bytes);
}

static int image_close(struct x86_cpu *cpu, struct image *image)
{
    int r = X86_OK;
    for (unsigned done = 0; !r && image->data == image->copy && done < image->bytes; done += 64) {
        unsigned piece = image->bytes - done < 64 ? image->bytes - done : 64;
        r = mmu_write(cpu, image->la + done, piece, image->copy + done);
    }
    return r;
}

/* --- FXSAVE, FXRSTOR ---------------------------------------------------------------------------------------- */

static int check_fx(struct x86_cpu *cpu)
{
    if (cpu->cr0 & (CR0_EM | CR0_TS)) {
        return x86_raise(cpu, EXC_NM);
    }
    return cpu->ea & 15 ? x86_gp0(cpu) : X86_OK;
}

X86_SYS_HANDLER(fxsave)
{
    struct image image;
    int r = check_fx(cpu);
    r = r ? r : image_open(cpu, XSAVE_LEGACY, &image);
    if (r) {
        return r;
    }
    x86_x87_sync(cpu);
    save_x87(cpu, image.data, op->size == 8);
    save_mxcsr(cpu, image.data);
    save_xmm(cpu, image.data, xmm_count(cpu));
    return image_close(cpu, &image);
}

X86_SYS_HANDLER(fxrstor)
{
    struct image image;
    uint32_t mxcsr;
    int r = check_fx(cpu);
    r = r ? r : image_read(cpu, &image, 0, XSAVE_LEGACY);
    if (r) {
        return r;
    }
    memcpy(&mxcsr, image.data + 24, 4);
    if (mxcsr & ~MXCSR_MASK) {
        return x86_gp0(cpu);
    }
    x86_x87_sync(cpu);
    load_x87(cpu, image.data, op->size == 8);
    load_xmm(cpu, image.data, xmm_count(cpu));
    cpu->mxcsr = mxcsr;
    return X86_OK;
}

/* --- XSAVE family ------------------------------------------------------------------------------------------- */

static int check_xsave(struct x86_cpu *cpu, bool supervisor)
{
    if (!(cpu->cr4 & CR4_OSXSAVE)) {
        return x86_raise(cpu, EXC_UD);
    }
    if (supervisor && cpu->cpl) {
        return x86_gp0(cpu);
    }
    if (cpu->cr0 & CR0_TS) {
        return x86_raise(cpu, EXC_NM);
    }
    return cpu->ea & 63 ? x86_gp0(cpu) : X86_OK;
}

static uint64_t requested(const struct x86_cpu *cpu, bool supervisor)
{
    uint64_t mask = (uint32_t)cpu->gpr[IR_RAX] | cpu->gpr[IR_RDX] << 32;
    return mask & (supervisor ? cpu->xcr0 | cpu->xss : cpu->xcr0);
}

X86_SYS_HANDLER(xsave)
{
    struct image image;
    bool supervisor = op->sub == X86_SYS_XSAVES;
    bool compact = supervisor || op->sub == X86_SYS_XSAVEC;
    int r = check_xsave(cpu, supervisor);
    if (r) {
        return r;
    }
    uint64_t rfbm = requested(cpu, supervisor);
    if (rfbm & 1) {
        x86_x87_sync(cpu);
    }
    uint64_t used = in_use(cpu, rfbm), xstate = used, xcomp = compact ? rfbm | XCOMP_COMPACT : 0;
    if (compact && rfbm & 2 && cpu->mxcsr != MXCSR_INIT) {
        xstate |= 2;
    }
    /* XSAVE writes all that is asked for; the others leave out, and do not touch, what is in its initial configuration. */
    uint64_t write = op->sub == X86_SYS_XSAVE ? rfbm : rfbm & xstate;
    r = image_open(cpu, touched_bytes(write, xcomp), &image);
    if (r) {
        return r;
    }
    if (!compact) {
        memcpy(&xstate, image.data + XSAVE_LEGACY, 8);
        xstate = (xstate & ~rfbm) | used;
    }
    if (write & 1) {
        save_x87(cpu, image.data, op->size == 8);
    }
    if (compact ? write & 2 : rfbm & 6) {
        save_mxcsr(cpu, image.data);
    }
    if (write & 2) {
        save_xmm(cpu, image.data, xmm_count(cpu));
    }
    for (unsigned i = 0; i < ARRAY_LEN(components); i++) {
        if (write >> components[i].number & 1) {
            copy_component(cpu, components[i].number, image.data + component_offset(i, xcomp), false, xmm_count(cpu));
        }
    }
    memcpy(image.data + XSAVE_LEGACY, &xstate, 8);
    if (compact) {
        memcpy(image.data + XSAVE_LEGACY + 8, &xcomp, 8);
    }
    return image_close(cpu, &image);
}

/* Header rules of XRSTOR and XRSTORS (SDM 1 13.8, 13.12). `allowed`: XCR0, or XCR0 | XSS. */
static bool header_valid(const struct x86_cpu *cpu, const uint8_t *header, uint64_t allowed, bool supervisor)
{
    uint64_t xstate, xcomp;
    memcpy(&xstate, header, 8);
    memcpy(&xcomp, header + 8, 8);
    if (!(xcomp & XCOMP_COMPACT)) {
        return !supervisor && !(xstate & ~allowed) && all_zero(header + 8, 16);
    }
    return (supervisor || x86_has(cpu->features, FEAT_XSAVEC)) && !(xcomp & ~(allowed | XCOMP_COMPACT)) &&
           !(xstate & ~xcomp) && !(xstate & XCOMP_COMPACT) && all_zero(header + 16, 48);
}

/* Loads the components in `rfbm`: those in XSTATE_BV from the image, the others with their initial values. */
static void restore(struct x86_cpu *cpu, uint8_t *data, uint64_t rfbm, unsigned xmms, bool wide,
                    uint32_t mxcsr)
{
    uint64_t xstate, xcomp;
    uint8_t zero[1024] = {0};
    memcpy(&xstate, data + XSAVE_LEGACY, 8);
    memcpy(&xcomp, data + XSAVE_LEGACY + 8, 8);
    if (rfbm & 1) {
        x86_x87_sync(cpu);
        if (xstate & 1) {
            load_x87(cpu, data, wide);
        } else {
            init_x87(cpu);
        }
    }
    cpu->mxcsr = mxcsr;
    for (unsigned i = 0; rfbm & 2 && !(xstate & 2) && i < xmms; i++) {
        memset(cpu->vec[i].b, 0, 16);
    }
    if (rfbm & xstate & 2) {
        load_xmm(cpu, data, xmms);
    }
    for (unsigned i = 0; i < ARRAY_LEN(components); i++) {
        if (rfbm >> components[i].number & 1) {
            bool present = xstate >> components[i].number & 1;
            copy_component(cpu, components[i].number, present ? data + component_offset(i, xcomp) : zero,
                           true, xmms);
        }
    }
}

/* MXCSR that a restore leaves behind; false if the image holds reserved bits. */
static bool restored_mxcsr(const struct x86_cpu *cpu, const uint8_t *data, uint64_t rfbm, uint32_t *ret_mxcsr)
{
    uint64_t xstate, xcomp;
    memcpy(&xstate, data + XSAVE_LEGACY, 8);
    memcpy(&xcomp, data + XSAVE_LEGACY + 8, 8);
    *ret_mxcsr = cpu->mxcsr;
    bool compact = xcomp & XCOMP_COMPACT;
    if (compact ? rfbm & xstate & 2 : rfbm & 6) {
        memcpy(ret_mxcsr, data + 24, 4);
    } else if (compact && rfbm & 2) {
        *ret_mxcsr = MXCSR_INIT;
    }
    return !(*ret_mxcsr & ~MXCSR_MASK);
}

X86_SYS_HANDLER(xrstor)
{
    struct image image;
    uint32_t mxcsr;
    uint64_t xstate, xcomp;
    bool supervisor = op->sub == X86_SYS_XRSTORS;
    uint64_t allowed = supervisor ? cpu->xcr0 | cpu->xss : cpu->xcr0;
    int r = check_xsave(cpu, supervisor);
    r = r ? r : image_read(cpu, &image, 0, XSAVE_EXTENDED);
    if (r) {
        return r;
    }
    if (!header_valid(cpu, image.data + XSAVE_LEGACY, allowed, supervisor)) {
        return x86_gp0(cpu);
    }
    uint64_t rfbm = requested(cpu, supervisor);
    memcpy(&xstate, image.data + XSAVE_LEGACY, 8);
    memcpy(&xcomp, image.data + XSAVE_LEGACY + 8, 8);
    bool compact = xcomp & XCOMP_COMPACT;
    unsigned bytes = x86_xsave_bytes(compact ? xcomp & ~XCOMP_COMPACT : rfbm & xstate, compact);
    if (bytes > XSAVE_EXTENDED) {
        r = image_read(cpu, &image, XSAVE_EXTENDED, bytes);
        if (r) {
            return r;
        }
    }
    if (!restored_mxcsr(cpu, image.data, rfbm, &mxcsr)) {
        return x86_gp0(cpu);
    }
    restore(cpu, image.data, rfbm, xmm_count(cpu), op->size == 8, mxcsr);
    return X86_OK;
}

void x86_xsave_export(struct x86_cpu *cpu, void *image)
{
    uint8_t *data = image;
    uint64_t xstate = x86_xcr0_offered(cpu) | 3;
    memset(data, 0, XSAVE_MAX);
    x86_x87_sync(cpu);
    save_x87(cpu, data, true);
    save_mxcsr(cpu, data);
    save_xmm(cpu, data, 16);
    for (unsigned i = 0; i < ARRAY_LEN(components); i++) {
        if (xstate >> components[i].number & 1) {
            copy_component(cpu, components[i].number, data + components[i].offset, false, 16);
        }
    }
    memcpy(data + XSAVE_LEGACY, &xstate, 8);
}

int x86_xsave_import(struct x86_cpu *cpu, const void *image)
{
    _Alignas(64) uint8_t data[XSAVE_MAX];
    uint32_t mxcsr;
    uint64_t all = x86_xcr0_offered(cpu) | 3;
    memcpy(data, image, sizeof(data));
    if (!header_valid(cpu, data + XSAVE_LEGACY, all, false) || !restored_mxcsr(cpu, data, all, &mxcsr)) {
        return -EINVAL;
    }
    restore(cpu, data, all, 16, true, mxcsr);
    return 0;
}

/* --- XCR0, MXCSR and others --------------------------------------------------------------------------------- */

X86_SYS_HANDLER(xgetbv)
{
    uint32_t index = (uint32_t)cpu->gpr[IR_RCX];
    if (!(cpu->cr4 & CR4_OSXSAVE)) {
        return x86_raise(cpu, EXC_UD);
    }
    if (index > 1 || (index == 1 && !x86_has(cpu->features, FEAT_XGETBV1))) {
        return x86_gp0(cpu);
    }
    uint64_t value = cpu->xcr0;
    if (index == 1) {
        x86_x87_sync(cpu);
        value = in_use(cpu, cpu->xcr0);
    }
    cpu->gpr[IR_RAX] = (uint32_t)value;
    cpu->gpr[IR_RDX] = value >> 32;
    return X86_OK;
}

bool x86_xcr0_valid(const struct x86_cpu *cpu, uint64_t value)
{
    const uint64_t avx512 = 7u << XC_OPMASK;
    return value & 1 && !(value & ~x86_xcr0_offered(cpu)) && (value & 6) != 4 &&
           (!(value & avx512) || (value & (avx512 | 6)) == (avx512 | 6));
}

X86_SYS_HANDLER(xsetbv)
{
    uint64_t value = (uint32_t)cpu->gpr[IR_RAX] | cpu->gpr[IR_RDX] << 32;
    if (!(cpu->cr4 & CR4_OSXSAVE)) {
        return x86_raise(cpu, EXC_UD);
    }
    if (cpu->cpl || (uint32_t)cpu->gpr[IR_RCX] || !x86_xcr0_valid(cpu, value)) {
        return x86_gp0(cpu);
    }
    cpu->xcr0 = value;
    x86_update_mode(cpu);
    return X86_OK;
}

X86_SYS_HANDLER(pkru)
{
    if (!(cpu->cr4 & CR4_PKE)) {
        return x86_raise(cpu, EXC_UD);
    }
    bool write = op->sub == X86_SYS_WRPKRU;
    if ((uint32_t)cpu->gpr[IR_RCX] || (write && (uint32_t)cpu->gpr[IR_RDX])) {
        return x86_gp0(cpu);
    }
    if (write) {
        mmu_set_pkru(cpu, (uint32_t)cpu->gpr[IR_RAX]);
    } else {
        cpu->gpr[IR_RAX] = cpu->pkru;
        cpu->gpr[IR_RDX] = 0;
    }
    return X86_OK;
}

X86_SYS_HANDLER(ldmxcsr)
{
    uint32_t value;
    int r = x86_align_check(cpu, cpu->ea, 4);
    r = r ? r : mmu_read(cpu, cpu->ea, 4, &value);
    if (r) {
        return r;
    }
    if (value & ~MXCSR_MASK) {
        return x86_gp0(cpu);
    }
    cpu->mxcsr = value;
    return X86_OK;
}

X86_SYS_HANDLER(stmxcsr)
{
    int r = x86_align_check(cpu, cpu->ea, 4);
    return r ? r : mmu_write(cpu, cpu->ea, 4, &cpu->mxcsr);
}

X86_SYS_HANDLER(fwait)
{
    uint16_t status = cpu->fx.fsw;
    if ((cpu->cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS)) {
        return x86_raise(cpu, EXC_NM);
    }
#if defined(__x86_64__)
    if (cpu->x87_live) {
        __asm__ volatile("fnstsw %0" : "=m"(status));
    }
#endif
    return status & 0x80 ? x86_raise(cpu, EXC_MF) : X86_OK;
}
