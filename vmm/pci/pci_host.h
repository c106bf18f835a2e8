/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pci_host: the host bridge: bus 0 with 32 slots, one function in each, reached through ECAM and through
 * ports 0xcf8/0xcfc, and the memory windows that BARs live in.
 *
 * Slot 0 is the bridge itself, with the ids of a q35 memory controller; slot 0x1f is kept free for a q35 ISA
 * bridge. At reset BARs are where firmware would have put them, in the 32-bit window.
 *
 * Threads: pci_host_add() on the main thread before any vCPU runs; accesses from any vCPU. The table of
 * functions does not change then, and each function has its own lock.
 */
#pragma once

#include <stdatomic.h>

#include "vmm/bus.h"
#include "vmm/pci/pci.h"

#define PCI_HOST_SLOTS      32u
#define PCI_HOST_FIRST_SLOT 1u
#define PCI_HOST_LAST_SLOT  0x1eu
#define PCI_HOST_ECAM_BUS   0x100000u /* bytes of configuration space of one bus */

struct pci_host {
    struct pci_function *slot[PCI_HOST_SLOTS]; /* borrowed; NULL: empty */
    unsigned used;                             /* highest slot that is filled, plus one */
    struct pci_function bridge;
    _Atomic uint32_t address; /* port 0xcf8 */
    uint64_t window32, window32_bytes, window64;
    uint64_t next_bar; /* where the next BAR is preset */
};

extern const struct bus_ops pci_host_ecam_ops;     /* device is the host; all of the ECAM range */
extern const struct bus_ops pci_host_port_ops;     /* ports 0xcf8-0xcff, up to 4 bytes */
extern const struct bus_ops pci_host_window32_ops; /* the BAR windows */
extern const struct bus_ops pci_host_window64_ops;

void pci_host_init(struct pci_host *host, uint64_t window32, uint64_t window32_bytes, uint64_t window64);
void pci_host_finish(struct pci_host *host);
void pci_host_reset(struct pci_host *host);

/* The slot it got. Presets its BARs and seals it. -ENOSPC when all slots or the window are full. */
int pci_host_add(struct pci_host *host, struct pci_function *function);
