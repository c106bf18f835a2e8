/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/accel_choice.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* What this host says about KVM, as a clause. */
static void describe_kvm(char *text, size_t bytes)
{
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (fd >= 0) {
        close(fd);
        snprintf(text, bytes, "/dev/kvm is usable here");
    } else if (errno == ENOENT) {
        snprintf(text, bytes, "/dev/kvm does not exist here");
    } else {
        snprintf(text, bytes, "/dev/kvm cannot be opened: %s", strerror(errno));
    }
}

int accel_choose(const char *wanted, const char **ret_name, char *because, size_t because_bytes,
                 struct reason *reason)
{
    char kvm[80];
    describe_kvm(kvm, sizeof(kvm));
    if (strcmp(wanted, "kvm") == 0) {
        return reason_set(reason, -ENOTSUP,
                          "--accel kvm: this version cannot use KVM yet (%s); use --accel jit or "
                          "auto",
                          kvm);
    }
    if (strcmp(wanted, "jit") == 0) {
        snprintf(because, because_bytes, "as asked");
    } else if (!wanted[0] || strcmp(wanted, "auto") == 0) {
        snprintf(because, because_bytes, "this version cannot use KVM yet; %s", kvm);
    } else {
        return reason_set(reason, -EINVAL, "--accel %s: no such accelerator; use auto, kvm or jit", wanted);
    }
    *ret_name = "jit";
    return 0;
}
