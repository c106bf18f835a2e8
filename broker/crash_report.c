/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/crash_report.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "protocol/base/fd.h"
#include "protocol/control_path.h"
#include "protocol/vmm_control.h"

#define KEPT 16

/* Returns owned; NULL when there is no report. */
static char *read_report(int fd, size_t *ret_bytes)
{
    g_autofree char *text = g_malloc(VMM_CONTROL_CRASH_BYTES);
    ssize_t got = pread(fd, text, VMM_CONTROL_CRASH_BYTES, 0);
    size_t bytes = got > 0 ? strnlen(text, (size_t)got) : 0;
    if (bytes == 0) {
        return NULL;
    }
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] != '\n' && !g_ascii_isprint(text[i])) {
            text[i] = '?';
        }
    }
    *ret_bytes = bytes;
    return g_steal_pointer(&text);
}

static int compare_times(gconstpointer a, gconstpointer b, gpointer dir)
{
    struct stat one = {0}, other = {0};
    fstatat(GPOINTER_TO_INT(dir), *(char *const *)a, &one, AT_SYMLINK_NOFOLLOW);
    fstatat(GPOINTER_TO_INT(dir), *(char *const *)b, &other, AT_SYMLINK_NOFOLLOW);
    return one.st_mtime < other.st_mtime ? -1 : one.st_mtime > other.st_mtime;
}

/* Makes room for one more. */
static void remove_old(int dir_fd, const char *dir)
{
    g_autoptr(GDir) entries = g_dir_open(dir, 0, NULL);
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    for (const char *name; entries && (name = g_dir_read_name(entries));) {
        if (g_str_has_suffix(name, ".txt")) {
            g_ptr_array_add(names, g_strdup(name));
        }
    }
    g_ptr_array_sort_with_data(names, compare_times, GINT_TO_POINTER(dir_fd));
    for (guint i = 0; i + KEPT <= names->len; i++) {
        unlinkat(dir_fd, g_ptr_array_index(names, i), 0);
    }
}

static int write_file(int dir_fd, const char *name, const char *text, size_t bytes)
{
    cleanup_fd int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        return -errno;
    }
    int result = fd_write_full(fd, text, bytes);
    if (result < 0) {
        unlinkat(dir_fd, name, 0);
    }
    return MIN(result, 0);
}

int crash_report_save(int fd, const char *name, char path[PATH_MAX])
{
    size_t bytes;
    g_autofree char *text = read_report(fd, &bytes);
    if (!text) {
        return 0;
    }
    char state[PATH_MAX] = "the state directory";
    int result = control_state_path(state);
    g_strlcpy(path, state, PATH_MAX);
    if (result < 0) {
        return result;
    }
    g_autofree char *dir = g_strdup_printf("%s/" CONTROL_CRASH_DIR, state);
    cleanup_fd int dir_fd = -1;
    if (g_mkdir_with_parents(dir, 0700) < 0 || (dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) {
        return -errno;
    }
    remove_old(dir_fd, dir);
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *when = g_date_time_format(now, "%Y%m%dT%H%M%SZ");
    result = -EEXIST;
    for (unsigned try = 0; try < 100 && result == -EEXIST; try++) {
        g_autofree char *file =
            try ? g_strdup_printf("%s-%s-%u.txt", name, when, try) : g_strdup_printf("%s-%s.txt", name, when);
        g_snprintf(path, PATH_MAX, "%s/%s", dir, file);
        result = write_file(dir_fd, file, text, bytes);
    }
    return result < 0 ? result : 1;
}
