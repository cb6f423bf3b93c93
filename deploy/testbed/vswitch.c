/* vswitch: an Ethernet switch in user space over TAP devices, whose links have a delay, a rate and a loss. The script
 * `hosts` uses it where a network between hosts has to be slow and the kernel has no sch_netem.
 *
 *   vswitch FILE        one line per port: NAME NUMBER DELAY_US RATE_MBIT LOSS_PERCENT CPU   (rate 0: none; CPU -1:
 * any)
 *
 * It makes TAP device NAME in its own network namespace (the script then moves it to a host's) and prints "ready".
 * Frames whose destination MAC ends with byte NUMBER go there, multicast goes everywhere. On SIGHUP the figures are
 * read again. A device that vanishes, because its host's namespace died, is made anew.
 *
 * The model: a host has a full-duplex link of RATE. A frame is serialised on the sender's link and, cut-through, on the
 * receiver's, where it may have to wait for others; then half of each one's DELAY passes. A sender with more than
 * BACKLOG bytes under way is not read, so that its kernel's queue fills as a real one would.
 *
 * A thread for each port takes its frames all the way, on its host's CPU if that has one of its own: so a host pays for
 * what it sends, as for a network card's work, and not one host for all of them. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum {
    PORTS = 64,
    FRAME_MAX = 70000,
    BACKLOG = 1 << 20,
    BURST = 16,
    TCP_HEADERS = 66,
    WIRE_GAPS = 24,
    RETRY_NS = 20000000,
    MOST_LATE_NS = 60000
};

struct frame {
    struct frame *next;
    int64_t due; /* ns: when its last byte has left the sender, later when it reaches the receiver */
    int to;
    uint32_t length;
    uint8_t bytes[]; /* virtio header, then Ethernet */
};

struct queue {
    struct frame *first, *last; /* by due */
};

struct port {
    char name[IFNAMSIZ];
    int fd; /* -1: its device could not be made anew yet */
    unsigned number;
    int cpu;
    int64_t delay;              /* ns */
    double ns_per_byte, loss;   /* 0: no limit; share of the frames */
    int64_t out_free, in_free;  /* when the two directions of its link are free again */
    struct queue leaving, next; /* what came from it: on its link to the switch; on the way to others */
    size_t backlog;             /* bytes of both */
    int64_t late;               /* ns: how late its timers fire */
    unsigned short chance[3];
};

/* One process, one switch. A port is its thread's, but for what others read of it (fd, figures), which changes under
 * the lock alone, and in_free, which belongs to all. */
