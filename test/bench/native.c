/* The native writer: stands where Python stands, behind the same worker and the same stream
 * process, and writes frames that are made before the stream starts. Its rate is the ceiling
 * for any program behind this port. It speaks docs/protocol.md, as far as a benchmark needs it.
 *
 *   native DIRECTORY READ_FD WRITE_FD
 *
 * What a stream yields is in the name of the function that it calls:
 *
 *   KIND_RUN_WRITE_FRAMES   FRAMES frames of RUN values; at most WRITE of them in one write.
 *                           With RUN 0 a frame is one {data, Value}.
 *   KIND: ints strings rows dicts, or bytesN: binaries of N bytes
 *
 * and the name of the module says whether it waits for credit (`credit') or not (`free').
 * Calls are answered with none.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SETTINGS = 1, STREAM, CALL, EXEC, CANCEL, CREDIT, CALLBACK_RESULT, PING, LEVEL, STATS };
enum { READY = 65, EVENT, LAST, REPLY, SEND, CALLBACK, OUTPUT, LOG, PONG, FAILED, HELLO = 79 };

/* What a pipe holds. */
#define OUT_SIZE 65536
#define IN_SIZE (1 << 20)
#define MAX_STREAMS 16384

typedef struct {
    unsigned char *data;
    size_t size, capacity;
} bytes_t;

typedef struct {
    unsigned char address[256];
    size_t address_size;
    unsigned char prefix[256];
    size_t prefix_size;
    bytes_t frame;
    uint64_t payload, run, in_one_write, left;
    uint64_t window, window_bytes, sent, sent_bytes, taken, taken_bytes;
    int is_free;
} stream_t;

static int in_fd, out_fd;
static unsigned char in[IN_SIZE], out[OUT_SIZE];
static size_t in_used, out_used;
static stream_t *streams[MAX_STREAMS];
static size_t stream_count;

/* Bytes. */

static void add(bytes_t *to, const void *data, size_t size)
{
    if (to->size + size > to->capacity) {
        to->capacity = 2 * (to->size + size);
        to->data = realloc(to->data, to->capacity);
    }
    memcpy(to->data + to->size, data, size);
    to->size += size;
}

static void add8(bytes_t *to, unsigned value)
{
    unsigned char byte = (unsigned char)value;
    add(to, &byte, 1);
}

static void add32(bytes_t *to, uint32_t value)
{
    unsigned char four[4] = {(unsigned char)(value >> 24), (unsigned char)(value >> 16),
                             (unsigned char)(value >> 8), (unsigned char)value};
    add(to, four, 4);
}

static uint64_t get(const unsigned char *from, int size)
{
    uint64_t value = 0;
    for (int i = 0; i < size; i++)
        value = value << 8 | from[i];
    return value;
}

/* Terms. */

static void add_atom(bytes_t *to, const char *name)
{
    add8(to, 'w');
    add8(to, (unsigned)strlen(name));
    add(to, name, strlen(name));
}

static void add_binary(bytes_t *to, const char *text)
{
    add8(to, 'm');
    add32(to, (uint32_t)strlen(text));
    add(to, text, strlen(text));
}

static void add_int(bytes_t *to, uint32_t value)
{
    add8(to, 'b');
    add32(to, value);
}

static void add_float(bytes_t *to)
{
    add(to, "F\x3f\xf8\0\0\0\0\0\0", 9);
}

static void add_value(bytes_t *to, const char *kind, unsigned i)
{
    char word[16];
    snprintf(word, sizeof word, "token%02u", i % 100);
    if (strcmp(kind, "ints") == 0) {
        add_int(to, 100000 + i);
    } else if (strcmp(kind, "strings") == 0) {
        add_binary(to, word);
    } else if (strcmp(kind, "rows") == 0) {
        add(to, "h\4", 2);
        add_int(to, 100000 + i);
        add_binary(to, word);
        add_float(to);
        add_atom(to, "true");
    } else if (strcmp(kind, "dicts") == 0) {
        add(to, "t\0\0\0\4", 5);
        add_binary(to, "id");
        add_int(to, 100000 + i);
        add_binary(to, "name");
        add_binary(to, word);
        add_binary(to, "score");
        add_float(to);
        add_binary(to, "valid");
        add_atom(to, "true");
    } else if (strncmp(kind, "bytes", 5) == 0) {
        long size = atol(kind + 5);
        add8(to, 'm');
        add32(to, (uint32_t)size);
        for (long n = 0; n < size; n++)
            add8(to, 'x');
    } else {
        fprintf(stderr, "native: no such values: %s\n", kind);
        exit(64);
    }
}

/* Frames out. */

