/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Address types and unit constants that every process shares.
 *
 * A number that crosses a function boundary carries its unit in its name (_bytes, _sectors, _ns) or in one of
 * these types.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

typedef uint64_t gpa_t; /* guest physical address */
typedef uint64_t gva_t; /* guest virtual (linear) address */

#define KIB          (UINT64_C(1) << 10)
#define MIB          (UINT64_C(1) << 20)
#define GIB          (UINT64_C(1) << 30)
#define SECTOR_BYTES 512u
#define NS_PER_SEC   UINT64_C(1000000000)

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
