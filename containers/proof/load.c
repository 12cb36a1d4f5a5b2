// SPDX-License-Identifier: GPL-2.0-only
/*
 * Connections by the hundred thousand, and what they cost the host that they are made to.
 *
 *	load serve
 *	load clients COUNT PORT SECONDS SERVICE NETNS=ADDRESS...
 *	load raw COUNT PORT SERVICE NETNS INTERFACE HARDWARE-ADDRESS ADDRESS
 *	load ask SERVICE NETNS FILE
 *
 * It runs in the network namespace of the host under attack.  "serve" is that host's own service, an echo on port
 * SERVICE_PORT.  "clients" makes COUNT connections from real sockets, in as many namespaces as are named, in equal
 * parts, each to its own ADDRESS, and keeps them for SECONDS; "raw" makes them by frames of its own, without a socket
 * or any other state in the kernel, and lets each probe once.  Both ask SERVICE, an address of the host's, before and
 * after.  "ask" does so from NETNS until there is FILE.
 *
 * Output, a line each: `state WHEN NAME=NUMBER...`, of the host: time and time in use in ns, sockets, entries of
 * conntrack, memory in kB, frames that its cards have received; `service WHEN NAME=NUMBER...`, how long the service
 * took in ns; last `done NAME=NUMBER...`, how the connections ended.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netpacket/packet.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PACKET_QDISC_BYPASS	20	/* from linux/if_packet.h */

#define NSEC		1000000000ULL

#define SERVICE_PORT	80
#define QUESTIONS	200	/* to the service, for each figure */
#define MAX_QUESTIONS	100000

#define BATCH		500	/* connections that are begun at once */
#define GRACE		NSEC	/* for them to come about; then others are begun */
#define SETTLE		(2 * NSEC)

#define FRAMES		256	/* frames that are sent before the answers are looked at */
#define SILENCE		1500	/* ms after which no answer comes any more; LaBrea sees frames by the second */
#define FIRST_PORT	10000
#define PORTS		50000	/* of each source address, from FIRST_SOURCE on */
#define FIRST_SOURCE	0x0a600001	/* 10.96.0.1 */
#define FIRST_NUMBER	0x10000000	/* the sequence number of the first */

#define SYN		0x02
#define RST		0x04
#define PSH		0x08
#define ACK		0x10

static const char greeting[] = "SSH-2.0-scan\r\n";

static int here;		/* the namespace of the host */

static void die(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NSEC + ts.tv_nsec;
}

/* Sockets that are made from now on belong to that namespace: the host's own, if it has no name. */
static void enter(const char *netns)
{
	char path[128];
	int fd = here;

	if (*netns) {
		snprintf(path, sizeof(path), "/run/netns/%s", netns);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			die(path);
	}
	if (setns(fd, CLONE_NEWNET) < 0)
		die("setns");
	if (fd != here)
		close(fd);
}

static int new_socket(int family, int type)
{
	int fd = socket(family, type, 0);

	if (fd < 0)
		die("socket");
	return fd;
}

static void *allocate(size_t count, size_t size)
{
	void *memory = malloc(count * size);

	if (!memory)
		die("memory");
	memset(memory, 0, count * size);	/* it is taken now, not meanwhile */
	return memory;
}

static void demand_files(unsigned int count)
{
	struct rlimit limit = { count + 1000, count + 1000 };

	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		die("as many files");
}

/* --- the host --- */

/* Number after NAME in a line of FILE that begins with LINE, 0 if there is none */
static unsigned long long look(const char *file, const char *line, const char *name)
{
	FILE *stream = fopen(file, "r");
	unsigned long long number = 0;
	char text[1024], *at;

	if (!stream)
		return 0;
	while (fgets(text, sizeof(text), stream)) {
		if (strncmp(text, line, strlen(line)))
			continue;
		at = strstr(text + strlen(line), name);
		if (at)
			number = strtoull(at + strlen(name), NULL, 10);
		break;
	}
	fclose(stream);
	return number;
}

