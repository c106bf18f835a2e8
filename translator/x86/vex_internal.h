/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the VEX reference implementation share. Everything runs on the vCPU's thread. */
#pragma once

#include "translator/x86/vec_internal.h"
#include "translator/x86/vex.h"

typedef int vex_exec_fn(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vex_insn *insn,
                        struct vex_args *args);

/* vex_lanes.c: rows that are a legacy instruction per lane */
vex_exec_fn vex_lanes;
/* vex_move.c: moves, masks, tests */
vex_exec_fn vex_move_scalar, vex_movmsk, vex_test, vex_zero;
/* vex_shuffle.c, vex_fp.c */
vex_exec_fn vex_dot, vex_broadcast, vex_permute, vex_lane128, vex_blend, vex_shift, vex_fma, vex_cvt_half;
/* vex_memory.c: with accesses of their own */
vex_exec_fn vex_maskmov, vex_gather;

/* Register `n` becomes the first `bytes` of `value`; what lies above is cleared. */
void vex_put(struct x86_cpu *cpu, unsigned n, const union x86_vec *value, unsigned bytes);
