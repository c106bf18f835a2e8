/* SPDX-License-Identifier: Apache-2.0 */
/* Two processes on one processor hand a byte to and fro 60,000 times: 120,000 context switches. */
#include <sched.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
    enum { ROUNDS = 60000 };
    int there[2], back[2];
    char byte = 'x';
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    if (sched_setaffinity(0, sizeof one, &one) || pipe(there) || pipe(back))
        return 1;
    pid_t child = fork();
    if (child == 0) {
        for (int i = 0; i < ROUNDS; i++)
            if (read(there[0], &byte, 1) != 1 || write(back[1], &byte, 1) != 1)
                _exit(1);
        _exit(0);
    }
    for (int i = 0; i < ROUNDS; i++)
        if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1)
            return 1;
    int status = -1;
    waitpid(child, &status, 0);
    printf("%d rounds\n", ROUNDS);
    return status == 0 ? 0 : 1;
}