static void put_state(const char *when)
{
	static const char meminfo[] = "/proc/meminfo", sockstat[] = "/proc/net/sockstat";
	unsigned long long user, nice, system, idle, iowait, irq, softirq, packets;
	uint64_t tick = NSEC / sysconf(_SC_CLK_TCK), time = now();
	FILE *stream = fopen("/proc/stat", "r");
	long long memory;

	if (!stream || fscanf(stream, "cpu %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &system, &idle, &iowait,
			      &irq, &softirq) != 7)
		die("/proc/stat");
	fclose(stream);
	memory = look(meminfo, "MemTotal:", "") - look(meminfo, "MemFree:", "") - look(meminfo, "Cached:", "") -
		 look(meminfo, "Buffers:", "");
	stream = fopen("/sys/class/net/eth0/statistics/rx_packets", "r");
	if (!stream || fscanf(stream, "%llu", &packets) != 1)
		packets = 0;
	if (stream)
		fclose(stream);
	printf("state %s time=%llu busy=%llu softirq=%llu memory=%lld slab=%llu sockets=%llu orphans=%llu tracked=%llu "
	       "received=%llu\n", when, (unsigned long long)time, (user + nice + system + irq + softirq) * tick,
	       softirq * tick, memory, look(meminfo, "Slab:", ""), look(sockstat, "TCP:", "inuse "),
	       look(sockstat, "TCP:", "orphan "), look("/proc/sys/net/netfilter/nf_conntrack_count", "", ""), packets);
}

static void serve(void)
{
	struct sockaddr_in name = { .sin_family = AF_INET, .sin_port = htons(SERVICE_PORT) };
	int one = 1, listening = new_socket(AF_INET, SOCK_STREAM), fd;
	char text[64];
	ssize_t n;

	setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listening, (void *)&name, sizeof(name)) < 0 || listen(listening, 128) < 0)
		die("service");
	if (daemon(0, 0) < 0)
		die("daemon");
	signal(SIGPIPE, SIG_IGN);
	for (;;) {
		fd = accept(listening, NULL, NULL);
		if (fd < 0)
			continue;
		n = read(fd, text, sizeof(text));
		if (n > 0 && write(fd, text, n) == n)
			while (read(fd, text, sizeof(text)) > 0)
				;	/* until the other side ends it */
		close(fd);
	}
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* How long one question takes, UINT64_MAX if it is not answered within five seconds */
static uint64_t question(in_addr_t service)
{
	struct sockaddr_in name = { AF_INET, htons(SERVICE_PORT), { service }, { 0 } };
	struct timeval patience = { 5, 0 };
	int fd = new_socket(AF_INET, SOCK_STREAM);
	uint64_t began = now(), took = UINT64_MAX;
	char text[64] = "";

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (connect(fd, (void *)&name, sizeof(name)) == 0 && write(fd, text, sizeof(text)) == sizeof(text) &&
	    read(fd, text, sizeof(text)) == sizeof(text))
		took = now() - began;
	close(fd);
	return took;
}

static void put_service(const char *when, uint64_t *times, unsigned int count)
{
	unsigned int failed = 0;

	qsort(times, count, sizeof(*times), by_size);
	while (failed < count && times[count - 1 - failed] == UINT64_MAX)
		failed++;
	count -= failed;
	printf("service %s count=%u failed=%u", when, count, failed);
	if (count)
		printf(" median=%llu high=%llu most=%llu", (unsigned long long)times[count / 2],
		       (unsigned long long)times[count * 95 / 100], (unsigned long long)times[count - 1]);
	printf("\n");
}

static void ask(const char *when, in_addr_t service, const char *netns)
{
	static uint64_t times[QUESTIONS];

	enter(netns);
	for (int i = 0; i < QUESTIONS; i++)
		times[i] = question(service);
	enter("");
	put_service(when, times, QUESTIONS);
}

