/* vswitch: an Ethernet switch in user space over TAP devices, whose links have a delay, a rate and a loss. The script
 * `hosts` uses it where a network between hosts has to be slow and the kernel has no sch_netem.
 *
 *   vswitch FILE        one line per port: NAME NUMBER DELAY_US RATE_MBIT LOSS_PERCENT   (rate 0: none)
 *
 * It makes TAP device NAME in its own network namespace (the script then moves it to a host's) and prints "ready".
 * Frames whose destination MAC ends with byte NUMBER go there, multicast goes everywhere. On SIGHUP the figures are
 * read again. A device that vanishes, because its host's namespace died, is made anew.
 *
 * The model: a host has a full-duplex link of RATE. A frame is serialised on the sender's link and, cut-through, on the
 * receiver's, where it may have to wait for others; then half of each one's DELAY passes. A sender with more than
 * BACKLOG bytes under way is not read, so that its kernel's queue fills as a real one would. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <poll.h>
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
    int from;
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
    int64_t delay;              /* ns */
    double ns_per_byte, loss;   /* 0: no limit; share of the frames */
    int64_t out_free, in_free;  /* when the two directions of its link are free again */
    struct queue leaving, next; /* on its link to the switch; on the way from the switch to it */
    size_t backlog;             /* bytes under way from this port */
};

static struct port ports[PORTS]; /* one process, one switch */
static int n_ports;
static volatile sig_atomic_t read_again;

