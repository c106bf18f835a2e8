/* SPDX-License-Identifier: Apache-2.0 */
/* Scalar double arithmetic: one dependent chain per pixel of the Mandelbrot set. */
#include <stdio.h>

int main(void)
{
    enum { WIDTH = 1200, HEIGHT = 800, LIMIT = 400 };
    unsigned long total = 0;
    for (int row = 0; row < HEIGHT; row++) {
        for (int column = 0; column < WIDTH; column++) {
            double cr = -2.0 + 3.0 * column / WIDTH, ci = -1.2 + 2.4 * row / HEIGHT, zr = 0, zi = 0;
            int n = 0;
            while (n < LIMIT && zr * zr + zi * zi < 4.0) {
                double next = zr * zr - zi * zi + cr;
                zi = 2 * zr * zi + ci;
                zr = next;
                n++;
            }
            total += n;
        }
    }
    printf("%lu\n", total);
    return 0;
}
