// Notes what a process writes below one directory and when it is synced, so that a test can take back what a power failure would lose.
//
// Preloaded (LD_PRELOAD) into the real daemon, whose SQLite calls open(2), write(2), pwrite(2), ftruncate(2) and fsync(2) by these names. Each
// change is in the journal, a file elsewhere, before it is made; each sync after it was made. So a kill at any moment leaves a
// journal that covers every change, and no sync that did not happen. power.rs reads the journal.
//
// HOOKGATE_POWER_DIRECTORY: whose files. HOOKGATE_POWER_JOURNAL: the journal. HOOKGATE_POWER_SWALLOW: if set, nothing is synced, as by a disk
// that lies: the test of the test.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2, TRUNCATE = 3, CREATE = 4, SYNC_DIRECTORY = 5, UNLINK = 6 };

struct record {
    uint32_t kind;
    uint32_t path_bytes;
    uint64_t offset;
    uint64_t size_before;
    uint32_t old_bytes;
    uint32_t new_bytes;
};

#define DESCRIPTORS 4096
static char *paths[DESCRIPTORS];
static int is_directory[DESCRIPTORS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *directory;
static size_t directory_bytes;
static int journal = -1;
static int swallows;

static int (*real_open)(const char *, int, ...);
static int (*real_close)(int);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_ftruncate)(int, off_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_unlink)(const char *);

static void fail(const char *what) {
    dprintf(2, "journal.c: %s: %s\n", what, strerror(errno));
    abort();
}

__attribute__((constructor)) static void begin(void) {
    real_open = dlsym(RTLD_NEXT, "open");
    real_close = dlsym(RTLD_NEXT, "close");
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    const char *path = getenv("HOOKGATE_POWER_JOURNAL");
    directory = getenv("HOOKGATE_POWER_DIRECTORY");
    swallows = getenv("HOOKGATE_POWER_SWALLOW") != NULL;
    if (path == NULL || directory == NULL) return;
    directory_bytes = strlen(directory);
    // Open before the daemon gives up the right to write files, and out of the way of descriptors that a service manager hands over.
    int low = real_open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    journal = low < 0 ? -1 : fcntl(low, F_DUPFD_CLOEXEC, 700);
    if (journal < 0) fail(path);
    real_close(low);
}

static void append(const void *bytes, size_t count) {
    const char *rest = bytes;
    while (count > 0) {
        ssize_t written = real_write(journal, rest, count);
        if (written < 0) fail("journal");
        rest += written;
        count -= (size_t)written;
    }
}

static void note(uint32_t kind, const char *path, uint64_t offset, uint64_t size, const void *old, size_t old_bytes,
                 const void *new, size_t new_bytes) {
    struct record record = { kind, (uint32_t)strlen(path), offset, size, (uint32_t)old_bytes, (uint32_t)new_bytes };
    append(&record, sizeof record);
    append(path, record.path_bytes);
    append(old, old_bytes);
    append(new, new_bytes);
}

static int is_watched(const char *path) {
    return directory != NULL && strncmp(path, directory, directory_bytes) == 0
        && (path[directory_bytes] == '/' || path[directory_bytes] == 0);
}

static const char *path_of(int fd) {
    return fd >= 0 && fd < DESCRIPTORS ? paths[fd] : NULL;
}

