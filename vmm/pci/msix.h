/* SPDX-License-Identifier: Apache-2.0 */
/*
 * msix: the MSI-X capability, vector table and pending bits of one function (PCI Local Bus 3.0
 * section 6.8.2).
 *
 * A vector that is masked (by its own bit, or by the function's) stays pending and is sent when unmasked.
 * While MSI-X is disabled nothing is sent or kept: the function then uses INTx.
 *
 * Threads: any; one lock inside, held while a message is sent. Messages take no lock.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/pci/pci.h"

#define MSIX_VECTORS_MAX 128u
#define MSIX_ENTRY_BYTES 16u

struct msix {
    pthread_mutex_t lock;
    struct pci_function *function;
    unsigned capability; /* its offset */
    unsigned count;
    bool enabled, masked;
    uint32_t table[MSIX_VECTORS_MAX][4]; /* address low, high, data, control */
    uint64_t pending[MSIX_VECTORS_MAX / 64];
    void (*send)(void *opaque, uint64_t address, uint32_t data);
    void *opaque;
};

struct msix_place {
    unsigned bar, table_offset, pba_offset;
};

/* Adds the capability. count is 1..MSIX_VECTORS_MAX. 0 or -ENOSPC. */
int msix_init(struct msix *msix, struct pci_function *function, unsigned count,
              const struct msix_place *place, void (*send)(void *opaque, uint64_t address, uint32_t data),
              void *opaque);
void msix_finish(struct msix *msix);
void msix_reset(struct msix *msix);

/* From the function's config_written hook. */
void msix_config_written(struct msix *msix);
bool msix_enabled(struct msix *msix);
/* An event for this vector; ignored when there is no such vector. */
void msix_trigger(struct msix *msix, unsigned vector);

/* Accesses to table and pending bits; `offset` is relative to each. Any size. */
uint64_t msix_table_read(struct msix *msix, uint64_t offset, unsigned size);
void msix_table_write(struct msix *msix, uint64_t offset, unsigned size, uint64_t value);
uint64_t msix_pba_read(struct msix *msix, uint64_t offset, unsigned size);
