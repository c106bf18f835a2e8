/* SPDX-License-Identifier: Apache-2.0 */
/* The map of an ephemeral disk's overlay: which sectors are where. */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devserver/block/overlay.h"
#include "protocol/base/fd.h"
#include "protocol/base/units.h"

#define SECTORS 1000 /* no multiple of 8 or of a map word */

static int make_file(void)
{
    return memfd_create("overlay", MFD_CLOEXEC);
}

static struct overlay open_overlay(int fd, uint64_t sectors)
{
    struct overlay overlay;
    char why[128];

    g_assert_cmpint(overlay_open(&overlay, fd, sectors, why, sizeof(why)), ==, 0);
    return overlay;
}

/* Broken: a read is cut at the wrong sector, so that the guest sees the image's data for its own, or the other way round. */
static void test_runs(void)
{
    struct overlay overlay = open_overlay(make_file(), SECTORS);
    bool model[SECTORS] = {false};
    GRand *random = g_rand_new_with_seed(7);

    for (unsigned round = 0; round < 400; round++) {
        uint64_t sector = g_rand_int_range(random, 0, SECTORS);
        uint64_t count = 1 + (uint64_t)g_rand_int_range(random, 0, (gint32)MIN(SECTORS - sector, 200));
        bool in_overlay;
        uint64_t expected = 1, run;

        if (round % 8 == 0) { /* sparse, so that both kinds stay common */
            overlay_mark(&overlay, sector, MIN(count, 70));
            for (uint64_t i = 0; i < MIN(count, 70); i++)
                model[sector + i] = true;
        }
        sector = g_rand_int_range(random, 0, SECTORS);
        count = 1 + (uint64_t)g_rand_int_range(random, 0, (gint32)(SECTORS - sector));
        while (expected < count && sector + expected < SECTORS && model[sector + expected] == model[sector])
            expected++;
        run = overlay_run(&overlay, sector, count, &in_overlay);
        g_assert_true(in_overlay == model[sector]);
        g_assert_cmpuint(run, ==, expected);
    }
    g_rand_free(random);
    overlay_finish(&overlay);
}

/* Broken: a restarted server forgets what its guest wrote. */
static void test_reopen(void)
{
    int fd = make_file();
    struct overlay overlay = open_overlay(dup(fd), SECTORS);
    bool in_overlay;

    overlay_mark(&overlay, 63, 2);
    overlay_finish(&overlay);
    overlay = open_overlay(dup(fd), SECTORS);
    g_assert_cmpuint(overlay_run(&overlay, 0, SECTORS, &in_overlay), ==, 63);
    g_assert_false(in_overlay);
    g_assert_cmpuint(overlay_run(&overlay, 63, SECTORS - 63, &in_overlay), ==, 2);
    g_assert_true(in_overlay);
    overlay_finish(&overlay);
    fd_close(&fd);
}

/* Broken: a large disk's overlay costs as much as the disk. */
static void test_size(void)
{
    int fd = make_file();
    struct overlay overlay = open_overlay(fd, 64 * GIB / SECTOR_BYTES);
    struct stat st;

    g_assert_cmpint(fstat(fd, &st), ==, 0);
    g_assert_cmpuint((uint64_t)st.st_blocks * 512, <=, 17 * MIB);
    overlay_finish(&overlay);
}

/* Broken: another disk's overlay, or any file, is taken and destroyed. */
static void test_refusals(void)
{
    struct overlay overlay;
    char why[128];
    int fd = make_file(), pipes[2];

    overlay = open_overlay(dup(fd), SECTORS);
    overlay_finish(&overlay);
    g_assert_cmpint(overlay_open(&overlay, fd, SECTORS + 8, why, sizeof(why)), ==, -EINVAL);
    g_assert_nonnull(strstr(why, "it must be an empty file"));
    fd_close(&fd);
    g_assert_cmpint(pipe2(pipes, O_CLOEXEC), ==, 0);
    g_assert_cmpint(overlay_open(&overlay, pipes[1], SECTORS, why, sizeof(why)), ==, -EINVAL);
    fd_close_all(pipes, 2);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/overlay/runs", test_runs);
    g_test_add_func("/overlay/reopen", test_reopen);
    g_test_add_func("/overlay/size", test_size);
    g_test_add_func("/overlay/refusals", test_refusals);
    return g_test_run();
}
