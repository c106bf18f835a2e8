/* SPDX-License-Identifier: Apache-2.0 */
/* Starts and reaps 300 processes, one after the other. */
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
    int good = 0;
    for (int i = 0; i < 300; i++) {
        pid_t child = fork();
        if (child == 0) {
            execl("/bin/true", "true", (char *)NULL);
            _exit(127);
        }
        int status = -1;
        if (waitpid(child, &status, 0) == child && status == 0)
            good++;
    }
    printf("%d\n", good);
    return good == 300 ? 0 : 1;
}
