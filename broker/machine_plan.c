/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who gets which file descriptor, and why. Nothing else reaches a child: no path, no environment, no other fd.
 *
 *   process        fds (beside /dev/null, the log and the ready pipe)             must never
 *   bulkhead-vmm   guest RAM, kernel, initrd, console, control, one per device    open a path, use the network
 *   bulkhead-blk   its vhost-user socket, its image, its overlay                  open a path, see another image
 *   bulkhead-net   its vhost-user socket                                          open a path, see a file
 *
 * Guest RAM reaches the servers through the vhost-user socket, from the VMM.
 */
#include "broker/machine_internal.h"

#include <arpa/inet.h>

static unsigned disk_queues(const struct machine *machine)
{
    return MIN(machine->spec.cpus, 4); /* a queue is a thread of the server; more than 4 gain nothing */
}

static void plan_fd(struct spawn_plan *plan, const char *option, int fd)
{
    spawn_plan_add(plan, "%s=%d", option, spawn_plan_fd(plan, fd));
}

static void plan_blk(const struct machine_process *process, struct spawn_plan *plan)
{
    const struct machine *machine = process->machine;
    const struct machine_disk *disk = &machine->disks[process->index];
    plan_fd(plan, "--fd", process->server_fd);   /* answers the VMM */
    plan_fd(plan, "--image-fd", disk->image_fd); /* the one image that it serves, with its lock */
    if (disk->overlay_fd >= 0) {
        plan_fd(plan, "--overlay-fd", disk->overlay_fd); /* takes the writes of an ephemeral disk */
    }
    if (machine->spec.disks[process->index].readonly) {
        spawn_plan_add(plan, "--readonly");
    }
    spawn_plan_add(plan, "--format=raw");
    spawn_plan_add(plan, "--serial=%s", process->id);
    spawn_plan_add(plan, "--num-queues=%u", disk_queues(machine));
}

/* A hardware address that the same card of a machine of the same name has again: 52:54 is locally administered. */
static void plan_mac(const struct machine_process *process, struct spawn_plan *plan)
{
    guint hash = g_str_hash(process->machine->spec.name);
    spawn_plan_add(plan, "--mac=52:54:%02x:%02x:%02x:%02x", hash >> 16 & 0xff, hash >> 8 & 0xff, hash & 0xff,
                   process->index);
}

static void plan_net(const struct machine_process *process, struct spawn_plan *plan)
{
    const struct net_spec *net = &process->machine->spec.nets[process->index];
    plan_fd(plan, "--fd", process->server_fd); /* answers the VMM */
    plan_mac(process, plan);
    for (unsigned i = 0; i < net->publish_count; i++) {
        char address[INET_ADDRSTRLEN];
        inet_ntop(AF_INET, &net->publish[i].address, address, sizeof(address));
        spawn_plan_add(plan, "--publish=%s:%u:%u", address, net->publish[i].host_port,
                       net->publish[i].guest_port);
    }
}

static void plan_vmm(const struct machine_process *process, struct spawn_plan *plan)
{
    const struct machine *machine = process->machine;
    const struct machine_spec *spec = &machine->spec;
    plan_fd(plan, "--memory-fd", machine->memory_fd); /* maps it, and shares it with this machine's servers */
    plan_fd(plan, "--kernel-fd", machine->kernel_fd); /* loads it, at every reset */
    if (machine->initrd_fd >= 0) {
        plan_fd(plan, "--initrd-fd", machine->initrd_fd); /* likewise */
    }
    plan_fd(plan, "--console-fd", machine->vmm_console_fd); /* the guest's serial port */
    plan_fd(plan, "--control-fd", machine->vmm_control_fd); /* vmm_control.h */
    plan_fd(plan, "--crash-fd", machine->crash_fd);         /* takes a report if it fails */
    spawn_plan_add(plan, "--memory=%" PRIu64, spec->memory_bytes);
    spawn_plan_add(plan, "--cpus=%u", spec->cpus);
    if (spec->cpu_model[0]) {
        spawn_plan_add(plan, "--cpu=%s", spec->cpu_model);
    }
    spawn_plan_add(plan, "--accel=%s", spec->accel);
    spawn_plan_add(plan, "--append=%s", spec->append);
    for (unsigned i = 1; i < machine->process_count; i++) {
        const struct machine_process *server = &machine->processes[i];
        int fd = spawn_plan_fd(plan, server->vmm_fd); /* asks that device's server */
        if (server->kind == &process_kind_blk) {
            spawn_plan_add(plan, "--device=kind=blk,fd=%d,queues=%u,id=%s", fd, disk_queues(machine),
                           server->id);
        } else {
            spawn_plan_add(plan, "--device=kind=net,fd=%d,id=%s", fd, server->id);
        }
    }
}

const struct process_kind process_kind_vmm = {
    .program = "bulkhead-vmm",
    .holds = "guest RAM, kernel, console, the sockets of this machine's servers",
    .plan = plan_vmm,
};
const struct process_kind process_kind_blk = {
    .program = "bulkhead-blk",
    .holds = "one image, this machine's RAM",
    .plan = plan_blk,
};
const struct process_kind process_kind_net = {
    .program = "bulkhead-net",
    .holds = "the network as this user, this machine's RAM",
    .plan = plan_net,
};