static void write_all(const unsigned char *data, size_t size)
{
    while (size > 0) {
        ssize_t written = write(out_fd, data, size);
        if (written <= 0)
            exit(0);
        data += written;
        size -= (size_t)written;
    }
}

static void flush(void)
{
    write_all(out, out_used);
    out_used = 0;
}

static void put(const unsigned char *data, size_t size)
{
    if (out_used + size > OUT_SIZE)
        flush();
    if (size > OUT_SIZE) {
        write_all(data, size);
        return;
    }
    memcpy(out + out_used, data, size);
    out_used += size;
}

static void put_frame(int kind, const unsigned char *address, size_t size, const bytes_t *payload)
{
    bytes_t frame = {0};
    add32(&frame, (uint32_t)(2 + size + payload->size));
    add8(&frame, (unsigned)kind);
    add8(&frame, (unsigned)size);
    add(&frame, address, size);
    add(&frame, payload->data, payload->size);
    put(frame.data, frame.size);
    free(frame.data);
}

static void put_ready(void)
{
    bytes_t payload = {0};
    add(&payload, "\203t\0\0\0\5", 6);
    add_atom(&payload, "python");
    add_binary(&payload, "none");
    add_atom(&payload, "executable");
    add_binary(&payload, "native");
    add_atom(&payload, "writer");
    add_atom(&payload, "native");
    add_atom(&payload, "os_pid");
    add8(&payload, 'b');
    add32(&payload, (uint32_t)getpid());
    add_atom(&payload, "protocol");
    add8(&payload, 'a');
    add8(&payload, 1);
    add_atom(&payload, "os_pid");
    add8(&payload, 'b');
    add32(&payload, (uint32_t)getpid());
    put_frame(READY, NULL, 0, &payload);
    free(payload.data);
}

/* {ok, none}, or {ok, #{}}. */
static void put_reply(const unsigned char *address, size_t size, int is_map)
{
    bytes_t payload = {0};
    add(&payload, "\203h\2", 3);
    add_atom(&payload, "ok");
    if (is_map)
        add(&payload, "t\0\0\0\0", 5);
    else
        add_atom(&payload, "none");
    put_frame(REPLY, address, size, &payload);
    free(payload.data);
}

/* Calls are answered at once, so all requests under way are streams. */
static void put_pong(void)
{
    bytes_t payload = {0};
    add32(&payload, (uint32_t)stream_count);
    add32(&payload, (uint32_t)stream_count);
    put_frame(PONG, NULL, 0, &payload);
    free(payload.data);
}

/* Streams. */

static void make_frame(stream_t *s, const char *kind, unsigned run)
{
    bytes_t payload = {0};
    add(&payload, s->prefix, s->prefix_size);
    add(&payload, "h\2", 2);
    if (run == 0) {
        add_atom(&payload, "data");
        add_value(&payload, kind, 0);
    } else {
        add_atom(&payload, "batch");
        add8(&payload, 'l');
        add32(&payload, run);
        for (unsigned i = 0; i < run; i++)
            add_value(&payload, kind, i);
        add8(&payload, 'j');
    }
    s->payload = payload.size;
    s->run = run == 0 ? 1 : run;
    add32(&s->frame, (uint32_t)(2 + s->address_size + payload.size));
    add8(&s->frame, EVENT);
    add8(&s->frame, (unsigned)s->address_size);
    add(&s->frame, s->address, s->address_size);
    add(&s->frame, payload.data, payload.size);
    free(payload.data);
}

static void start(const unsigned char *address, size_t size, const unsigned char *at)
{
    char kind[32], module[256] = {0}, function[256] = {0};
    unsigned run, in_one_write;
    unsigned long frames;
    stream_t *s = calloc(1, sizeof *s);
    memcpy(s->address, address, size);
    s->address_size = size;
    s->window = get(at, 8);
    s->window_bytes = get(at + 8, 8);
    s->prefix_size = at[41];
    memcpy(s->prefix, at + 44, s->prefix_size);
    /* The owner, who is not asked for here, lies between the prefix and the target. */
    at += 44 + s->prefix_size + get(at + 42, 2);
    size_t module_size = get(at + 2, 4), function_size = get(at + 6, 4);
    if (module_size < sizeof module && function_size < sizeof function) {
        memcpy(module, at + 10, module_size);
        memcpy(function, at + 10 + module_size, function_size);
    }
    if (sscanf(function, "%31[a-z0-9]_%u_%u_%lu", kind, &run, &in_one_write, &frames) != 4
        || stream_count == MAX_STREAMS) {
        fprintf(stderr, "native: cannot stream %s\n", function);
        exit(64);
    }
    s->is_free = strcmp(module, "free") == 0;
    s->in_one_write = in_one_write;
    s->left = frames;
    make_frame(s, kind, run);
    streams[stream_count++] = s;
}

