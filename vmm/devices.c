/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/devices.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "protocol/base/fd.h"
#include "vmm/event_thread.h"
#include "vmm/virtio/vhost_device.h"
#include "vmm/virtio/virtio_pci.h"

#define REQUEST_TIMEOUT_MS 10000
#define WHY_BYTES          256

struct device {
    struct devices *all;
    const char *id; /* in the options */
    struct vhost_device *vhost;
    struct virtio_pci *virtio;
    char why[WHY_BYTES]; /* written before `lost` */
    _Atomic bool lost;   /* a loss that has not been reported yet */
    uint32_t serial;     /* of its socket; main thread */
};

struct devices {
    struct devices_config config;
    struct event_thread *thread;
    int log_fd; /* bitmap of pages that devices wrote, or -1 */
    uint64_t *log;
    uint64_t log_bytes;
    unsigned count;
    struct device device[VMM_CONTROL_DEVICES_MAX];
};

static void on_interrupt(void *opaque, unsigned queue)
{
    struct device *device = opaque;

    virtio_pci_interrupt(device->virtio, queue);
}

static void on_config_changed(void *opaque)
{
    struct device *device = opaque;

    virtio_pci_config_changed(device->virtio);
}

static void on_broken(void *opaque)
{
    static struct log_limit limit;
    struct device *device = opaque;

    log_limited(&limit, LOG_LEVEL_WARNING, "device %s: its server has given up on a ring", device->id);
    virtio_pci_needs_reset(device->virtio);
}

static void on_lost(void *opaque, const char *why)
{
    struct device *device = opaque;

    snprintf(device->why, sizeof(device->why), "%s", why);
    atomic_store(&device->lost, true);
    device->all->config.noticed(device->all->config.opaque);
}

static void on_ring_started(void *opaque, const uint16_t *used_index)
{
    static struct log_limit limit;
    const struct devices_config *config = &((struct device *)opaque)->all->config;

    if (config->ops->vm_watch_writes(config->vm, used_index) < 0)
        log_limited(&limit, LOG_LEVEL_WARNING,
                    "too many rings: code that a device writes may be noticed late");
}

static void on_ring_stopped(void *opaque, const uint16_t *used_index)
{
    const struct devices_config *config = &((struct device *)opaque)->all->config;

    config->ops->vm_unwatch_writes(config->vm, used_index);
}

