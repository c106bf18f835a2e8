/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/pci/msix.h"

#include <string.h>

#define CAPABILITY_BYTES 12u
#define CONTROL          2u /* offset in the capability */
#define CONTROL_ENABLE   0x8000u
#define CONTROL_MASK     0x4000u
#define ENTRY_MASKED     1u

enum { ENTRY_ADDRESS_LOW, ENTRY_ADDRESS_HIGH, ENTRY_DATA, ENTRY_CONTROL };

static bool vector_masked(const struct msix *msix, unsigned vector)
{
    return msix->masked || (msix->table[vector][ENTRY_CONTROL] & ENTRY_MASKED);
}

/* Locked. */
static void send_vector(struct msix *msix, unsigned vector)
{
    const uint32_t *entry = msix->table[vector];

    msix->send(msix->opaque, (uint64_t)entry[ENTRY_ADDRESS_HIGH] << 32 | entry[ENTRY_ADDRESS_LOW],
               entry[ENTRY_DATA]);
}

/* Locked. Sends what waited for an unmasking. */
static void flush_vector(struct msix *msix, unsigned vector)
{
    uint64_t bit = UINT64_C(1) << (vector % 64);

    if (!msix->enabled || !(msix->pending[vector / 64] & bit) || vector_masked(msix, vector))
        return;
    msix->pending[vector / 64] &= ~bit;
    send_vector(msix, vector);
}

int msix_init(struct msix *msix, struct pci_function *function, unsigned count,
              const struct msix_place *place, void (*send)(void *opaque, uint64_t address, uint32_t data),
              void *opaque)
{
    int capability = pci_add_capability(function, PCI_CAP_MSIX, CAPABILITY_BYTES);

    if (capability < 0)
        return capability;
    memset(msix, 0, sizeof(*msix));
    pthread_mutex_init(&msix->lock, NULL);
    msix->function = function;
    msix->capability = (unsigned)capability;
    msix->count = count;
    msix->send = send;
    msix->opaque = opaque;
    pci_put(function, msix->capability + CONTROL, 2, count - 1);
    pci_put(function, msix->capability + 4, 4, place->table_offset | place->bar);
    pci_put(function, msix->capability + 8, 4, place->pba_offset | place->bar);
    function->writable[msix->capability + CONTROL + 1] = (CONTROL_ENABLE | CONTROL_MASK) >> 8;
    msix_reset(msix);
    return 0;
}

void msix_finish(struct msix *msix)
{
    pthread_mutex_destroy(&msix->lock);
}

void msix_reset(struct msix *msix)
{
    pthread_mutex_lock(&msix->lock);
    msix->enabled = msix->masked = false;
    memset(msix->pending, 0, sizeof(msix->pending));
    memset(msix->table, 0, sizeof(msix->table));
    for (unsigned i = 0; i < msix->count; i++)
        msix->table[i][ENTRY_CONTROL] = ENTRY_MASKED;
    pthread_mutex_unlock(&msix->lock);
}

void msix_config_written(struct msix *msix)
{
    uint32_t control = pci_get(msix->function, msix->capability + CONTROL, 2);

    pthread_mutex_lock(&msix->lock);
    msix->enabled = control & CONTROL_ENABLE;
    msix->masked = control & CONTROL_MASK;
    for (unsigned i = 0; i < msix->count; i++)
        flush_vector(msix, i);
    pthread_mutex_unlock(&msix->lock);
}

bool msix_enabled(struct msix *msix)
{
    pthread_mutex_lock(&msix->lock);
    bool enabled = msix->enabled;
    pthread_mutex_unlock(&msix->lock);
    return enabled;
}

void msix_trigger(struct msix *msix, unsigned vector)
{
    if (vector >= msix->count)
        return;
    pthread_mutex_lock(&msix->lock);
    if (msix->enabled && vector_masked(msix, vector))
        msix->pending[vector / 64] |= UINT64_C(1) << (vector % 64);
    else if (msix->enabled)
        send_vector(msix, vector);
    pthread_mutex_unlock(&msix->lock);
}

/* The specification knows dword and qword accesses; smaller ones read their part and write nothing. */
uint64_t msix_table_read(struct msix *msix, uint64_t offset, unsigned size)
{
    uint64_t value = 0;

    if (offset + size > (uint64_t)msix->count * MSIX_ENTRY_BYTES)
        return 0;
    pthread_mutex_lock(&msix->lock);
    memcpy(&value, (const uint8_t *)msix->table + offset, size);
    pthread_mutex_unlock(&msix->lock);
    return value;
}

void msix_table_write(struct msix *msix, uint64_t offset, unsigned size, uint64_t value)
{
    unsigned vector = (unsigned)(offset / MSIX_ENTRY_BYTES);

    if ((size != 4 && size != 8) || offset % size || offset + size > (uint64_t)msix->count * MSIX_ENTRY_BYTES)
        return;
    pthread_mutex_lock(&msix->lock);
    memcpy((uint8_t *)msix->table + offset, &value, size);
    msix->table[vector][ENTRY_CONTROL] &= ENTRY_MASKED;
    flush_vector(msix, vector);
    pthread_mutex_unlock(&msix->lock);
}

uint64_t msix_pba_read(struct msix *msix, uint64_t offset, unsigned size)
{
    uint64_t value = 0;

    if (offset + size > sizeof(msix->pending))
        return 0;
    pthread_mutex_lock(&msix->lock);
    memcpy(&value, (const uint8_t *)msix->pending + offset, size);
    pthread_mutex_unlock(&msix->lock);
    return value;
}
