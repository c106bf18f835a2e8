/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault_point: a place between two stores whose order matters if the process dies there.
 *
 * Nothing in a normal build. Compiled with BULKHEAD_FAULT_POINTS, each calls fault_point_reached(), which the program
 * under test defines: it may count, kill the process, or leave by longjmp().
 */
#pragma once

#ifdef BULKHEAD_FAULT_POINTS
void fault_point_reached(void);
#define FAULT_POINT() fault_point_reached()
#else
#define FAULT_POINT() ((void)0)
#endif