/* For an accelerator that must know what devices write. */
static int create_log(struct devices *devices)
{
    const struct devices_config *config = &devices->config;
    const struct ram_region *last = &config->ram->regions[config->ram->region_count - 1];

    if (!config->ops->vm_set_write_log)
        return 0;
    devices->log_bytes = memory_log_bytes(last->gpa + last->bytes);
    devices->log_fd = memfd_create("bulkhead-writes", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (devices->log_fd < 0 || ftruncate(devices->log_fd, (off_t)devices->log_bytes) < 0 ||
        fcntl(devices->log_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return -errno;
    devices->log = mmap(NULL, devices->log_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, devices->log_fd, 0);
    if (devices->log == MAP_FAILED) {
        devices->log = NULL;
        return -errno;
    }
    return config->ops->vm_set_write_log(config->vm, devices->log, devices->log_bytes);
}

static void send_msi(void *opaque, uint64_t address, uint32_t data)
{
    struct pc *pc = opaque;

    lapic_msi(&pc->lapics, address, data);
}

static void set_intx(void *opaque, unsigned slot, bool level)
{
    pc_pci_intx(opaque, slot, level);
}

static int create_one(struct devices *devices, struct device_option *option, struct device *device, char *why,
                      size_t why_bytes)
{
    const struct vhost_device_config vhost = {
        .kind = option->kind == DEVICE_BLK ? VHOST_DEVICE_BLK : VHOST_DEVICE_NET,
        .fd = fd_steal(&option->fd),
        .max_queues = option->queues,
        .timeout_ms = REQUEST_TIMEOUT_MS,
        .await_successor = devices->config.options->control_fd >= 0,
        .ram = devices->config.ram,
        .log_fd = devices->log_fd,
        .log_bytes = devices->log_bytes,
        .host = {.interrupt = on_interrupt,
                 .config_changed = on_config_changed,
                 .broken = on_broken,
                 .lost = on_lost,
                 .ring_started = on_ring_started,
                 .ring_stopped = on_ring_stopped,
                 .opaque = device},
    };
    struct virtio_pci_config virtio = {.msi = send_msi, .intx = set_intx, .board = devices->config.pc};
    char reason[WHY_BYTES];
    int result, slot;

    device->all = devices;
    device->id = option->id;
    result = vhost_device_create(&vhost, &device->vhost, reason, sizeof(reason));
    if (result < 0) {
        snprintf(why, why_bytes, "device %s: %s", device->id, reason);
        return result;
    }
    vhost_device_describe(device->vhost, &virtio);
    result = virtio_pci_create(&virtio, &device->virtio);
    if (result < 0) {
        snprintf(why, why_bytes, "device %s: its server offers no modern virtio device", device->id);
        return result;
    }
    slot = pci_host_add(&devices->config.pc->pci, &device->virtio->function);
    if (slot < 0) {
        snprintf(why, why_bytes, "device %s: no PCI slot is left", device->id);
        return slot;
    }
    device->virtio->slot = (unsigned)slot;
    result = vhost_device_attach(device->vhost, devices->thread);
    if (result < 0)
        snprintf(why, why_bytes, "device %s: cannot watch its descriptors: %s", device->id,
                 strerror(-result));
    return result;
}

int devices_create(const struct devices_config *config, struct devices **ret_devices, char *why,
                   size_t why_bytes)
{
    struct devices *devices = calloc(1, sizeof(*devices));
    int result;

    if (!devices) {
        snprintf(why, why_bytes, "out of memory");
        return -ENOMEM;
    }
    devices->config = *config;
    devices->log_fd = -1;
    result = create_log(devices);
    if (result < 0) {
        snprintf(why, why_bytes, "cannot keep a log of device writes: %s", strerror(-result));
        devices_destroy(devices);
        return result;
    }
    result = event_thread_create(&devices->thread);
    if (result < 0)
        snprintf(why, why_bytes, "cannot start the device thread: %s", strerror(-result));
    for (unsigned i = 0; i < config->options->device_count && result == 0; i++) {
        devices->count++;
        result = create_one(devices, &config->options->devices[i], &devices->device[i], why, why_bytes);
    }
    if (result < 0) {
        devices_destroy(devices);
        return result;
    }
    *ret_devices = devices;
    return 0;
}

void devices_stop(struct devices *devices)
{
    if (!devices)
        return;
    event_thread_stop(devices->thread);
    devices->thread = NULL;
}

void devices_destroy(struct devices *devices)
{
    if (!devices)
        return;
    devices_stop(devices);
    for (unsigned i = 0; i < devices->count; i++) {
        virtio_pci_destroy(devices->device[i].virtio);
        vhost_device_destroy(devices->device[i].vhost);
    }
    if (devices->log)
        munmap(devices->log, devices->log_bytes);
    fd_close(&devices->log_fd);
    free(devices);
}

void devices_report_losses(struct devices *devices,
                           void (*report)(void *opaque, unsigned index, uint32_t serial, const char *why,
                                          bool final),
                           void *opaque)
{
    for (unsigned i = 0; i < devices->count; i++) {
        struct device *device = &devices->device[i];
        bool final = !vhost_device_awaits_successor(device->vhost);

        if (!atomic_exchange(&device->lost, false))
            continue;
        if (final)
            virtio_pci_needs_reset(device->virtio);
        report(opaque, i, device->serial, device->why, final);
    }
}

int devices_resume(struct devices *devices, unsigned index, uint32_t serial, int fd, char *why,
                   size_t why_bytes)
{
    if (index >= devices->count) {
        fd_close(&fd);
        snprintf(why, why_bytes, "there is no device %u", index);
        return -ENODEV;
    }
    devices->device[index].serial = serial;
    atomic_store(&devices->device[index].lost, false); /* a loss of the socket before is mended by this */
    return vhost_device_resume(devices->device[index].vhost, fd, why, why_bytes);
}

const char *devices_id(const struct devices *devices, unsigned index)
{
    return index < devices->count ? devices->device[index].id : NULL;
}
