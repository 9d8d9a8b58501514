/* The bare pipe: a plain port program that the bridge is measured beside. Frames are {packet, 4}.
 *
 *   pipe echo               writes every frame back
 *   pipe bytes SIZE COUNT   COUNT frames of SIZE bytes, as fast as they go
 *   pipe events COUNT       COUNT frames, each the term {data, I}; written 64 KiB at a time
 *   pipe ticks US COUNT     COUNT frames US microseconds apart: the clock in eight bytes
 *
 * All but `echo' wait for one frame before they start, and leave at the end of their input.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static unsigned char *buffer;

static void write_all(const unsigned char *data, size_t size)
{
    while (size > 0) {
        ssize_t written = write(1, data, size);
        if (written <= 0)
            exit(0);
        data += written;
        size -= (size_t)written;
    }
}

static void put32(unsigned char *to, uint32_t value)
{
    to[0] = (unsigned char)(value >> 24);
    to[1] = (unsigned char)(value >> 16);
    to[2] = (unsigned char)(value >> 8);
    to[3] = (unsigned char)value;
}

/* Frames are small and the node waits for each, so one read is one frame. */
static void echo(void)
{
    ssize_t size;
    while ((size = read(0, buffer, 65536)) > 0)
        write_all(buffer, (size_t)size);
}

static void wait_for_input(void)
{
    if (read(0, buffer, 65536) <= 0)
        exit(0);
}

static void bytes(uint32_t size, long count)
{
    put32(buffer, size);
    memset(buffer + 4, 'x', size);
    for (; count > 0; count--)
        write_all(buffer, size + 4);
}

static void events(long count)
{
    static const unsigned char head[] = {0, 0, 0, 14, 131, 'h', 2, 'w', 4, 'd', 'a', 't', 'a', 'b'};
    size_t used = 0;
    for (long i = 0; i < count; i++) {
        memcpy(buffer + used, head, sizeof head);
        put32(buffer + used + sizeof head, (uint32_t)i);
        used += sizeof head + 4;
        if (used > 65536 - 32) {
            write_all(buffer, used);
            used = 0;
        }
    }
    write_all(buffer, used);
}

/* CLOCK_MONOTONIC in nanoseconds, as os:perf_counter/1 reads it. */
static void ticks(long microseconds, long count)
{
    for (; count > 0; count--) {
        struct timespec now;
        usleep((useconds_t)microseconds);
        clock_gettime(CLOCK_MONOTONIC, &now);
        uint64_t time = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
        put32(buffer, 8);
        put32(buffer + 4, (uint32_t)(time >> 32));
        put32(buffer + 8, (uint32_t)time);
        write_all(buffer, 12);
    }
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    buffer = malloc(2 << 20);
#ifdef F_SETPIPE_SZ
    /* As Python does; where this is refused the pipe holds 64 KiB. */
    (void)fcntl(1, F_SETPIPE_SZ, 1 << 20);
#endif
    if (strcmp(mode, "echo") == 0) {
        echo();
        return 0;
    }
    for (;;) {
        wait_for_input();
        if (strcmp(mode, "bytes") == 0 && argc == 4)
            bytes((uint32_t)atol(argv[2]), atol(argv[3]));
        else if (strcmp(mode, "ticks") == 0 && argc == 4)
            ticks(atol(argv[2]), atol(argv[3]));
        else if (strcmp(mode, "events") == 0 && argc == 3)
            events(atol(argv[2]));
        else
            return 64;
    }
}
