/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pci: one PCI function: its configuration space, its BARs and its capabilities (PCI Local Bus 3.0 chapter
 * 6).
 *
 * Configuration space is 256 bytes with a mask of the bits that the guest may write; a function adds side
 * effects with its config hooks. Memory BARs only. Where a BAR decodes is one atomic word that follows
 * command register and BAR; a BAR that the guest puts outside the bridge's windows, over RAM for instance, is
 * simply never reached.
 *
 * Threads: built on the main thread; configuration accesses from any vCPU under the function's lock;
 * pci_bar_find() reads without a lock.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/bus.h"

#define PCI_CONFIG_BYTES 256u
#define PCI_BARS         6u
#define PCI_NO_ADDRESS   UINT64_MAX

/* Offsets in the type 0 header. */
enum {
    PCI_VENDOR = 0x00,
    PCI_DEVICE = 0x02,
    PCI_COMMAND = 0x04,
    PCI_STATUS = 0x06,
    PCI_REVISION = 0x08,
    PCI_CLASS = 0x09,
    PCI_HEADER_TYPE = 0x0e,
    PCI_BAR0 = 0x10,
    PCI_SUBSYSTEM_VENDOR = 0x2c,
    PCI_SUBSYSTEM = 0x2e,
    PCI_CAPABILITIES = 0x34,
    PCI_INTERRUPT_LINE = 0x3c,
    PCI_INTERRUPT_PIN = 0x3d,
};

#define PCI_COMMAND_MEMORY       0x0002u
#define PCI_COMMAND_MASTER       0x0004u
#define PCI_COMMAND_INTX_DISABLE 0x0400u
#define PCI_STATUS_INTERRUPT     0x0008u
#define PCI_STATUS_CAPABILITIES  0x0010u

#define PCI_CAP_VENDOR 0x09
#define PCI_CAP_MSIX   0x11

struct pci_function;

struct pci_function_ops {
    /* Before a read: the function may bring config bytes up to date. Optional. Under the lock. */
    void (*config_read)(struct pci_function *function, unsigned offset, unsigned size);
    /* After the writable bits of [offset, offset + size) have changed. Optional. Under the lock. */
    void (*config_written)(struct pci_function *function, unsigned offset, unsigned size);
    void (*reset)(struct pci_function *function); /* optional; no vCPU runs */
};

struct pci_bar {
    uint64_t bytes;  /* power of two, at least 4096; 0: not there */
    bool wide;       /* 64-bit: takes the next BAR's register too */
    uint64_t preset; /* what reset puts in, as firmware would */
    const struct bus_ops *ops;
    void *device;
    _Atomic uint64_t address; /* where it decodes now, or PCI_NO_ADDRESS */
};

struct pci_function {
    pthread_mutex_t lock;
    const struct pci_function_ops *ops;
    void *opaque;
    unsigned capabilities_end; /* where the next capability goes */
    unsigned last_capability;  /* 0: none yet */
    uint8_t config[PCI_CONFIG_BYTES];
    uint8_t writable[PCI_CONFIG_BYTES];
    uint8_t initial[PCI_CONFIG_BYTES]; /* config at reset; taken by pci_function_seal() */
    struct pci_bar bar[PCI_BARS];
};

struct pci_identity {
    uint16_t vendor, device, subsystem_vendor, subsystem;
    uint8_t revision;
    uint32_t class_code; /* class, subclass, interface: 24 bits */
    bool interrupt_pin;  /* INTA# */
};

void pci_function_init(struct pci_function *function, const struct pci_identity *identity,
                       const struct pci_function_ops *ops, void *opaque);
void pci_function_finish(struct pci_function *function);

/* Each on the main thread, before pci_function_seal(). */
void pci_add_bar(struct pci_function *function, unsigned index, uint64_t bytes, bool wide,
                 const struct bus_ops *ops, void *device);
/* Room for a capability of `bytes` with its two header bytes filled in; its offset, or -ENOSPC. */
int pci_add_capability(struct pci_function *function, uint8_t id, unsigned bytes);
/* What the configuration looks like now is what reset restores. */
void pci_function_seal(struct pci_function *function);
void pci_function_reset(struct pci_function *function);

/* size 1, 2 or 4, inside one dword. */
uint32_t pci_config_read(struct pci_function *function, unsigned offset, unsigned size);
void pci_config_write(struct pci_function *function, unsigned offset, unsigned size, uint32_t value);

/* The BAR that [addr, addr + size) lies in, or NULL; *ret_offset is relative to it. */
struct pci_bar *pci_bar_find(struct pci_function *function, uint64_t addr, unsigned size,
                             uint64_t *ret_offset);

static inline uint32_t pci_get(const struct pci_function *function, unsigned offset, unsigned size)
{
    uint32_t value = 0;

    __builtin_memcpy(&value, function->config + offset, size);
    return value;
}

static inline void pci_put(struct pci_function *function, unsigned offset, unsigned size, uint32_t value)
{
    __builtin_memcpy(function->config + offset, &value, size);
}