static void ask_until(in_addr_t service, const char *netns, const char *file)
{
	uint64_t *times = allocate(MAX_QUESTIONS, sizeof(*times));
	unsigned int count = 0;

	put_state("before");
	fflush(stdout);
	enter(netns);
	while (count < MAX_QUESTIONS && access(file, F_OK) < 0)
		times[count++] = question(service);
	enter("");
	put_state("after");
	put_service("flooded", times, count);
	printf("done tried=0\n");
}

/* --- real sockets --- */

struct client {
	int fd;
	bool up;
};

static unsigned int established, refused, lost;

/* What became of connections, until nothing happens for so many ms */
static void look_after(int events, struct client *clients, int ms)
{
	struct epoll_event found[BATCH];
	int count = epoll_wait(events, found, BATCH, ms);

	for (int i = 0; i < count; i++) {
		struct client *client = &clients[found[i].data.u32];
		struct epoll_event next = { EPOLLRDHUP, { .u32 = found[i].data.u32 } };

		if (client->fd < 0)
			continue;
		if (!client->up && !(found[i].events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP))) {
			client->up = true;
			established++;
			epoll_ctl(events, EPOLL_CTL_MOD, client->fd, &next);
			if (write(client->fd, greeting, sizeof(greeting) - 1) < 0 && errno != EAGAIN)
				die("write");
			continue;
		}
		if (client->up)
			lost++;
		else
			refused++;
		close(client->fd);
		client->fd = -1;
	}
}

static void begin(int events, struct client *clients, unsigned int number, in_addr_t address, int port)
{
	struct sockaddr_in name = { AF_INET, htons(port), { address }, { 0 } };
	struct epoll_event event = { EPOLLOUT | EPOLLRDHUP, { .u32 = number } };
	struct linger reset = { 1, 0 };
	int fd = new_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	clients[number].fd = fd;
	if (connect(fd, (void *)&name, sizeof(name)) < 0 && errno != EINPROGRESS) {
		close(fd);
		clients[number].fd = -1;
		refused++;
		return;
	}
	if (epoll_ctl(events, EPOLL_CTL_ADD, fd, &event) < 0)
		die("epoll");
}

static bool is_established(int fd)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 && info.tcpi_state == TCP_ESTABLISHED;
}

static void make_clients(unsigned int count, int port, uint64_t keep, in_addr_t service, char **targets, int nr)
{
	struct client *clients = allocate(count, sizeof(*clients));
	unsigned int i, share = (count + nr - 1) / nr, kept = 0;
	int events = epoll_create1(0);
	in_addr_t address = 0;
	uint64_t until;

	demand_files(count);
	for (int target = 0; target < nr; target++) {
		char *mark = strchr(targets[target], '=');

		if (!mark)
			die(targets[target]);
		*mark = 0;
	}
	ask("idle", service, targets[0]);
	put_state("idle");
	for (i = 0; i < count; i++) {
		if (i % share == 0) {
			char *target = targets[i / share];

			enter(target);
			address = inet_addr(target + strlen(target) + 1);
		}
		begin(events, clients, i, address, port);
		if ((i + 1) % BATCH && i + 1 < count)
			continue;
		until = now() + GRACE;
		while (established + refused < i + 1 && now() < until)
			look_after(events, clients, 100);
	}
	enter("");
	for (until = now() + SETTLE; now() < until;)
		look_after(events, clients, 100);
	put_state("loaded");
	ask("loaded", service, targets[0]);
	put_state("watched");
	for (until = now() + keep; now() < until;)
		look_after(events, clients, 1000);
	put_state("kept");
	for (i = 0; i < count; i++)
		kept += clients[i].fd >= 0 && clients[i].up && is_established(clients[i].fd);
	printf("done tried=%u established=%u refused=%u lost=%u held=%u\n", count, established, refused, lost, kept);
	free(clients);
}

/* --- frames --- */

struct frame {
	struct ether_header eth;
	uint8_t ip[20];
	uint8_t tcp[20];
	uint8_t data[sizeof(greeting) - 1];
} __attribute__((packed));

