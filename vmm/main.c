/* SPDX-License-Identifier: Apache-2.0 */
/* bulkhead-vmm: runs one virtual machine. */
#include "protocol/base/fd.h"
#include "protocol/base/log.h"
#include "vmm/machine.h"
#include "vmm/options.h"
#include "vmm/terminal.h"

#include <stdio.h>

int main(int argc, char **argv)
{
    struct options options;
    char why[512];
    int result, exit_status = 1;

    log_init("bulkhead-vmm", LOG_LEVEL_INFO);
    result = options_parse(argc, argv, &options, why, sizeof(why));
    log_set_level(options.log_level);
    if (result == 0) {
        terminal_set_raw(options.console_in);
        exit_status = machine_run(&options);
        terminal_restore();
    } else if (result > 0) {
        if (options.cpu_help)
            machine_cpu_help();
        exit_status = 0;
    } else if (options.ready_fd >= 0) {
        dprintf(options.ready_fd, "error: %s\n", why);
    } else {
        log_error("%s", why);
    }
    options_finish(&options);
    return exit_status;
}
