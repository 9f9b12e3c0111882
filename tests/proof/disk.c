/* Preloaded into a process under test: a disk that can be full, and that forgets at a power cut what was not synced.
 *
 * TIPGUARD_DISK        directory (no symbolic link in it): what follows is about the files below it
 * TIPGUARD_DISK_IMAGE  what is durable of it: data/<inode>, as of that file's last sync; names/<path, % for />, a text
 *                      with the inode, as of the last sync of the file (if it had no name yet) or of its directory
 * TIPGUARD_DISK_FULL   a path: while it exists, every write below the directory fails with ENOSPC
 * TIPGUARD_DISK_SLOW   a path: while it exists, every sync below the directory takes 0.3 s longer, as on a worn-out card
 *
 * A sync returns when the image is in place, so a kill in between leaves the older one, as a power cut would. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* The path of an open file below the directory, relative to it; 0 for any other file. */
static int below(int fd, char *relative)
{
    char link[64], path[PATH_MAX];
    const char *directory = getenv("TIPGUARD_DISK");
    size_t length = directory == NULL ? 0 : strlen(directory);
    if (length == 0)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < (ssize_t)length)
        return 0;
    path[size] = 0;
    if (strncmp(path, directory, length) != 0 || (path[length] != '/' && path[length] != 0))
        return 0;
    strcpy(relative, path[length] == '/' ? path + length + 1 : "");
    return 1;
}

static int full(int fd)
{
    char relative[PATH_MAX];
    const char *flag = getenv("TIPGUARD_DISK_FULL");
    return flag != NULL && access(flag, F_OK) == 0 && below(fd, relative);
}

static void image_path(char *out, const char *kind, const char *name)
{
    snprintf(out, PATH_MAX, "%s/%s/%s", getenv("TIPGUARD_DISK_IMAGE"), kind, name);
}

/* Put a file into place in one step. */
static int settle(const char *path, int from, const char *text)
{
    char partial[PATH_MAX], chunk[65536];
    snprintf(partial, sizeof partial, "%s.%d.new", path, (int)getpid());
    int to = open(partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (to < 0)
        return -1;
    ssize_t got, at = 0;
    if (text != NULL)
        REAL(write)(to, text, strlen(text));
    else
        while ((got = pread(from, chunk, sizeof chunk, at)) > 0) {
            if (REAL(write)(to, chunk, (size_t)got) != got)
                break;
            at += got;
        }
    close(to);
    return rename(partial, path);
}

static void name_path(char *out, const char *relative)
{
    char flat[PATH_MAX];
    strcpy(flat, relative);
    for (char *at = flat; *at; at++)
        if (*at == '/')
            *at = '%';
    image_path(out, "names", flat);
}

static void keep_name(const char *relative, ino_t inode, int only_new)
{
    char path[PATH_MAX], text[32];
    name_path(path, relative);
    if (only_new && access(path, F_OK) == 0)
        return;
    snprintf(text, sizeof text, "%lu", (unsigned long)inode);
    settle(path, -1, text);
}

/* A directory's names become what they are now. */
static void keep_names(int fd, const char *relative)
{
    char path[PATH_MAX], prefix[PATH_MAX], names[PATH_MAX], entry[PATH_MAX];
    struct stat found;
    struct dirent *one;
    snprintf(prefix, sizeof prefix, "%s%s", relative, *relative ? "%" : "");
    for (char *at = prefix; *at; at++)
        if (*at == '/')
            *at = '%';
    image_path(names, "names", "");
    DIR *old = opendir(names);
    while (old != NULL && (one = readdir(old)) != NULL)
        if (*one->d_name != '.' && strncmp(one->d_name, prefix, strlen(prefix)) == 0
            && strchr(one->d_name + strlen(prefix), '%') == NULL) {
            if (fstatat(fd, one->d_name + strlen(prefix), &found, AT_SYMLINK_NOFOLLOW) != 0) {
                snprintf(path, sizeof path, "%s%s", names, one->d_name);
                unlink(path);
            }
        }
    if (old != NULL)
        closedir(old);
    DIR *now = fdopendir(openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    while (now != NULL && (one = readdir(now)) != NULL)
        if (fstatat(fd, one->d_name, &found, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(found.st_mode)) {
            snprintf(entry, sizeof entry, "%s%s%s", relative, *relative ? "/" : "", one->d_name);
            keep_name(entry, found.st_ino, 0);
        }
    if (now != NULL)
        closedir(now);
}

static int synced(int fd, int result)
{
    char relative[PATH_MAX], path[PATH_MAX], inode[32];
    struct stat found;
    if (result != 0 || getenv("TIPGUARD_DISK_IMAGE") == NULL || !below(fd, relative) || fstat(fd, &found) != 0)
        return result;
    int before = errno;
    if (S_ISDIR(found.st_mode))
        keep_names(fd, relative);
    else {
        /* Opened again: the program's own descriptor may be for writing only. */
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        int from = open(link, O_RDONLY | O_CLOEXEC);
        snprintf(inode, sizeof inode, "%lu", (unsigned long)found.st_ino);
        image_path(path, "data", inode);
        settle(path, from, NULL);
        close(from);
        keep_name(relative, found.st_ino, 1);
    }
    errno = before;
    return result;
}

static void dawdle(int fd)
{
    char relative[PATH_MAX];
    const char *flag = getenv("TIPGUARD_DISK_SLOW");
    if (flag != NULL && access(flag, F_OK) == 0 && below(fd, relative))
        usleep(300000);
}

int fsync(int fd)
{
    dawdle(fd);
    return synced(fd, REAL(fsync)(fd));
}

int fdatasync(int fd)
{
    dawdle(fd);
    return synced(fd, REAL(fdatasync)(fd));
}

#define REFUSE(fd)       \
    if (full(fd)) {      \
        errno = ENOSPC;  \
        return -1;       \
    }

ssize_t write(int fd, const void *data, size_t size)
{
    REFUSE(fd)
    return REAL(write)(fd, data, size);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    REFUSE(fd)
    return REAL(writev)(fd, parts, count);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    REFUSE(fd)
    return REAL(pwrite)(fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
    REFUSE(fd)
    return REAL(pwrite64)(fd, data, size, at);
}

int posix_fallocate(int fd, off_t at, off_t size)
{
    if (full(fd))
        return ENOSPC;
    return REAL(posix_fallocate)(fd, at, size);
}