static void finish(size_t index, const char *error)
{
    stream_t *s = streams[index];
    bytes_t payload = {0};
    add(&payload, s->prefix, s->prefix_size);
    if (error == NULL) {
        add_atom(&payload, "done");
    } else {
        add(&payload, "h\2", 2);
        add_atom(&payload, "error");
        add_atom(&payload, error);
    }
    put_frame(LAST, s->address, s->address_size, &payload);
    free(payload.data);
    free(s->frame.data);
    free(s);
    streams[index] = streams[--stream_count];
}

/* How many frames the window, the rest of the stream and one write let through. */
static uint64_t available(const stream_t *s)
{
    uint64_t frames = s->left < s->in_one_write ? s->left : s->in_one_write;
    uint64_t values = s->sent - s->taken, size = s->sent_bytes - s->taken_bytes;
    if (s->is_free)
        return frames;
    uint64_t by_values = values < s->window ? (s->window - values) / s->run : 0;
    uint64_t by_bytes = size < s->window_bytes ? (s->window_bytes - size) / s->payload : 0;
    if (by_bytes == 0 && values == 0)
        by_bytes = 1;
    if (frames > by_values)
        frames = by_values;
    return frames < by_bytes ? frames : by_bytes;
}

/* One turn of every stream; says whether any could write. */
static int advance(void)
{
    int progress = 0;
    for (size_t i = 0; i < stream_count;) {
        stream_t *s = streams[i];
        uint64_t frames = available(s);
        for (uint64_t n = 0; n < frames; n++)
            put(s->frame.data, s->frame.size);
        s->left -= frames;
        s->sent += frames * s->run;
        s->sent_bytes += frames * s->payload;
        progress |= frames > 0;
        if (s->left == 0)
            finish(i, NULL);
        else
            i++;
    }
    flush();
    return progress;
}

static stream_t **find(const unsigned char *address, size_t size)
{
    for (size_t i = 0; i < stream_count; i++)
        if (streams[i]->address_size == size && memcmp(streams[i]->address, address, size) == 0)
            return &streams[i];
    return NULL;
}

/* Frames in. */

static void handle(const unsigned char *frame)
{
    const unsigned char *address = frame + 2, *payload = frame + 2 + frame[1];
    size_t size = frame[1];
    stream_t **found;
    switch (frame[0]) {
    case SETTINGS:
        put_ready();
        break;
    case STREAM:
        start(address, size, payload);
        break;
    case CALL:
    case EXEC:
        put_reply(address, size, 0);
        break;
    case STATS:
        put_reply(address, size, 1);
        break;
    case PING:
        put_pong();
        break;
    case CANCEL:
        if ((found = find(address, size)) != NULL)
            finish((size_t)(found - streams), "cancelled");
        break;
    case CREDIT:
        if ((found = find(address, size)) != NULL) {
            (*found)->taken = get(payload, 8);
            (*found)->taken_bytes = get(payload + 8, 8);
        }
        break;
    default:
        break;
    }
}

static void take_in(void)
{
    ssize_t got = read(in_fd, in + in_used, IN_SIZE - in_used);
    if (got <= 0)
        exit(0);
    in_used += (size_t)got;
    size_t at = 0;
    while (in_used - at >= 4 && in_used - at - 4 >= get(in + at, 4)) {
        handle(in + at + 4);
        at += 4 + get(in + at, 4);
    }
    in_used -= at;
    memmove(in, in + at, in_used);
    flush();
}

static int has_input(void)
{
    struct pollfd poll_in = {in_fd, POLLIN, 0};
    return poll(&poll_in, 1, 0) > 0;
}

int main(int argc, char **argv)
{
    /* The name of the pool may follow, for whoever reads a list of processes. */
    if (argc < 4)
        return 64;
    in_fd = atoi(argv[2]);
    out_fd = atoi(argv[3]);
#ifdef F_SETPIPE_SZ
    /* As Python does; where this is refused the pipe holds 64 KiB. */
    (void)fcntl(out_fd, F_SETPIPE_SZ, 1 << 20);
#endif
    const uint32_t pid = (uint32_t)getpid();
    const unsigned char hello[] = {0, 0, 0, 6, HELLO, 0, pid >> 24, pid >> 16 & 255, pid >> 8 & 255, pid & 255};
    if (write(out_fd, hello, sizeof hello) != sizeof hello)
        return 1;
    for (;;)
        if (!advance() || has_input())
            take_in();
}