/* What a client knows of its connection */
struct peer {
	uint32_t theirs;	/* the server's next byte, 0 if it has not accepted */
	uint32_t una;		/* the first of ours that it did not acknowledge */
	uint8_t len;		/* how much was sent */
	bool answered;
};

static struct frame frame;
static int wire;
static struct peer *peers;

static void set16(uint8_t *at, uint16_t value)
{
	at[0] = value >> 8;
	at[1] = value;
}

static void set32(uint8_t *at, uint32_t value)
{
	set16(at, value >> 16);
	set16(at + 2, value);
}

static uint32_t get32(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3];
}

static uint32_t sum(uint32_t total, const uint8_t *at, unsigned int len)
{
	for (; len > 1; len -= 2, at += 2)
		total += at[0] << 8 | at[1];
	return len ? total + (at[0] << 8) : total;
}

static uint16_t checksum(uint32_t total)
{
	total = (total & 0xffff) + (total >> 16);
	return ~((total & 0xffff) + (total >> 16));
}

/* One segment of client NUMBER; with its data if it has PSH */
static void send_frame(unsigned int number, uint8_t flags, uint32_t seq)
{
	unsigned int len = flags & PSH ? peers[number].len : 0, tcp = sizeof(frame.tcp) + len;

	set16(frame.ip + 2, sizeof(frame.ip) + tcp);
	set32(frame.ip + 12, FIRST_SOURCE + number / PORTS);
	set16(frame.ip + 10, 0);
	set16(frame.ip + 10, checksum(sum(0, frame.ip, sizeof(frame.ip))));
	set16(frame.tcp, FIRST_PORT + number % PORTS);
	set32(frame.tcp + 4, seq);
	set32(frame.tcp + 8, peers[number].theirs);
	frame.tcp[13] = flags;
	set16(frame.tcp + 16, 0);
	set16(frame.tcp + 16, checksum(sum(sum(IPPROTO_TCP + tcp, frame.ip + 12, 8), frame.tcp, tcp)));
	while (send(wire, &frame, offsetof(struct frame, data) + len, 0) < 0)
		if (errno != ENOBUFS && errno != EAGAIN)
			die("send");
}

/*
 * Takes answers until WANTED clients have theirs, or none comes for a while.  Those that are accepted send data, and
 * have their answer when that has one.
 */
static unsigned int take_answers(unsigned int count, unsigned int wanted)
{
	struct pollfd ready = { wire, POLLIN, 0 };
	unsigned int done = 0;
	uint8_t data[2048];

	while (done < wanted) {
		const uint8_t *ip = data + sizeof(struct ether_header), *tcp;
		ssize_t len = recv(wire, data, sizeof(data), MSG_DONTWAIT);
		unsigned int number, window;
		struct peer *peer;

		if (len < 0) {
			if (poll(&ready, 1, SILENCE) <= 0)
				break;
			continue;
		}
		if (len < (ssize_t)offsetof(struct frame, data) || ip[9] != IPPROTO_TCP)
			continue;
		tcp = ip + (ip[0] & 15) * 4;
		number = (get32(ip + 16) - FIRST_SOURCE) * PORTS + (tcp[2] << 8 | tcp[3]) - FIRST_PORT;
		if (number >= count)
			continue;
		peer = &peers[number];
		if ((tcp[13] & (SYN | ACK | RST)) == (SYN | ACK) && !peer->theirs) {
			window = tcp[14] << 8 | tcp[15];
			peer->theirs = get32(tcp + 4) + 1;
			peer->una = get32(tcp + 8);
			peer->len = window < sizeof(frame.data) ? window : sizeof(frame.data);
			established++;
			send_frame(number, ACK | PSH, peer->una);
		} else if (tcp[13] & RST) {
			if (peer->theirs)
				lost++;
			else
				refused++;
			peer->theirs = 0;
			done++;
		} else if ((tcp[13] & (SYN | ACK)) == ACK && !peer->answered) {
			peer->una = get32(tcp + 8);
			peer->answered = true;
			done++;
		}
	}
	return done;
}

