/* SPDX-License-Identifier: Apache-2.0 */
/* Packed double arithmetic: a matrix product that the compiler vectorises with SSE2. */
#include <stdio.h>

enum { SIZE = 320 };
static double a[SIZE][SIZE], b[SIZE][SIZE], c[SIZE][SIZE];

int main(void)
{
    for (int i = 0; i < SIZE; i++) {
        for (int j = 0; j < SIZE; j++) {
            a[i][j] = (i * 7 + j * 3) % 11 - 5;
            b[i][j] = (i * 5 + j * 2) % 13 - 6;
        }
    }
    for (int times = 0; times < 12; times++)
        for (int i = 0; i < SIZE; i++)
            for (int k = 0; k < SIZE; k++)
                for (int j = 0; j < SIZE; j++)
                    c[i][j] += a[i][k] * b[k][j];
    double sum = 0;
    for (int i = 0; i < SIZE; i++)
        for (int j = 0; j < SIZE; j++)
            sum += c[i][j] * ((i ^ j) % 5);
    printf("%.1f\n", sum);
    return 0;
}
