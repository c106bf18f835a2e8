/* SPDX-License-Identifier: Apache-2.0 */
/*
 * accel_choice: which accelerator will run a machine, and why, said in words.
 *
 * There is no silent fallback: `auto` names its choice and the reason, a named accelerator runs or is refused.
 */
#pragma once

#include <stddef.h>

#include "broker/reason.h"

/*
 * wanted: "auto", "kvm", "jit", or empty for auto. 0 with the name (a literal) and one clause that says why in
 * `because`; -EINVAL for an unknown word, -ENOTSUP for one that cannot run here.
 */
int accel_choose(const char *wanted, const char **ret_name, char *because, size_t because_bytes,
                 struct reason *reason);