static int opened(const char *path, int flags, mode_t mode) {
    if (!is_watched(path)) return real_open(path, flags, mode);
    pthread_mutex_lock(&lock);
    struct stat found;
    int existed = stat(path, &found) == 0;
    if (!existed && (flags & O_CREAT)) note(CREATE, path, 0, 0, NULL, 0, NULL, 0);
    int fd = real_open(path, flags, mode);
    int error = errno;
    if (fd >= DESCRIPTORS) fail("a descriptor is too large");
    if (fd >= 0) {
        // SQLite appends the end of a path to that of the directory.
        paths[fd] = strdup(path);
        is_directory[fd] = fstat(fd, &found) == 0 && S_ISDIR(found.st_mode);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return fd;
}

static mode_t mode_of(int flags, va_list arguments) {
    return flags & (O_CREAT | O_TMPFILE) ? (mode_t)va_arg(arguments, int) : 0;
}

int open(const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    return opened(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    return opened(path, flags | O_LARGEFILE, mode);
}

int close(int fd) {
    if (path_of(fd) != NULL) {
        pthread_mutex_lock(&lock);
        free(paths[fd]);
        paths[fd] = NULL;
        pthread_mutex_unlock(&lock);
    }
    return real_close(fd);
}

// Under the lock: the bytes that `count` bytes at `offset` replace, and the size of the file.
static void note_write(int fd, const void *bytes, size_t count, uint64_t offset) {
    struct stat before;
    if (fstat(fd, &before) != 0) fail("fstat");
    uint64_t size = (uint64_t)before.st_size;
    size_t old_bytes = offset >= size ? 0 : size - offset < count ? (size_t)(size - offset) : count;
    char *old = malloc(old_bytes + 1);
    for (size_t read = 0; read < old_bytes;) {
        // A descriptor that only writes cannot be read.
        int reader = real_open(paths[fd], O_RDONLY | O_CLOEXEC);
        ssize_t got = pread(reader, old + read, old_bytes - read, (off_t)(offset + read));
        real_close(reader);
        if (got <= 0) fail("pread");
        read += (size_t)got;
    }
    note(WRITE, paths[fd], offset, size, old, old_bytes, bytes, count);
    free(old);
}

static ssize_t written_at(int fd, const void *bytes, size_t count, off_t offset) {
    if (path_of(fd) == NULL) return real_pwrite(fd, bytes, count, offset);
    pthread_mutex_lock(&lock);
    note_write(fd, bytes, count, (uint64_t)offset);
    ssize_t written = real_pwrite(fd, bytes, count, offset);
    int error = errno;
    if (written >= 0 && (size_t)written != count) fail("a short write");
    pthread_mutex_unlock(&lock);
    errno = error;
    return written;
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) { return written_at(fd, bytes, count, offset); }
ssize_t pwrite64(int fd, const void *bytes, size_t count, off_t offset) { return written_at(fd, bytes, count, offset); }

ssize_t write(int fd, const void *bytes, size_t count) {
    if (path_of(fd) == NULL) return real_write(fd, bytes, count);
    off_t offset = fcntl(fd, F_GETFL) & O_APPEND ? lseek(fd, 0, SEEK_END) : lseek(fd, 0, SEEK_CUR);
    ssize_t written = written_at(fd, bytes, count, offset);
    if (written > 0) lseek(fd, offset + written, SEEK_SET);
    return written;
}

static int truncated(int fd, off_t size) {
    if (path_of(fd) == NULL) return real_ftruncate(fd, size);
    pthread_mutex_lock(&lock);
    struct stat before;
    if (fstat(fd, &before) != 0) fail("fstat");
    size_t cut = before.st_size > size ? (size_t)(before.st_size - size) : 0;
    char *old = malloc(cut + 1);
    if (cut > 0 && pread(fd, old, cut, size) != (ssize_t)cut) fail("pread");
    note(TRUNCATE, paths[fd], (uint64_t)size, (uint64_t)before.st_size, old, cut, NULL, 0);
    free(old);
    int result = real_ftruncate(fd, size);
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

int ftruncate(int fd, off_t size) { return truncated(fd, size); }
int ftruncate64(int fd, off_t size) { return truncated(fd, size); }

static int synced(int fd, int (*real)(int)) {
    if (path_of(fd) == NULL) return real(fd);
    if (swallows) return 0;
    pthread_mutex_lock(&lock);
    int result = real(fd);
    int error = errno;
    if (result == 0) note(is_directory[fd] ? SYNC_DIRECTORY : SYNC, paths[fd], 0, 0, NULL, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

int fsync(int fd) { return synced(fd, real_fsync); }
int fdatasync(int fd) { return synced(fd, real_fdatasync); }

int unlink(const char *path) {
    // No file of the database is removed while it has something that is not synced elsewhere; the test fails if one is.
    if (is_watched(path)) {
        pthread_mutex_lock(&lock);
        note(UNLINK, path, 0, 0, NULL, 0, NULL, 0);
        pthread_mutex_unlock(&lock);
    }
    return real_unlink(path);
}
