/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes what the broker reads from clients and VMMs: the input is a stream as a client sends it, cut in two where its
 * first byte says; each frame is unpacked, and a machine in it is checked and completed. The same bytes go to the VMM
 * channel's decoder as packets. No input may crash or leak, and what the checks let through must keep their promises.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/machine_spec.h"
#include "protocol/control_channel.h"
#include "protocol/vmm_control.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void check_machine(const Bulkhead__Machine *machine)
{
    struct machine_spec spec;
    struct reason reason = {""};
    if (machine_spec_init(&spec, machine, &reason) < 0) {
        if (!reason.text[0] || strchr(reason.text, '\n')) {
            abort(); /* a refusal is one line */
        }
        return;
    }
    if (spec.cpus < 1 || spec.cpus > MACHINE_CPUS_MAX || spec.memory_bytes < MACHINE_MEMORY_MIN ||
        spec.kernel[0] != '/' || (spec.name[0] && !machine_name_valid(spec.name))) {
        abort();
    }
    machine_spec_finish(&spec);
}

/* Takes the frames that are there. False when the channel broke. */
static int take_frames(struct control_channel *channel)
{
    const uint8_t *payload;
    size_t bytes;
    int fd, result;
    while ((result = control_channel_receive(channel, &payload, &bytes, &fd)) > 0) {
        Bulkhead__Request *request = bulkhead__request__unpack(NULL, bytes, payload);
        if (request && request->body_case == BULKHEAD__REQUEST__BODY_RUN && request->run->machine) {
            check_machine(request->run->machine);
        }
        bulkhead__request__free_unpacked(request, NULL);
    }
    return result == 0;
}

static void check_packet(const uint8_t *data, size_t bytes)
{
    struct vmm_control_message message;
    if (vmm_control_decode(data, bytes, 0, 1, &message) == 0) {
        uint8_t packet[VMM_CONTROL_PACKET_BYTES];
        if (vmm_control_encode(message.kind, message.device, message.serial, message.text, packet) > bytes) {
            abort();
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    int pair[2];
    struct control_channel channel;
    if (bytes < 2 || bytes > 65536 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        return 0;
    }
    if (control_channel_init(&channel, pair[0], false) < 0) {
        abort();
    }
    check_packet(data + 1, bytes - 1);
    size_t cut = 1 + data[0] % (bytes - 1);
    if (send(pair[1], data + 1, cut - 1, MSG_NOSIGNAL) >= 0 && take_frames(&channel)) {
        if (send(pair[1], data + cut, bytes - cut, MSG_NOSIGNAL) >= 0) {
            take_frames(&channel);
        }
    }
    control_channel_finish(&channel);
    close(pair[1]);
    return 0;
}
