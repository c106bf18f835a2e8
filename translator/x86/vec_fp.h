/* SPDX-License-Identifier: Apache-2.0 */
/* SSE floating point on top of softfp.h: MXCSR, NaN operands, lanes. */
#pragma once

#include "translator/x86/softfp.h"
#include "translator/x86/vec_internal.h"

struct softfp_env vec_fp_begin(const struct x86_cpu *cpu);
/* Accumulates the flags in MXCSR. X86_OK, or X86_RAISE (#XM, or #UD without CR4.OSXMMEXCPT) when one is unmasked: then
 * the destination stays as it was. */
int vec_fp_end(struct x86_cpu *cpu, const struct softfp_env *env);

/* Makes vec_fp_end() collect flags and raise nothing, for each of its calls within a lane; vec_fp_deferred() does what it
 * then left out, for all lanes of a wide vector at once. */
void vec_fp_defer(struct x86_cpu *cpu);
void vec_fp_next_lane(struct x86_cpu *cpu);
int vec_fp_deferred(struct x86_cpu *cpu);

/* Lane `i` of `bytes` (4 or 8) bytes. */
struct softfp vec_fp_get(const struct softfp_env *env, const union x86_vec *v, unsigned i, unsigned bytes);
void vec_fp_put(union x86_vec *v, unsigned i, unsigned bytes, const struct softfp *a);

static inline const struct softfp_format *vec_fp_format(unsigned bytes)
{
    return bytes == 4 ? &softfp_single : &softfp_double;
}

/* If one operand is a NaN: raises SOFTFP_I for signalling ones and gives the SSE result, the first NaN made quiet. */
bool vec_fp_nan(struct softfp_env *env, const struct softfp *a, const struct softfp *b, struct softfp *ret);