static struct port ports[PORTS];
static int n_ports;
static pthread_rwlock_t figures = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
static pthread_mutex_t cables = PTHREAD_MUTEX_INITIALIZER;

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static int64_t later(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static int64_t sooner(int64_t a, int64_t b) { /* a: -1 is never */
    return a < 0 || b < a ? b : a;
}

/* The figures of all ports; when read again, only those of ports that are there. False and a message if a line is
 * wrong. */
static bool read_figures(const char *path, bool first) {
    char line[128];
    FILE *f = fopen(path, "r");
    if (!f) return perror(path), false;
    while (fgets(line, sizeof line, f)) {
        struct port p = {.fd = -1, .cpu = -1};
        double us, mbit, percent;
        if (sscanf(line, "%15s %u %lf %lf %lf %d", p.name, &p.number, &us, &mbit, &percent, &p.cpu) != 6 || us < 0 ||
            mbit < 0 || percent < 0 || percent > 100) {
            fprintf(stderr, "vswitch: %s: %s", path, line);
            fclose(f);
            return false;
        }
        int i = 0;
        while (i < n_ports && strcmp(ports[i].name, p.name) != 0)
            i++;
        if (i == n_ports) {
            if (!first || n_ports == PORTS) continue;
            ports[n_ports++] = p;
        }
        ports[i].delay = (int64_t)(us * 1000);
        ports[i].ns_per_byte = mbit > 0 ? 8000 / mbit : 0;
        ports[i].loss = percent / 100;
    }
    fclose(f);
    return true;
}

static bool make_device(struct port *p) {
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    memcpy(request.ifr_name, p->name, sizeof request.ifr_name);
    if (p->fd >= 0) close(p->fd);
    p->fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (p->fd >= 0 && ioctl(p->fd, TUNSETIFF, &request) == 0 &&
        ioctl(p->fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6) == 0)
        return true;
    if (p->fd >= 0) close(p->fd);
    p->fd = -1;
    return false;
}

/* Bytes on the wire: a frame that the kernel left unsegmented stands for several, each with headers and gaps. */
static double wire_bytes(const uint8_t *bytes, uint32_t length) {
    struct virtio_net_hdr header;
    memcpy(&header, bytes, sizeof header);
    uint32_t on_wire = length - (uint32_t)sizeof header, segments = 1;
    if (header.gso_type != VIRTIO_NET_HDR_GSO_NONE && header.gso_size > 0 && on_wire > TCP_HEADERS)
        segments = (on_wire - TCP_HEADERS + header.gso_size - 1u) / header.gso_size;
    return on_wire + (segments - 1.0) * TCP_HEADERS + (double)segments * WIRE_GAPS;
}

/* Frames of one sender arrive in order; those of another with a shorter delay may overtake them. */
static void enqueue(struct queue *q, struct frame *f) {
    struct frame **at = q->first && q->last->due <= f->due ? &q->last->next : &q->first;
    while (*at && (*at)->due <= f->due)
        at = &(*at)->next;
    f->next = *at;
    *at = f;
    if (!f->next) q->last = f;
}

static struct frame *dequeue(struct queue *q) {
    struct frame *f = q->first;
    q->first = f->next;
    return f;
}

static void out_of_memory(void) {
    fprintf(stderr, "vswitch: out of memory\n");
    exit(1);
}

/* A copy of a frame joins a queue of the port's. */
static void add(struct port *p, struct queue *q, const uint8_t *bytes, uint32_t length, int64_t due, int to) {
    struct frame *f = malloc(sizeof *f + length);
    if (!f) out_of_memory();
    *f = (struct frame){.due = due, .to = to, .length = length};
    memcpy(f->bytes, bytes, length);
    p->backlog += length;
    enqueue(q, f);
}

/* A frame enters its sender's link. */
static void send_out(struct port *p, const uint8_t *bytes, uint32_t length) {
    p->out_free = later(p->out_free, now()) + (int64_t)(wire_bytes(bytes, length) * p->ns_per_byte);
    if (p->loss > 0 && erand48(p->chance) < p->loss) return;
    add(p, &p->leaving, bytes, length, p->out_free, -1);
}

/* A copy of a frame that has left its sender's link enters a receiver's. */
static void send_on(struct port *p, const struct frame *f, int to) {
    struct port *receiver = &ports[to];
    int64_t wire = (int64_t)(wire_bytes(f->bytes, f->length) * receiver->ns_per_byte), end;
    pthread_mutex_lock(&cables);
    end = receiver->in_free = later(receiver->in_free + wire, f->due);
    pthread_mutex_unlock(&cables);
    add(p, &p->next, f->bytes, f->length, end + (p->delay + receiver->delay) / 2, to);
}

/* Switches what has left the port's link by time t. */
static void pass_on(struct port *p, int64_t t) {
    while (p->leaving.first && p->leaving.first->due <= t) {
        struct frame *f = dequeue(&p->leaving);
        const uint8_t *destination = f->bytes + sizeof(struct virtio_net_hdr);
        for (int i = 0; i < n_ports; i++)
            if (&ports[i] != p && ((destination[0] & 1) || destination[5] == ports[i].number)) send_on(p, f, i);
        p->backlog -= f->length;
        free(f);
    }
}

/* Hands over what of the port's frames has arrived by time t. */
static void deliver(struct port *p, int64_t t) {
    while (p->next.first && p->next.first->due <= t) {
        struct frame *f = p->next.first;
        if (ports[f->to].fd >= 0 && write(ports[f->to].fd, f->bytes, f->length) < 0 && errno == EAGAIN) break;
        p->backlog -= f->length; /* any other error loses the frame, as a cable without a host would */
        free(dequeue(&p->next));
    }
}

/* Takes up to BURST frames. */
static void take(struct port *p, uint8_t bytes[FRAME_MAX]) {
    for (int i = 0; i < BURST && p->backlog < BACKLOG; i++) {
        ssize_t length = read(p->fd, bytes, FRAME_MAX);
        if (length < (ssize_t)sizeof(struct virtio_net_hdr) + 14) break;
        send_out(p, bytes, (uint32_t)length);
    }
}

/* Moves what is due; returns when more will be, or -1. A frame that leaves its sender's link needs no look before the
 * least of all delays has passed: nobody gets it sooner. */
static int64_t move_frames(struct port *p) {
    int64_t t = now(), next = -1, least = INT64_MAX;
    pass_on(p, t);
    deliver(p, t);
    for (int i = 0; i < n_ports; i++)
        if (ports[i].delay < least) least = ports[i].delay;
    if (p->leaving.first) next = p->leaving.first->due + (p->delay + least) / 2;
    if (p->next.first) next = sooner(next, p->next.first->due);
    if (p->fd < 0) next = sooner(next, t + RETRY_NS);
    return next;
}

/* Sleeps until there is something to take, or until `next` (-1: for ever). Timers fire late, in a virtual machine by
 * 30 us and more: so it sleeps as much shorter as that was lately, and the caller looks again until it is time. Returns
 * what the device has to say. */
static short wait_for(struct port *p, int64_t next) {
    struct pollfd it = {.fd = p->fd, .events = p->backlog < BACKLOG ? POLLIN : 0};
    int64_t start = now(), wait = next < 0 ? 0 : later(next - p->late - start, 0);
    struct timespec time = {.tv_sec = wait / 1000000000, .tv_nsec = wait % 1000000000};
    int n = ppoll(&it, 1, next < 0 ? NULL : &time, NULL);
    if (n == 0 && wait > 0)
        p->late += ((now() - start - wait < MOST_LATE_NS ? now() - start - wait : MOST_LATE_NS) - p->late) / 16;
    return n > 0 ? it.revents : 0;
}

static void *serve(void *ctx) {
    struct port *p = ctx;
    uint8_t *bytes = malloc(FRAME_MAX);
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    if (p->cpu >= 0 && p->cpu < CPU_SETSIZE) CPU_SET((size_t)p->cpu, &cpus);
    if (!bytes) out_of_memory();
    if (CPU_COUNT(&cpus)) pthread_setaffinity_np(pthread_self(), sizeof cpus, &cpus); /* else it runs anywhere */
    prctl(PR_SET_TIMERSLACK, 1);
    for (;;) {
        pthread_rwlock_rdlock(&figures);
        int64_t next = move_frames(p);
        pthread_rwlock_unlock(&figures);
        short events = wait_for(p, next);
        if (p->fd < 0 || (events & (POLLERR | POLLHUP | POLLNVAL))) {
            pthread_rwlock_wrlock(&figures);
            make_device(p);
            pthread_rwlock_unlock(&figures);
        } else if (events & POLLIN) {
            pthread_rwlock_rdlock(&figures);
            take(p, bytes);
            pthread_rwlock_unlock(&figures);
        }
    }
    return NULL;
}

int main(int argc, char **argv) {
    sigset_t hangup;
    int signal;
    if (argc != 2) return fprintf(stderr, "usage: vswitch FILE\n"), 2;
    if (!read_figures(argv[1], true)) return 1;
    sigemptyset(&hangup);
    sigaddset(&hangup, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &hangup, NULL);
    for (int i = 0; i < n_ports; i++)
        if (!make_device(&ports[i])) return perror(ports[i].name), 1;
    for (int i = 0; i < n_ports; i++) {
        pthread_t thread;
        ports[i].chance[2] = (unsigned short)(20011 * (i + 1));
        if (pthread_create(&thread, NULL, serve, &ports[i])) return fprintf(stderr, "vswitch: no thread\n"), 1;
    }
    puts("ready");
    fflush(stdout);
    for (;;) {
        if (sigwait(&hangup, &signal)) continue;
        pthread_rwlock_wrlock(&figures);
        read_figures(argv[1], false);
        pthread_rwlock_unlock(&figures);
    }
}