static void on_hangup(int signal) {
    (void)signal;
    read_again = 1;
}

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
        struct port p = {.fd = -1};
        double us, mbit, percent;
        if (sscanf(line, "%15s %u %lf %lf %lf", p.name, &p.number, &us, &mbit, &percent) != 5 || us < 0 || mbit < 0 ||
            percent < 0 || percent > 100) {
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

/* A frame enters its sender's link. False without memory. */
static bool send_out(int from, const uint8_t *bytes, uint32_t length) {
    struct port *p = &ports[from];
    p->out_free = later(p->out_free, now()) + (int64_t)(wire_bytes(bytes, length) * p->ns_per_byte);
    if (p->loss > 0 && drand48() < p->loss) return true;
    struct frame *f = malloc(sizeof *f + length);
    if (!f) return false;
    *f = (struct frame){.due = p->out_free, .from = from, .length = length};
    memcpy(f->bytes, bytes, length);
    p->backlog += length;
    enqueue(&p->leaving, f);
    return true;
}

/* A copy of a frame that has left its sender's link goes to a receiver's. False without memory. */
static bool send_on(const struct frame *f, struct port *to) {
    struct frame *copy = malloc(sizeof *copy + f->length);
    if (!copy) return false;
    to->in_free = later(to->in_free + (int64_t)(wire_bytes(f->bytes, f->length) * to->ns_per_byte), f->due);
    *copy = (struct frame){
        .due = to->in_free + (ports[f->from].delay + to->delay) / 2, .from = f->from, .length = f->length};
    memcpy(copy->bytes, f->bytes, f->length);
    ports[f->from].backlog += f->length;
    enqueue(&to->next, copy);
    return true;
}

/* The port whose link a frame leaves next, or NULL. */
static struct port *first_to_leave(void) {
    struct port *first = NULL;
    for (int i = 0; i < n_ports; i++)
        if (ports[i].leaving.first && (!first || ports[i].leaving.first->due < first->leaving.first->due))
            first = &ports[i];
    return first;
}

/* Switches what has left its sender's link by time t, in that order. False without memory. */
static bool pass_on(int64_t t) {
    struct port *p;
    while ((p = first_to_leave()) && p->leaving.first->due <= t) {
        struct frame *f = dequeue(&p->leaving);
        const uint8_t *destination = f->bytes + sizeof(struct virtio_net_hdr);
        bool ok = true;
        for (int i = 0; ok && i < n_ports; i++)
            if (i != f->from && ((destination[0] & 1) || destination[5] == ports[i].number)) ok = send_on(f, &ports[i]);
        p->backlog -= f->length;
        free(f);
        if (!ok) return false;
    }
    return true;
}

/* Hands over what has arrived by time t. */
static void deliver(struct port *to, int64_t t) {
    while (to->next.first && to->next.first->due <= t) {
        struct frame *f = to->next.first;
        if (to->fd >= 0 && write(to->fd, f->bytes, f->length) < 0 && errno == EAGAIN) break;
        ports[f->from].backlog -= f->length; /* any other error loses the frame, as a cable without a host would */
        free(dequeue(&to->next));
    }
}

/* Takes up to BURST frames. False without memory. */
static bool take(int from) {
    static uint8_t bytes[FRAME_MAX];
    for (int i = 0; i < BURST && ports[from].backlog < BACKLOG; i++) {
        ssize_t length = read(ports[from].fd, bytes, sizeof bytes);
        if (length < (ssize_t)sizeof(struct virtio_net_hdr) + 14) break;
        if (!send_out(from, bytes, (uint32_t)length)) return false;
    }
    return true;
}

/* Moves what is due at time t; *next is when more will be, or -1. A frame that leaves its sender's link needs no look
 * before the least of all delays has passed: nobody gets it sooner. False without memory. */
static bool move_frames(int64_t t, int64_t *next) {
    *next = -1;
    int64_t least = INT64_MAX;
    if (!pass_on(t)) return false;
    for (int i = 0; i < n_ports; i++)
        if (ports[i].delay < least) least = ports[i].delay;
    for (int i = 0; i < n_ports; i++) {
        struct port *p = &ports[i];
        deliver(p, t);
        if (p->leaving.first) *next = sooner(*next, p->leaving.first->due + (p->delay + least) / 2);
        if (p->next.first) *next = sooner(*next, p->next.first->due);
    }
    return true;
}

static int out_of_memory(void) {
    return fprintf(stderr, "vswitch: out of memory\n"), 1;
}

/* Sleeps until there is something to take, or until `next` (-1: for ever). Timers fire late, in a virtual machine by
 * 30 us and more: so it sleeps as much shorter as that was lately, and the caller looks again until it is time. */
static int wait_for(struct pollfd *waits, int64_t next, const sigset_t *while_waiting) {
    static int64_t late;
    int64_t start = now(), wait = next < 0 ? 0 : later(next - late - start, 0);
    struct timespec time = {.tv_sec = wait / 1000000000, .tv_nsec = wait % 1000000000};
    int n = ppoll(waits, (nfds_t)n_ports, next < 0 ? NULL : &time, while_waiting);
    if (n == 0 && wait > 0)
        late += ((now() - start - wait < MOST_LATE_NS ? now() - start - wait : MOST_LATE_NS) - late) / 16;
    return n;
}

static int serve(const char *path, const sigset_t *while_waiting) {
    struct pollfd waits[PORTS];
    for (;;) {
        int64_t t = now(), next;
        if (!move_frames(t, &next)) return out_of_memory();
        for (int i = 0; i < n_ports; i++) {
            struct port *p = &ports[i];
            if (p->fd < 0 && !make_device(p)) next = sooner(next, t + RETRY_NS);
            waits[i] = (struct pollfd){.fd = p->fd, .events = p->backlog < BACKLOG ? POLLIN : 0};
        }
        if (wait_for(waits, next, while_waiting) < 0 && errno != EINTR) return perror("ppoll"), 1;
        if (read_again) {
            read_again = 0;
            read_figures(path, false);
            continue;
        }
        for (int i = 0; i < n_ports; i++) {
            if (waits[i].revents & (POLLERR | POLLHUP | POLLNVAL))
                make_device(&ports[i]);
            else if ((waits[i].revents & POLLIN) && !take(i))
                return out_of_memory();
        }
    }
}

int main(int argc, char **argv) {
    sigset_t hangup, before;
    if (argc != 2) return fprintf(stderr, "usage: vswitch FILE\n"), 2;
    if (!read_figures(argv[1], true)) return 1;
    prctl(PR_SET_TIMERSLACK, 1);
    sigemptyset(&hangup);
    sigaddset(&hangup, SIGHUP);
    sigprocmask(SIG_BLOCK, &hangup, &before);
    sigaction(SIGHUP, &(struct sigaction){.sa_handler = on_hangup}, NULL);
    for (int i = 0; i < n_ports; i++)
        if (!make_device(&ports[i])) return perror(ports[i].name), 1;
    puts("ready");
    fflush(stdout);
    return serve(argv[1], &before);
}