/* Every client that is up repeats its data, or else, if that had no answer, probes a closed window as Linux does */
static void probe_all(unsigned int count, bool data)
{
	unsigned int wanted, next;

	for (unsigned int i = 0; i < count; i = next) {
		wanted = 0;
		for (next = i; next < count && wanted < FRAMES; next++) {
			if (!peers[next].theirs || peers[next].answered)
				continue;
			wanted++;
			send_frame(next, data ? ACK | PSH : ACK, data ? FIRST_NUMBER + next + 1 : peers[next].una - 1);
		}
		if (wanted)
			take_answers(count, wanted);
	}
}

static void open_wire(const char *netns, const char *interface)
{
	struct sockaddr_ll name = { .sll_family = AF_PACKET, .sll_protocol = htons(ETHERTYPE_IP) };
	int one = 1, space = 16 << 20;

	enter(netns);
	wire = new_socket(AF_PACKET, SOCK_RAW);
	name.sll_ifindex = if_nametoindex(interface);
	if (setsockopt(wire, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one)) < 0 ||
	    setsockopt(wire, SOL_SOCKET, SO_RCVBUFFORCE, &space, sizeof(space)) < 0 ||
	    bind(wire, (void *)&name, sizeof(name)) < 0)
		die(interface);
	enter("");
}

static void make_frames(unsigned int count, int port, in_addr_t service, char **argv)
{
	static const uint8_t ip[20] = { 0x45, [6] = 0x40, [8] = 64, IPPROTO_TCP };
	static const uint8_t ours[ETH_ALEN] = { 2, 0, 0, 0, 0x0c };
	in_addr_t address = inet_addr(argv[3]);
	unsigned int i, next, held = 0;
	uint8_t *mac = frame.eth.ether_dhost;

	peers = allocate(count, sizeof(*peers));
	open_wire(argv[0], argv[1]);
	if (sscanf(argv[2], "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", mac, mac + 1, mac + 2, mac + 3, mac + 4, mac + 5) != 6)
		die("hardware address");
	memcpy(frame.eth.ether_shost, ours, ETH_ALEN);
	frame.eth.ether_type = htons(ETHERTYPE_IP);
	memcpy(frame.ip, ip, sizeof(ip));
	memcpy(frame.ip + 16, &address, 4);
	set16(frame.tcp + 2, port);
	frame.tcp[12] = 5 << 4;
	set16(frame.tcp + 14, 64240);
	memcpy(frame.data, greeting, sizeof(frame.data));
	ask("idle", service, argv[0]);
	put_state("idle");
	for (i = 0; i < count; i = next) {
		next = i + FRAMES < count ? i + FRAMES : count;
		for (unsigned int number = i; number < next; number++)
			send_frame(number, SYN, FIRST_NUMBER + number);
		take_answers(count, next - i);
	}
	put_state("loaded");
	ask("loaded", service, argv[0]);
	for (i = 0; i < count; i++)
		peers[i].answered = false;
	while (recv(wire, &(char){ 0 }, 1, MSG_DONTWAIT) >= 0)
		;	/* what the servers had to say meanwhile */
	probe_all(count, true);
	probe_all(count, false);
	for (i = 0; i < count; i++)
		held += peers[i].theirs && peers[i].answered;
	printf("done tried=%u established=%u refused=%u lost=%u held=%u\n", count, established, refused, lost, held);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	here = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (here < 0)
		die("namespaces");
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!strcmp(what, "serve"))
		serve();
	else if (!strcmp(what, "ask") && argc == 5)
		ask_until(inet_addr(argv[2]), argv[3], argv[4]);
	else if (!strcmp(what, "clients") && argc > 6)
		make_clients(strtoul(argv[2], NULL, 10), atoi(argv[3]), strtoul(argv[4], NULL, 10) * NSEC,
			     inet_addr(argv[5]), argv + 6, argc - 6);
	else if (!strcmp(what, "raw") && argc == 9)
		make_frames(strtoul(argv[2], NULL, 10), atoi(argv[3]), inet_addr(argv[4]), argv + 5);
	else
		return 2;
	return 0;
}
