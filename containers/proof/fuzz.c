// SPDX-License-Identifier: GPL-2.0-only
/*
 * Hostile frames for the target and the device, and a judge of what comes back.
 *
 *	fuzz INTERFACE --seed S --first N --count N [--chaos] [--tracked] [--bridge] [--pieces] [--tunnels] [--wire]
 *		[--no-device] [--dump [--dry]] [--print] < GENOMES
 *
 * A case is a few frames of one flow, made from a genome: a string of bytes that are used up one after the other to
 * choose among what headers can be; where none is left, the first choice, the ordinary one, is taken.  So any bytes are
 * a case, to change one is to change one choice, and the shorter a genome, the simpler its case.  Case number N of seed S
 * is one of the GENOMES (a line of hexadecimal digits each), mutated; it depends on nothing else, and can be had again.
 *
 * Some are questions for an address, by ARP or neighbour solicitation, and with --tunnels some are sent through one.
 *
 * Frames go into INTERFACE, a persistent tap device with IFF_VNET_HDR, and are dealt with before write(2) returns; what
 * the kernel sent in turn is then read from it.  With --pieces, frames are in several pieces, and may be put together
 * with others before they are dealt with (IFF_NAPI, IFF_NAPI_FRAGS), so that nobody can tell which answer belongs to
 * what.  With --wire, INTERFACE is a card, whose other end is the host's card; after each frame two SYNs tell, by their
 * answers, that it was dealt with.  /sys/kernel/debug/kcov, if it is there, tells which code was executed.
 *
 * What is expected of the answers is written down here a second time, from the contract and not from the module:
 * tarpit_builder/fuzzing/world.py makes the rules that this file knows by their ports.
 *
 * Output, a line each: `new GENOME` reached code that no line of GENOMES did; `once GENOME REASON` was wrong, and
 * `wrong GENOME REASON` was so four times; `old GENOME` is one of GENOMES that is still needed; with --dump
 * `frame HEX` and `reply HEX`; last `done CASES FRAMES REPLIES PLACES EDGES`.  With --print, only `case GENOME`; with
 * --dry, nothing is sent.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netpacket/packet.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* From linux/if_tun.h, linux/if_packet.h and linux/virtio_net.h, which musl does not bring along */
#define TUNSETIFF	_IOW('T', 202, int)
#define IFF_TAP		0x0002
#define IFF_NAPI	0x0010
#define IFF_NAPI_FRAGS	0x0020
#define IFF_NO_PI	0x1000
#define IFF_VNET_HDR	0x4000
#define VNET_HDR	15	/* PACKET_VNET_HDR */
#define ETH_P_ALL	3

#define VIRTIO_NET_HDR_F_NEEDS_CSUM	1
#define VIRTIO_NET_HDR_F_DATA_VALID	2
#define VIRTIO_NET_HDR_GSO_TCPV4	1
#define VIRTIO_NET_HDR_GSO_TCPV6	4

struct virtio_net_hdr {
	uint8_t flags;
	uint8_t gso_type;
	uint16_t hdr_len;
	uint16_t gso_size;
	uint16_t csum_start;
	uint16_t csum_offset;
};

#define KCOV_INIT_TRACE	_IOR('c', 1, unsigned long)
#define KCOV_ENABLE	_IO('c', 100)
#define KCOV_TRACE_PC	0
#define COVER_SIZE	(64 << 10)
#define EDGES		(1 << 16)

#define MAX_GENOME	192
#define MAX_GENOMES	8192
#define MAX_FRAME	65000
#define MAX_PAYLOAD	40000
#define MAX_PIECES	16
#define MAX_PIECE	4096	/* a page */
#define MAX_FRAMES	4	/* of a case */
#define MAX_WRONG	20	/* then a run has seen enough */

/* What is below a port: ten ports for each way to the module, of which the first four are the modes. */
#define PORT		1000
#define DEVICE		2	/* after iptables' legacy and nft */
#define WAYS		3
enum mode { TARPIT, HONEYPOT, RESET, STALL, MODES };

#define FIN	0x01
#define SYN	0x02
#define RST	0x04
#define PSH	0x08
#define ACK	0x10

#define WINDOW_OPEN	5
#define WINDOW_HOST	64240

struct genome {
	uint8_t data[MAX_GENOME];
	unsigned int len;
};

/* A frame that is being made, or was read */
struct frame {
	struct virtio_net_hdr vnet;
	uint8_t data[MAX_FRAME];
	unsigned int len;
	bool inside;	/* of a tunnel */
};

/* What a case is about, by its first choice; an odd one is of IPv6. */
#define KIND_TUNNEL	12	/* and 13: segments through a tunnel */
#define KIND_QUESTION	14	/* and 15: for an address */
enum tunnel { NO_TUNNEL, GRE, SIT, VXLAN, TUNNELS };
#define VXLAN_PORT	4789
#define SETTLE_PORT	999	/* of no flow */

/* What a flow keeps from frame to frame */
struct flow {
	int family;
	bool asks;
	enum tunnel tunnel;
	uint8_t saddr[16], daddr[16];
	uint16_t sport, dport;
	uint32_t isn, theirs;	/* theirs: what the other side's next byte is, once it has said so */
	bool accepted;
};

/* What may come of a frame */
enum expect { NEVER, MAY, MUST };

struct verdict {
	enum expect expect;
	bool judged;		/* whether the answer's fields are known, too */
	uint8_t flags;
	uint32_t seq, ack;
	uint16_t window;
	uint32_t ack_range, seq_range;	/* how much less and more it may be */
	bool any_window, same_vlan;
	unsigned int tcp_len;	/* of the question's header */
	unsigned int ip_len;
};

static struct genome corpus[MAX_GENOMES];
static unsigned int genomes;

static const struct genome *at;
static unsigned int used;

static int port;
static unsigned int number;	/* of the port */
static bool chaos, tracked, bridge, pieces, tunnels, wire, no_device, dump, dry;
static uint64_t *cover;
static uint8_t edges[EDGES];
static unsigned int edge_count;
static uint64_t places[4096];	/* a hash set of program counters */
static unsigned int place_count;
static unsigned long frames_sent, replies_seen;

static void die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(2);
}

/* --- randomness and genomes ------------------------------------------------------------------------------------------ */

static uint64_t state;

static uint64_t splitmix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

static uint32_t roll(uint32_t n)
{
	state = splitmix(state);
	return n ? (state >> 32) % n : 0;
}

static uint8_t byte(void)
{
	return used < at->len ? at->data[used++] : 0;
}

static unsigned int choose(unsigned int n)
{
	return byte() % n;
}

static uint16_t word(void)
{
	return byte() << 8 | byte();
}

static uint32_t number32(void)
{
	static const uint32_t special[] = { 0, 1, 0x7fffffff, 0x80000000, 0xffffffff };
	unsigned int which = choose(8);

	return which < 5 ? special[which] : (uint32_t)word() << 16 | word();
}

/* One time in n: chosen by the highest value of a byte, so that 0 never is. */
static bool rarely(unsigned int n)
{
	return choose(n) == n - 1;
}

static void mutate(struct genome *g, uint64_t seed, uint64_t index)
{
	unsigned int n, where, len;
	const struct genome *other;

	state = splitmix(seed ^ splitmix(index));
	if (genomes && roll(16)) {
		*g = corpus[roll(genomes)];
	} else {
		g->len = roll(64);
		for (n = 0; n < g->len; n++)
			g->data[n] = roll(4) ? roll(8) : roll(256);
	}
	for (n = roll(6); n; n--) {
		switch (roll(7)) {
		case 0:		/* one choice */
		case 1:
			if (g->len)
				g->data[roll(g->len)] = roll(256);
			break;
		case 2:		/* a near one */
			if (g->len)
				g->data[roll(g->len)] += roll(2) ? 1 : -1;
			break;
		case 3:		/* one more */
			if (g->len < MAX_GENOME) {
				where = roll(g->len + 1);
				memmove(g->data + where + 1, g->data + where, g->len - where);
				g->data[where] = roll(256);
				g->len++;
			}
			break;
		case 4:		/* one less */
			if (g->len) {
				where = roll(g->len);
				memmove(g->data + where, g->data + where + 1, g->len - where - 1);
				g->len--;
			}
			break;
		case 5:		/* the end of another */
			if (!genomes)
				break;
			other = &corpus[roll(genomes)];
			where = roll((g->len < other->len ? g->len : other->len) + 1);
			memcpy(g->data + where, other->data + where, other->len - where);
			g->len = other->len > where ? other->len : where;
			break;
		case 6:		/* a longer end */
			len = roll(12);
			while (len-- && g->len < MAX_GENOME)
				g->data[g->len++] = roll(256);
			break;
		}
	}
}

static void print_genome(const char *what, const struct genome *g)
{
	unsigned int len = g->len;

	/* Zeros at the end are what is taken anyway. */
	while (len && !g->data[len - 1])
		len--;
	printf("%s ", what);
	if (!len)
		putchar('-');
	for (unsigned int i = 0; i < len; i++)
		printf("%02x", g->data[i]);
}

static bool read_genome(const char *line, struct genome *g)
{
	g->len = 0;
	if (!strcmp(line, "-\n"))
		return true;
	for (; *line && *line != '\n'; line += 2) {
		char digits[3] = { line[0], line[1], 0 };
		char *end;

		if (g->len == MAX_GENOME)
			return false;
		g->data[g->len++] = strtoul(digits, &end, 16);
		if (*end || !line[1])
			return false;
	}
	return true;
}

/* --- frames ---------------------------------------------------------------------------------------------------------- */

static void put(struct frame *f, const void *data, unsigned int len)
{
	if (f->len + len > MAX_FRAME)
		len = MAX_FRAME - f->len;
	memcpy(f->data + f->len, data, len);
	f->len += len;
}

static void copy(struct frame *to, const struct frame *from)
{
	to->vnet = from->vnet;
	memcpy(to->data, from->data, from->len);
	to->len = from->len;
	to->inside = from->inside;
}

static void put8(struct frame *f, unsigned int value)
{
	if (f->len < MAX_FRAME)
		f->data[f->len++] = value;
}

static void put16(struct frame *f, unsigned int value)
{
	put8(f, value >> 8);
	put8(f, value);
}

static void put32(struct frame *f, uint32_t value)
{
	put16(f, value >> 16);
	put16(f, value);
}

static void set16(uint8_t *where, unsigned int value)
{
	where[0] = value >> 8;
	where[1] = value;
}

static unsigned int get16(const uint8_t *where)
{
	return where[0] << 8 | where[1];
}

static uint32_t get32(const uint8_t *where)
{
	return (uint32_t)get16(where) << 16 | get16(where + 2);
}

static uint16_t fold(uint64_t total)
{
	while (total >> 16)
		total = (total & 0xffff) + (total >> 16);
	return total;
}

/* In whatever byte order words are added, theirs is that of the sum (RFC 1071). */
static uint32_t sum(uint32_t start, const uint8_t *data, unsigned int len)
{
	uint64_t total = 0, words;

	for (; len >= sizeof(words); data += sizeof(words), len -= sizeof(words)) {
		memcpy(&words, data, sizeof(words));
		total += (words >> 32) + (uint32_t)words;
	}
	words = 0;
	memcpy(&words, data, len);
	total += (words >> 32) + (uint32_t)words;
	return start + ntohs(fold(total));
}

/* Of the pseudo header; addresses of IPv4 are in the first four bytes. */
static uint32_t pseudo(int family, const uint8_t *saddr, const uint8_t *daddr, unsigned int len)
{
	unsigned int size = family == 6 ? 16 : 4;

	return sum(sum(6 + (len >> 16) + (len & 0xffff), saddr, size), daddr, size);
}

static void set_address(uint8_t *address, int family, unsigned int four, unsigned int six, unsigned int host)
{
	memset(address, 0, 16);
	if (family == 4) {
		address[0] = 10;
		address[1] = four;
		address[2] = host >> 8;
		address[3] = host;
	} else {
		address[0] = 0xfd;
		address[1] = six;
		address[3] = number;
		set16(address + 14, host);
	}
}

/* Who asks: a client behind the gateway, or nobody who could. */
static void choose_source(struct flow *flow)
{
	uint8_t *a = flow->saddr;

	set_address(a, flow->family, 64 + number, 0x64, 2 + byte());
	switch (choose(48)) {
	case 47: memset(a, 0xff, 16); break;
	case 46: memset(a, 0, 16); break;
	case 45: memset(a, 0, 16); a[flow->family == 6 ? 15 : 0] = flow->family == 6 ? 1 : 127; a[3] |= flow->family == 4; break;
	case 44: a[0] = flow->family == 6 ? 0xff : 224; break;
	case 43: memcpy(a, flow->daddr, 16); break;
	case 42:
		/* If the link has no such host, the kernel tells itself so, which conntrack remembers. */
		if (!tracked)
			set_address(a, flow->family, 9, 9, flow->family == 4 ? number << 8 | 255 : 255);
		break;
	case 41: a[0] = 240; break;
	case 40:
		if (flow->family == 6) {
			memset(a, 0, 10);
			a[10] = a[11] = 0xff;
		}
		break;
	}
}

/* Who is asked: this host, one beyond it, or a group. */
static void choose_destination(struct flow *flow)
{
	uint8_t *a = flow->daddr;

	if (bridge) {
		set_address(a, flow->family, 9, 9, flow->family == 4 ? number << 8 | 77 : 77);
		return;
	}
	set_address(a, flow->family, 9, 9, flow->family == 4 ? number << 8 | 1 : 1);
	switch (choose(24)) {
	case 16: case 17: case 18: case 19: case 20:
		set_address(a, flow->family, 10, 0x10, word());
		break;
	case 21: memset(a, 0xff, 16); break;
	case 22: a[0] = flow->family == 6 ? 0xff : 224; a[1] = flow->family == 6 ? 2 : 0; break;
	case 23: set_address(a, flow->family, 9, 9, flow->family == 4 ? number << 8 | 255 : 0); break;
	}
}

static unsigned int tcp_options(uint8_t *options)
{
	static const uint8_t known[][10] = {
		{ 2, 4, 5, 0xb4 }, { 4, 2, 1, 1 }, { 1, 3, 3, 7 }, { 1, 1, 8, 10 }, { 0 }, { 1 }, { 2, 3 }, { 2, 0 },
		{ 2, 40 }, { 4, 3 }, { 34, 2 }, { 5, 10 }, { 254, 255 }, { 2, 4 },
	};
	static const uint8_t lengths[] = { 4, 4, 4, 4, 1, 1, 3, 2, 2, 3, 2, 10, 2, 2 };
	unsigned int len = 0, kind;

	for (unsigned int n = choose(7); n; n--) {
		kind = choose(sizeof(lengths));
		if (len + lengths[kind] > 40)
			break;
		memcpy(options + len, known[kind], lengths[kind]);
		len += lengths[kind];
	}
	if (rarely(16))
		for (unsigned int n = choose(8); n && len < 40; n--)
			options[len++] = byte();
	while (len % 4)
		options[len++] = choose(2);
	return len;
}

/* Bytes that count down to 1 */
static void put_payload(struct frame *f)
{
	static const uint16_t lengths[] = { 0, 0, 1, 5, 18, 100, 536, 1400, 1460, 3000, 9000, MAX_PAYLOAD };
	static uint8_t bytes[MAX_PAYLOAD];
	unsigned int len = lengths[choose(12)];

	if (!bytes[MAX_PAYLOAD - 1])
		for (unsigned int i = 0; i < sizeof(bytes); i++)
			bytes[i] = sizeof(bytes) - i;
	put(f, bytes + sizeof(bytes) - len, len);
}

/* The headers between IPv6's and TCP's; the last points at protocol. */
static void extension_headers(struct frame *f, unsigned int first, unsigned int protocol)
{
	static const uint8_t kinds[] = { 60, 0, 43, 44, 51, 135, 59, 139 };
	unsigned int place = first, n, kind, size;

	for (n = rarely(4) ? 1 + choose(5) : 0; n; n--) {
		unsigned int start = f->len;

		kind = kinds[choose(sizeof(kinds))];
		f->data[place] = kind;
		place = start;
		size = kind == 44 ? 0 : choose(4);
		put8(f, protocol);
		put8(f, kind == 51 ? size + 1 : size);
		if (kind == 44) {
			put16(f, rarely(3) ? word() : 0);
			put32(f, 7);
			continue;
		}
		if (kind == 0 || kind == 60) {	/* a PadN over all, or whatever */
			put8(f, rarely(4) ? byte() : 1);
			put8(f, rarely(4) ? byte() : size * 8 + 4);
		} else {
			put16(f, rarely(4) ? word() : 0);
		}
		while (f->len < start + (kind == 51 ? (size + 3) * 4 : (size + 1) * 8))
			put8(f, 0);
		if (rarely(12))
			f->data[start + 1] = byte();	/* a length that lies */
	}
	f->data[place] = protocol;
}

static uint8_t choose_flags(unsigned int turn)
{
	static const uint8_t first[] = { SYN, SYN, SYN, ACK, ACK | PSH, FIN | ACK, SYN | ACK, RST, RST | ACK, FIN, 0 };
	static const uint8_t later[] = { ACK | PSH, ACK, FIN | ACK, ACK | PSH | FIN, RST | ACK, SYN, FIN };
	unsigned int which = choose(16);

	if (turn && which < sizeof(later))
		return later[which];
	if (!turn && which < sizeof(first))
		return first[which];
	return byte();
}

/* Our hardware address */
static void set_here(uint8_t *where)
{
	set16(where, 0x0200);
	set16(where + 2, 0);
	set16(where + 4, 0x0a00 + number);
}

/* A length that lies, what comes behind, and what does not come at all */
static unsigned int damage(struct frame *f, unsigned int total)
{
	unsigned int n;

	if (rarely(20))
		total = rarely(2) ? word() : total + choose(9) - 4;
	if (rarely(12))
		for (n = choose(32); n; n--)
			put8(f, rarely(2) ? byte() : 0);
	if (rarely(24))
		f->len -= byte() % f->len;
	if (f->len < 15)
		f->len = 15;
	return total;
}

/* Segment number turn of flow, in all its wrappings */
static void make(struct frame *f, struct flow *flow, unsigned int turn)
{
	unsigned int ip, tcp, end, options_len = 0, len, doff, protocol, checksum_kind, vlans, i;
	uint8_t options[40], tcp_opts[44], flags, version;
	uint32_t seq, ack, total;
	uint16_t window;

	/* Link */
	put16(f, 0x0200);
	put32(f, (bridge ? 0x0000bb00 : 0x00000a00) + number);
	/* A bridge has its own host take note of what is for all, and conntrack with it: since 6.8 that stays. */
	if (rarely(48) && !(bridge && tracked))
		memset(f->data, 0xff, 6);
	put16(f, 0x0200);
	put32(f, 0x00000900 + number);
	vlans = rarely(12) ? 1 + choose(3) : 0;
	for (i = 0; i < vlans; i++) {
		put16(f, i || !rarely(4) ? 0x8100 : 0x88a8);
		put16(f, rarely(4) ? word() : 5);
	}
	put16(f, rarely(64) ? word() : flow->family == 6 ? 0x86dd : 0x0800);

	/* Network */
	ip = f->len;
	protocol = rarely(64) ? byte() : 6;
	version = rarely(96) ? byte() : 0;
	if (flow->family == 4) {
		if (rarely(12)) {
			options_len = 4 * (1 + choose(10));
			for (i = 0; i < options_len; i++)
				options[i] = rarely(3) ? byte() : 1;
		}
		put8(f, version ?: 0x40 | (20 + options_len) / 4);
		put8(f, byte());
		put16(f, 0);
		put16(f, rarely(4) ? word() : 0);
		put16(f, rarely(24) ? word() : rarely(2) ? 0x4000 : 0);
		put8(f, rarely(16) ? byte() : 64);
		put8(f, protocol);
		put16(f, 0);
		put(f, flow->saddr, 4);
		put(f, flow->daddr, 4);
		put(f, options, options_len);
	} else {
		put32(f, 0x60000000 | (uint32_t)version << 24 | (rarely(8) ? word() : 0));
		put16(f, 0);
		put8(f, protocol);
		put8(f, rarely(16) ? byte() : 64);
		put(f, flow->saddr, 16);
		put(f, flow->daddr, 16);
		extension_headers(f, ip + 6, protocol);
	}

	/* Transport */
	tcp = f->len;
	flags = choose_flags(turn);
	seq = flow->isn + !!turn;
	switch (choose(12)) {
	case 6: seq += word(); break;
	case 7: seq -= 1 + choose(3); break;
	case 8: seq += WINDOW_HOST - choose(3); break;
	case 9: seq += 65533 + choose(6); break;
	case 10: seq = number32(); break;
	}
	ack = flags & ACK ? flow->theirs : 0;
	if (rarely(10) || (flags & ACK && !flow->accepted))
		ack = number32();
	window = rarely(4) ? (rarely(3) ? word() : 0) : 29200;
	len = tcp_options(tcp_opts);
	doff = (20 + len) / 4;
	put16(f, flow->sport);
	put16(f, flow->dport);
	put32(f, seq);
	put32(f, ack);
	put8(f, (rarely(24) ? byte() & 15 : doff) << 4 | (rarely(12) ? byte() & 15 : 0));
	put8(f, flags);
	put16(f, window);
	put16(f, 0);
	put16(f, rarely(8) ? word() : 0);
	put(f, tcp_opts, len);
	put_payload(f);
	end = f->len;

	total = damage(f, end - ip);
	if (flow->family == 4)
		set16(f->data + ip + 2, total);
	else
		set16(f->data + ip + 4, total - 40);

	/* Checksums, and what the card says of them */
	checksum_kind = choose(24);
	if (flow->family == 4 && !rarely(32) && f->len >= ip + 20 + options_len)
		set16(f->data + ip + 10, ~fold(sum(0, f->data + ip, 20 + options_len)));
	if (f->len < tcp + 20 || f->len < end)
		return;
	total = pseudo(flow->family, flow->saddr, flow->daddr, end - tcp);
	switch (checksum_kind) {
	case 23:
		break;
	case 22:
		f->vnet.flags = VIRTIO_NET_HDR_F_DATA_VALID;
		break;
	case 21: case 20: case 19:
		f->vnet.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		f->vnet.csum_start = rarely(8) ? word() : tcp;
		f->vnet.csum_offset = rarely(8) ? byte() : 16;
		f->vnet.hdr_len = rarely(3) ? byte() : tcp + 4 * doff;
		set16(f->data + tcp + 16, fold(total));
		if (checksum_kind == 19) {
			f->vnet.gso_type = rarely(6) ? byte() : flow->family == 6 ? VIRTIO_NET_HDR_GSO_TCPV6 :
										      VIRTIO_NET_HDR_GSO_TCPV4;
			f->vnet.gso_size = rarely(4) ? word() : 1400;
		}
		break;
	case 18:
		f->vnet.hdr_len = byte();	/* how much of it is in one piece */
		/* fall through */
	default:
		set16(f->data + tcp + 16, ~fold(sum(total, f->data + tcp, end - tcp)));
		if (checksum_kind == 17)
			f->data[tcp + 16] ^= 1 + choose(255);
	}
}

/* An address that the rule names, or none that anybody should be told of; some ask before they take it. */
static void choose_target(struct flow *flow)
{
	uint8_t *a = flow->daddr;

	if (rarely(8))
		memset(flow->saddr, 0, 16);

	set_address(a, flow->family, 9, 9, flow->family == 4 ? number << 8 | 128 | choose(128) : 3U + byte());
	switch (choose(24)) {
	case 23: memset(a, 0xff, 16); break;
	case 22: a[0] = flow->family == 6 ? 0xff : 224; break;
	case 21: memset(a, 0, 16); a[flow->family == 6 ? 15 : 0] = flow->family == 6 ? 1 : 127; break;
	case 20: memcpy(a, flow->saddr, 16); break;
	case 19: a[flow->family == 6 ? 13 : 2] = byte(); break;
	}
}

static void put_link(struct frame *f, unsigned int type, const uint8_t *group)
{
	unsigned int n;

	put(f, group, 6);
	switch (choose(4)) {
	case 2: memset(f->data, 0xff, 6); break;
	case 3: set_here(f->data); break;
	}
	put16(f, rarely(24) ? word() : 0x0200);
	put32(f, 0x00000900 + number);
	for (n = rarely(12) ? 1 + choose(3) : 0; n; n--) {
		put16(f, 0x8100);
		put16(f, rarely(4) ? word() : 5);
	}
	put16(f, rarely(64) ? word() : type);
}

static void make_arp(struct frame *f, const struct flow *flow)
{
	static const uint8_t all[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	unsigned int n;

	put_link(f, 0x0806, all);
	put16(f, rarely(24) ? word() : 1);
	put16(f, rarely(24) ? word() : 0x0800);
	put8(f, rarely(24) ? byte() : 6);
	put8(f, rarely(24) ? byte() : 4);
	put16(f, rarely(8) ? choose(16) : 1);
	put(f, f->data + 6, 6);
	if (rarely(12))
		f->data[f->len - 1 - choose(6)] ^= 1 << choose(8);
	put(f, flow->saddr, 4);
	for (n = 0; n < 6; n++)
		put8(f, rarely(12) ? byte() : 0);
	put(f, flow->daddr, 4);
	damage(f, 0);
}

static void make_solicitation(struct frame *f, const struct flow *flow)
{
	uint8_t to[16] = { 0xff, 2, [11] = 1, [12] = 0xff }, group[6] = { 0x33, 0x33 };
	static const uint8_t counts[] = { 1, 0, 2, 3 };
	unsigned int ip, icmp, end, n;
	uint32_t total;

	memcpy(to + 13, flow->daddr + 13, 3);
	memcpy(group + 2, to + 12, 4);
	put_link(f, 0x86dd, group);
	ip = f->len;
	put32(f, 0x60000000);
	put16(f, 0);
	put8(f, 58);
	put8(f, rarely(12) ? byte() : 255);
	put(f, flow->saddr, 16);
	switch (choose(8)) {
	case 7: to[13] ^= byte(); break;
	case 6: memcpy(to, flow->daddr, 16); break;
	case 5: memset(to + 2, 0, 14); to[15] = 1; break;
	}
	put(f, to, 16);
	extension_headers(f, ip + 6, 58);
	icmp = f->len;
	put8(f, rarely(12) ? byte() : 135);
	put8(f, rarely(12) ? byte() : 0);
	put16(f, 0);
	put32(f, rarely(12) ? number32() : 0);
	put(f, flow->daddr, 16);
	for (n = counts[choose(4)]; n; n--) {
		put8(f, rarely(4) ? byte() : 1);
		put8(f, rarely(4) ? choose(4) : 1);
		put(f, f->data + 6, rarely(8) ? choose(6) : 6);
	}
	end = f->len;
	total = damage(f, end - ip);
	set16(f->data + ip + 4, total - 40);
	if (f->len < end || rarely(16))
		return;
	total = sum(sum(sum(58 + end - icmp, flow->saddr, 16), to, 16), f->data + icmp, end - icmp);
	set16(f->data + icmp + 2, ~fold(total));
}

/* The same frame on its way through a tunnel that ends here */
static void wrap(struct frame *f, const struct frame *inner, enum tunnel tunnel)
{
	unsigned int type = get16(inner->data + 12), from = tunnel == VXLAN ? 0 : 14, len, protocol;

	f->vnet = inner->vnet;
	f->len = 0;
	put(f, inner->data, 12);
	put16(f, 0x0800);
	len = 20 + inner->len - from + (tunnel == GRE ? 4 : tunnel == VXLAN ? 16 : 0);
	protocol = tunnel == GRE ? 47 : tunnel == VXLAN ? 17 : type == 0x0800 ? 4 : type == 0x86dd ? 41 : 255;
	put16(f, 0x4500);
	put16(f, len);
	put32(f, 0);
	put8(f, 64);
	put8(f, protocol);
	put16(f, 0);
	put32(f, 0x0a090002 | number << 8);
	put32(f, 0x0a090001 | number << 8);
	set16(f->data + 24, ~fold(sum(0, f->data + 14, 20)));
	if (tunnel == GRE) {
		put16(f, 0);
		put16(f, type);
	} else if (tunnel == VXLAN) {
		put16(f, 40000);
		put16(f, VXLAN_PORT);
		put16(f, len - 20);
		put16(f, 0);
		put32(f, 0x08000000);
		put32(f, number << 8);
	}
	put(f, inner->data + from, inner->len - from);
	/* With one, the kernel knows the sum of all that is inside. */
	if (tunnel == VXLAN && f->len == 14 + len && choose(2))
		set16(f->data + 40, ~fold(sum(sum(17 + len - 20, f->data + 26, 8), f->data + 34, len - 20)));
}

/* --- judgement ------------------------------------------------------------------------------------------------------- */

struct parsed {
	int family;
	unsigned int vlans, ip, ip_len, tcp, payload, options_len;
	const uint8_t *saddr, *daddr;
	bool extended;		/* IP options or extension headers */
	bool fragment;
	bool checksum_good;
	uint8_t hops;
};

/* The segment in a frame, by the book: false if there is none, or if anything about it is not right. */
static bool parse(const uint8_t *data, unsigned int len, struct parsed *p)
{
	unsigned int type, at = 12, protocol, size;

	memset(p, 0, sizeof(*p));
	if (len < 14)
		return false;
	for (type = get16(data + at); type == 0x8100 || type == 0x88a8; type = get16(data + at)) {
		at += 4;
		p->vlans++;
		if (len < at + 2)
			return false;
	}
	at += 2;
	p->ip = at;
	if (type == 0x0800) {
		p->family = 4;
		if (len < at + 20 || data[at] >> 4 != 4)
			return false;
		size = (data[at] & 15) * 4;
		p->ip_len = get16(data + at + 2);
		if (size < 20 || p->ip_len < size || len < at + p->ip_len)
			return false;
		if (fold(sum(0, data + at, size)) != 0xffff)
			return false;
		p->extended = size > 20;
		p->fragment = get16(data + at + 6) & 0x3fff;
		p->hops = data[at + 8];
		protocol = data[at + 9];
		p->saddr = data + at + 12;
		p->daddr = data + at + 16;
		p->tcp = at + size;
	} else if (type == 0x86dd) {
		p->family = 6;
		if (len < at + 40 || data[at] >> 4 != 6)
			return false;
		p->ip_len = 40 + get16(data + at + 4);
		if (len < at + p->ip_len)
			return false;
		protocol = data[at + 6];
		p->hops = data[at + 7];
		p->saddr = data + at + 8;
		p->daddr = data + at + 24;
		p->tcp = at + 40;
		while (protocol == 0 || protocol == 43 || protocol == 44 || protocol == 51 || protocol == 60 ||
		       protocol == 135) {
			p->extended = true;
			if (p->tcp + 8 > at + p->ip_len)
				return false;
			size = protocol == 44 ? 8 : protocol == 51 ? (data[p->tcp + 1] + 2) * 4 : (data[p->tcp + 1] + 1) * 8;
			if (protocol == 44)
				p->fragment = true;
			protocol = data[p->tcp];
			p->tcp += size;
		}
	} else {
		return false;
	}
	if (protocol != 6 || p->tcp + 20 > p->ip + p->ip_len)
		return false;
	size = (data[p->tcp + 12] >> 4) * 4;
	if (size < 20 || p->tcp + size > p->ip + p->ip_len)
		return false;
	p->options_len = size - 20;
	p->payload = p->ip + p->ip_len - p->tcp - size;
	size += p->payload;
	p->checksum_good = fold(sum(pseudo(p->family, p->saddr, p->daddr, size), data + p->tcp, size)) == 0xffff;
	return true;
}

static bool is_unicast(const struct parsed *p, const uint8_t *a)
{
	static const uint8_t zero[16], mapped[12] = { [10] = 0xff, [11] = 0xff };

	if (p->family == 6)
		return a[0] != 0xff && memcmp(a, zero, 16) && memcmp(a, mapped, 12);
	return a[0] && (a[0] & 0xf0) != 0xe0 && get32(a) != 0xffffffff;
}

/* A client's address from which this host has a way back */
static bool is_client(const struct parsed *p, const uint8_t *a)
{
	uint8_t whole[16];

	set_address(whole, p->family, 64 + number, 0x64, p->family == 4 ? get16(a + 2) : get16(a + 14));
	return !memcmp(whole, a, p->family == 6 ? 16 : 4);
}

static bool is_here(const struct parsed *p, const uint8_t *a)
{
	uint8_t whole[16];

	set_address(whole, p->family, 9, 9, p->family == 4 ? number << 8 | (bridge ? 77 : 1) : bridge ? 77 : 1);
	return !memcmp(whole, a, p->family == 6 ? 16 : 4);
}

static bool is_beyond(const struct parsed *p, const uint8_t *a)
{
	return !bridge && (p->family == 6 ? a[0] == 0xfd && a[1] == 0x10 : a[0] == 10 && a[1] == 10);
}

/* What of a connection that is held is acknowledged: by --tarpit nothing, by --stall the first window, in order. */
static void judge_held(struct verdict *v, const struct flow *flow, enum mode mode, uint32_t seq, unsigned int payload,
		       bool fin)
{
	uint32_t begin = seq - flow->isn, taken = 0;

	v->flags = ACK;
	v->any_window = mode == STALL;
	if (!flow->accepted || v->seq != flow->theirs || begin > 65536) {
		/* Not ours, but for an accident of numbers */
		v->ack = seq + payload + 1;
		v->ack_range = 65536 + payload + 1;
		v->seq_range = mode == STALL && fin;
		return;
	}
	if (mode == STALL) {
		taken = begin;
		if (payload || fin) {
			taken = begin + payload ? begin + payload - 1 : 0;
			if (taken > WINDOW_HOST)
				taken = WINDOW_HOST;
		}
		v->any_window = false;
		v->window = fin ? 0 : WINDOW_HOST - taken;
		v->seq += fin && !payload && taken;
	}
	v->ack = flow->isn + 1 + taken;
}

static void judge(const struct frame *f, const struct flow *flow, struct verdict *v)
{
	const uint8_t *data = f->data, *tcp;
	unsigned int port, way, mode, payload;
	struct parsed p;
	bool well_formed;
	uint8_t flags;

	memset(v, 0, sizeof(*v));
	/* Whole frames cannot be told from those that it was put together with. */
	if (pieces) {
		v->expect = MAY;
		return;
	}
	well_formed = parse(data, f->len, &p);
	/* With others of the case, it may be a whole; and what is cut into segments gets right lengths. */
	if (p.fragment || (!well_formed && f->vnet.gso_type))
		v->expect = MAY;
	if (p.fragment || !well_formed)
		return;
	tcp = data + p.tcp;
	v->tcp_len = 20 + p.options_len;
	v->ip_len = p.ip_len;
	port = get16(tcp + 2) - PORT;
	way = port / 10;
	mode = port % 10;
	if (way >= (no_device ? DEVICE : WAYS) || mode >= MODES || !is_unicast(&p, p.saddr) || !is_unicast(&p, p.daddr))
		return;
	/* To a group's hardware address, only the device looks at nothing but the frame; and is silent, too. */
	if (data[0] & 1)
		return;
	if (!p.checksum_good && !f->vnet.flags)
		return;
	/* A device's mode may be another one for a moment. */
	if (chaos && way == DEVICE && (mode == STALL || mode == HONEYPOT)) {
		v->expect = MAY;
		return;
	}

	/* What a host does with such a packet before it comes to a rule is not what is judged here. */
	v->expect = chaos || p.extended || f->vnet.flags || f->vnet.gso_type || f->vnet.hdr_len || p.vlans ||
		    p.hops < 2 || !is_client(&p, p.saddr) || !(is_here(&p, p.daddr) || is_beyond(&p, p.daddr)) ||
		    p.ip_len > 1500 ? MAY : MUST;
	v->judged = !f->vnet.gso_type;	/* each of its segments may get an answer of its own */
	/* The others go where the routes say; and a packet socket is not told the tag among the data. */
	v->same_vlan = way == DEVICE && !wire;

	payload = p.payload;
	flags = tcp[13] & (SYN | FIN | RST | ACK);
	v->seq = get32(tcp + 8);
	if (flags == SYN && mode != RESET) {
		v->flags = SYN | ACK;
		v->seq = 0;
		v->ack = get32(tcp + 4) + 1;
		v->window = mode == TARPIT ? WINDOW_OPEN : WINDOW_HOST;
	} else if (flags == (SYN | ACK) || (mode == RESET && (flags == SYN || flags == FIN || flags == ACK ||
							      flags == (FIN | ACK)))) {
		v->flags = flags & ACK ? RST : RST | ACK;
		v->ack = flags & ACK ? 0 : get32(tcp + 4) + payload + (flags != ACK);
		if (!(flags & ACK))
			v->seq = 0;
	} else if (flags == ACK && mode == HONEYPOT && payload) {
		v->flags = ACK;
		v->ack = get32(tcp + 4) + payload;
		v->window = WINDOW_HOST;
	} else if (flags == (FIN | ACK) && mode == HONEYPOT) {
		v->flags = ACK;
		v->ack = get32(tcp + 4) + payload + 1;
		v->window = WINDOW_HOST;
	} else if (mode != HONEYPOT && mode != RESET &&
		   (flags == (FIN | ACK) || (flags == ACK && (payload || get16(tcp + 14))))) {
		judge_held(v, flow, mode, get32(tcp + 4), payload, flags & FIN);
		/* Of a keepalive that cannot be told from an ACK, --stall keeps silent. */
		if (mode == STALL && !payload && flags == ACK && v->expect == MUST)
			v->expect = MAY;
	} else {
		/* Of a packet that is cut into segments only the last has the FIN, so that others may be SYNs. */
		v->expect = f->vnet.gso_type && (flags & SYN) && (flags & FIN) ? MAY : NEVER;
	}
}

/* Skip the tags of a frame: where its type is, or 0 if it ends before. */
static unsigned int type_at(const uint8_t *data, unsigned int len)
{
	unsigned int at = 12;

	while (at + 2 <= len && (get16(data + at) == 0x8100 || get16(data + at) == 0x88a8))
		at += 4;
	return at + 2 <= len ? at : 0;
}

static bool is_loopback(int family, const uint8_t *a)
{
	static const uint8_t loopback[16] = { [15] = 1 };

	return family == 4 ? a[0] == 127 : !memcmp(a, loopback, 16);
}

/* Does the rule name the address? */
static bool is_named(int family, const uint8_t *a)
{
	uint8_t named[16];

	set_address(named, family, 9, 9, family == 4 ? number << 8 | 128 : 0);
	return family == 4 ? !memcmp(a, named, 3) && a[3] & 128 : !memcmp(a, named, 14);
}

/* RFC 826: who may be told */
static bool is_arp_request(const uint8_t *data, unsigned int len, unsigned int at)
{
	static const uint8_t head[] = { 0, 1, 8, 0, 6, 4, 0, 1 };
	struct parsed p = { .family = 4 };
	const uint8_t *arp = data + at;

	return len >= at + 28 && !memcmp(arp, head, 8) && !memcmp(arp + 8, data + 6, 6) && is_unicast(&p, arp + 14) &&
	       is_unicast(&p, arp + 24) && !is_loopback(4, arp + 14) && !is_loopback(4, arp + 24) &&
	       memcmp(arp + 14, arp + 24, 4);
}

/* RFC 4861, 7.1.1, the same */
static bool is_solicitation(const uint8_t *data, unsigned int len, unsigned int at)
{
	static const uint8_t nodes[13] = { 0xff, 2, [11] = 1, [12] = 0xff };
	const uint8_t *ip = data + at, *icmp = ip + 40;
	struct parsed p = { .family = 6 };
	unsigned int size, option;

	if (len < at + 64 || ip[0] >> 4 != 6 || ip[6] != 58 || ip[7] != 255)
		return false;
	size = get16(ip + 4);
	if (size < 24 || len < at + 40 + size || icmp[0] != 135 || icmp[1])
		return false;
	if (fold(sum(sum(58 + size, ip + 8, 32), icmp, size)) != 0xffff)
		return false;
	for (option = 24; option < size; option += icmp[option + 1] * 8)
		if (option + 2 > size || !icmp[option + 1])
			return false;
	if (!is_unicast(&p, ip + 8) || !is_unicast(&p, icmp + 8) || is_loopback(6, icmp + 8))
		return false;
	return !memcmp(ip + 24, icmp + 8, 16) || (!memcmp(ip + 24, nodes, 13) && !memcmp(ip + 37, icmp + 21, 3));
}

static void judge_question(const struct frame *f, struct verdict *v)
{
	unsigned int at = type_at(f->data, f->len), type, from;
	static const uint8_t nobody[6];
	int family;

	memset(v, 0, sizeof(*v));
	v->expect = MAY;
	if (pieces || !at)
		return;
	type = get16(f->data + at);
	at += 2;
	if (type != 0x0806 && type != 0x86dd)
		return;
	family = type == 0x0806 ? 4 : 6;
	from = at + (family == 4 ? 24 : 48);
	/* Of others, the host may know, too; and what has headers in between, no rule finds. */
	if (f->len < from + (family == 4 ? 4 : 16) || !is_named(family, f->data + from) ||
	    (family == 6 && f->data[at + 6] != 58))
		return;
	v->judged = at == 14 || !wire;
	if (!(family == 4 ? is_arp_request : is_solicitation)(f->data, f->len, at) || f->data[6] & 1 ||
	    !memcmp(f->data + 6, nobody, 6))
		v->expect = NEVER;
	else if (at == 14 && !chaos)
		v->expect = MUST;
}

/* Why what a question got is wrong; NULL if it is not. */
static const char *compare_answer(const struct frame *f, const struct verdict *v, const uint8_t *reply,
				  unsigned int len)
{
	const uint8_t here[6] = { 2, 0, 0, 0, 0x0a, number };
	unsigned int at = type_at(f->data, f->len) + 2;
	const uint8_t *asked = f->data + at, *said = reply + at;

	if (v->expect == NEVER)
		return "tells who must not be told";
	if (reply[0] & 1)
		return "tells a group";
	if (!v->judged)
		return NULL;
	if (memcmp(reply, f->data + 6, 6) || memcmp(reply + 6, here, 6) || memcmp(reply + 12, f->data + 12, at - 12))
		return "tells another";
	if (get16(f->data + at - 2) == 0x0806) {
		if (len != at + 28 || memcmp(said, asked, 7) || said[7] != 2)
			return "sends an answer of ARP that is none";
		return memcmp(said + 8, here, 6) || memcmp(said + 14, asked + 24, 4) ||
		       memcmp(said + 18, asked + 8, 10) ? "tells another address" : NULL;
	}
	if (len != at + 72 || said[0] != 0x60 || get16(said + 4) != 32 || said[6] != 58 || said[7] != 255 ||
	    fold(sum(sum(58 + 32, said + 8, 32), said + 40, 32)) != 0xffff)
		return "sends an advertisement that is none";
	if (said[40] != 136 || said[41] || get32(said + 44) != 0x60000000 || said[64] != 2 || said[65] != 1)
		return "advertises something else";
	return memcmp(said + 8, asked + 48, 16) || memcmp(said + 24, asked + 8, 16) ||
	       memcmp(said + 48, asked + 48, 16) || memcmp(said + 66, here, 6) ? "advertises another address" : NULL;
}

/* Why the answer is wrong; NULL if it is not. */
static const char *compare(const struct frame *f, const struct verdict *v, const uint8_t *reply, unsigned int len)
{
	struct parsed question, p;
	const uint8_t *tcp;

	if (v->expect == NEVER)
		return "answers what wants no answer";
	if (!parse(reply, len, &p))
		return "sends a segment that is none";
	if (!p.checksum_good)
		return "sends a wrong checksum";
	if (reply[0] & 1 || !is_unicast(&p, p.saddr) || !is_unicast(&p, p.daddr))
		return "sends to a group, or as one";
	if (!v->judged || !parse(f->data, f->len, &question))
		return NULL;
	tcp = reply + p.tcp;
	if (p.family != question.family || memcmp(p.saddr, question.daddr, p.family == 6 ? 16 : 4) ||
	    memcmp(p.daddr, question.saddr, p.family == 6 ? 16 : 4) ||
	    memcmp(tcp, f->data + question.tcp + 2, 2) || memcmp(tcp + 2, f->data + question.tcp, 2))
		return "answers another flow";
	if (v->same_vlan && (p.vlans != question.vlans || memcmp(reply + 12, f->data + 12, p.vlans * 4)))
		return "answers in another VLAN";
	if (p.payload)
		return "sends data";
	if (20 + p.options_len > v->tcp_len || p.ip_len > v->ip_len)
		return "sends more than it got";
	if (tcp[13] != v->flags)
		return "sends other flags";
	if (v->flags != (SYN | ACK) && get32(tcp + 4) - v->seq > v->seq_range)
		return "sends another sequence number";
	if (v->ack - get32(tcp + 8) > v->ack_range)
		return "acknowledges something else";
	if (!v->any_window && get16(tcp + 14) != v->window)
		return "opens another window";
	return get16(tcp + 18) ? "sends an urgent pointer" : NULL;
}

/* --- running --------------------------------------------------------------------------------------------------------- */

static void print_frame(const char *what, const uint8_t *data, unsigned int len)
{
	printf("%s ", what);
	for (unsigned int i = 0; i < len; i++)
		printf("%02x", data[i]);
	putchar('\n');
}

static bool note_coverage(void)
{
	uint64_t count = cover ? __atomic_load_n(&cover[0], __ATOMIC_RELAXED) : 0, previous = 0;
	bool fresh = false;

	for (uint64_t i = 1; i <= count && i < COVER_SIZE; i++) {
		uint64_t place = cover[i], slot = splitmix(place) % 4096;
		unsigned int edge = splitmix(place ^ previous << 1) % EDGES;

		while (places[slot] && places[slot] != place)
			slot = (slot + 1) % 4096;
		if (!places[slot] && place_count < 4000) {
			places[slot] = place;
			place_count++;
		}
		if (!edges[edge]) {
			edges[edge] = 1;
			edge_count++;
			fresh = true;
		}
		previous = place;
	}
	return fresh;
}

/* Is there TCP in it, or what pretends to be, or an answer to a question?  The host's own neighbour discovery is not
 * our business.
 */
static bool is_ours(const uint8_t *data, unsigned int len, bool asked)
{
	unsigned int at = type_at(data, len), type;

	if (!at || at + 22 > len)
		return false;
	type = get16(data + at);
	if (asked && type == 0x0806)
		return get16(data + at + 8) == 2;
	if (asked && type == 0x86dd)
		return data[at + 8] == 58 && len > at + 42 && data[at + 42] == 136;
	if (asked)
		return false;
	return type == 0x0800 ? data[at + 11] == 6 : type == 0x86dd && data[at + 8] == 6;
}

/* Leave what is inside of a frame that leaves by VXLAN, as the device's answers do to what came by it. */
static bool unwrap(struct frame *f)
{
	const unsigned int outer = 14 + 20 + 8 + 8;

	if (f->len < outer || get16(f->data + 12) != 0x0800 || f->data[14] != 0x45 || f->data[23] != 17 ||
	    get16(f->data + 36) != VXLAN_PORT)
		return false;
	f->len -= outer;
	memmove(f->data, f->data + outer, f->len);
	return true;
}

/* The next frame that came back; false if there is none. */
static bool take(struct frame *reply)
{
	struct sockaddr_ll from;
	socklen_t size;
	ssize_t len;

	do {
		size = sizeof(from);
		from.sll_pkttype = PACKET_HOST;
		len = wire ? recvfrom(port, reply, sizeof(reply->vnet) + sizeof(reply->data), 0,
				      (struct sockaddr *)&from, &size) :
			     read(port, reply, sizeof(reply->vnet) + sizeof(reply->data));
	} while ((len < 0 && errno == EINTR) || (len >= 0 && wire && from.sll_pkttype == PACKET_OUTGOING));
	if (len < (ssize_t)sizeof(reply->vnet))
		return false;
	reply->len = len - sizeof(reply->vnet);
	reply->inside = tunnels && unwrap(reply);
	return true;
}

/* The same, of those that are answers */
static bool receive(struct frame *reply, bool asked)
{
	while (take(reply))
		if (is_ours(reply->data, reply->len, asked))
			return true;
	return false;
}

static bool wait_for_more(int milliseconds)
{
	struct pollfd wait = { .fd = port, .events = POLLIN };

	return poll(&wait, 1, milliseconds) > 0;
}

/* Send a frame, as one or in pieces: the flow tells how long they are. */
static ssize_t send_frame(struct frame *f, const struct flow *flow)
{
	struct iovec vector[2 + MAX_PIECES] = { { &f->vnet, sizeof(f->vnet) } };
	unsigned int n = 1, at = 0, len = 14 + flow->sport % 128;

	if (!pieces)
		return write(port, f, sizeof(f->vnet) + f->len);
	for (; at < f->len && n < 2 + MAX_PIECES; at += len, n++) {
		if (n > 1)
			len = 1 + (flow->sport * n) % MAX_PIECE;
		if (len > f->len - at)
			len = f->len - at;
		vector[n].iov_base = f->data + at;
		vector[n].iov_len = len;
	}
	return writev(port, vector, n);
}

/* What comes before the answers to two SYNs of our own: how many there are; the first is in *reply.  What the card's
 * driver keeps back to put it together with more may come after the answer to one.
 */
static unsigned int settle(struct frame *reply, const struct flow *flow)
{
	unsigned int answers = 0, left = 2, tries;
	static struct frame syn, next;

	memset(&syn.vnet, 0, sizeof(syn.vnet));
	syn.len = 12;
	set_here(syn.data);
	set16(syn.data + 6, 0x0200);
	set16(syn.data + 8, 0);
	set16(syn.data + 10, 0x0900 + number);
	put16(&syn, 0x0800);
	put32(&syn, 0x45000028);
	put32(&syn, 0);
	put32(&syn, 0x40060000);
	put32(&syn, 0x0a400002 + (number << 16));
	put32(&syn, 0x0a090001 + (number << 8));
	put16(&syn, SETTLE_PORT);
	put16(&syn, PORT);
	put32(&syn, 1);
	put32(&syn, 0);
	put32(&syn, 0x50021000);
	put32(&syn, 0);
	set16(syn.data + 24, ~fold(sum(0, syn.data + 14, 20)));
	set16(syn.data + 50, ~fold(sum(sum(6 + 20, syn.data + 26, 8), syn.data + 34, 20)));

	for (tries = chaos ? 2 : 4; tries && left; tries--) {
		bool settled = false;

		if (write(port, &syn, sizeof(syn.vnet) + syn.len) < 0)
			continue;
		while (!settled && wait_for_more(chaos ? 20 : 1000)) {
			while (!settled && take(&next)) {
				settled = next.len >= 54 && get16(next.data + 12) == 0x0800 && next.data[23] == 6 &&
					  get16(next.data + 36) == SETTLE_PORT;
				if (!settled && is_ours(next.data, next.len, flow->asks) && !answers++)
					copy(reply, &next);
			}
		}
		left -= settled;
	}
	return answers;
}

/* How many answers there are to what was just sent, up to two; the first is in *reply. */
static unsigned int gather(struct frame *reply, const struct flow *flow, bool must)
{
	static struct frame spare;

	if (wire)
		return settle(reply, flow);
	if (!receive(reply, flow->asks) && !(must && wait_for_more(1000) && receive(reply, flow->asks)))
		return 0;
	return 1 + receive(&spare, flow->asks);
}

/* May it get but one answer?  On its way to the device, a super-packet is cut into what it was made of. */
static bool is_single(const struct frame *f)
{
	return !f->vnet.gso_type && !pieces;
}

static void begin(struct flow *flow)
{
	unsigned int kind = byte();

	memset(flow, 0, sizeof(*flow));
	flow->family = kind & 1 ? 6 : 4;
	flow->asks = !no_device && kind % 16 >= KIND_QUESTION;
	if (tunnels && kind % 16 / 2 * 2 == KIND_TUNNEL)
		flow->tunnel = GRE + kind / 16 % (TUNNELS - GRE);
	flow->dport = PORT + choose(MODES) + 10 * choose(WAYS);
	flow->sport = 1024 + word() % 60000;
}

/* Why what came in since the answers to *f* were counted is wrong; NULL if it is not.  There were so many. */
static const char *judge_late(const struct frame *f, const struct verdict *v, const struct flow *flow,
			      unsigned int answers)
{
	static struct frame reply;
	const char *wrong = NULL;

	while (!wrong && !wire && receive(&reply, flow->asks)) {
		if (dump)
			print_frame("reply", reply.data, reply.len);
		wrong = answers++ && is_single(f) ? "answers twice" :
			(flow->asks ? compare_answer : compare)(f, v, reply.data, reply.len);
	}
	return wrong;
}

/* Run a case: what was wrong, or NULL.  *fresh tells whether it reached anything new. */
static const char *attempt(const struct genome *g, bool *fresh)
{
	static struct frame f, sent, reply, spare;
	unsigned int turn, turns, count = 0;
	const char *wrong = NULL;
	struct verdict v;
	struct flow flow;

	at = g;
	used = 0;
	*fresh = false;
	begin(&flow);
	turns = 1 + choose(MAX_FRAMES);
	if (!flow.asks)
		choose_destination(&flow);
	choose_source(&flow);
	if (rarely(40))
		flow.dport = word();
	flow.isn = number32();

	while (receive(&spare, flow.asks))	/* of the case before */
		;
	for (turn = 0;; turn++) {
		struct frame *out = &f;
		ssize_t len;

		if (turn && !wrong)
			wrong = judge_late(&f, &v, &flow, count);
		if (wrong || turn == turns)
			return wrong;

		memset(&f.vnet, 0, sizeof(f.vnet));
		f.len = 0;
		if (flow.asks) {
			choose_target(&flow);
			(flow.family == 6 ? make_solicitation : make_arp)(&f, &flow);
			judge_question(&f, &v);
		} else {
			make(&f, &flow, turn);
			if (flow.tunnel) {
				memset(&f.vnet, 0, sizeof(f.vnet));
				set_here(f.data);
			}
			judge(&f, &flow, &v);
		}
		if (flow.tunnel) {
			out = &sent;
			wrap(out, &f, flow.tunnel);
			v.expect = v.expect == MUST ? MAY : v.expect;
		}
		if (cover)
			__atomic_store_n(&cover[0], 0, __ATOMIC_RELAXED);
		if (dump)
			print_frame("frame", out->data, out->len);
		if (dry)
			continue;
		len = send_frame(out, &flow);
		if (note_coverage())
			*fresh = true;
		frames_sent++;
		count = 0;
		if (len < 0)		/* the kernel refuses such a frame at the door */
			continue;
		count = gather(&reply, &flow, v.expect == MUST);
		if (count)
			replies_seen++;
		if (dump && count)
			print_frame("reply", reply.data, reply.len);
		if (count > 1 && is_single(&f))
			wrong = "answers twice";
		else if (count && reply.inside && flow.tunnel != VXLAN)
			wrong = "answers into a tunnel";
		else if (count)
			wrong = (flow.asks ? compare_answer : compare)(&f, &v, reply.data, reply.len);
		else if (v.expect == MUST)
			wrong = "does not answer";
		if (count && !wrong && v.flags == (SYN | ACK) && v.judged) {
			struct parsed p;

			parse(reply.data, reply.len, &p);
			flow.theirs = get32(reply.data + p.tcp + 4) + 1;
			flow.isn = v.ack - 1;
			flow.accepted = true;
		}
	}
}

/* The same; false if it was wrong, and again when all that was under way had arrived.  Where two processors send by one
 * interface, an answer may wait for the other one.
 */
static bool run(const struct genome *g, bool *fresh)
{
	const char *wrong = attempt(g, fresh);
	bool ignored;

	if (!wrong)
		return true;
	print_genome("once", g);
	printf(" %s\n", wrong);
	for (int again = 0; again < 3; again++) {
		usleep(20000);
		wrong = attempt(g, &ignored);
		if (!wrong)
			return true;
	}
	print_genome("wrong", g);
	printf(" %s\n", wrong);
	fflush(stdout);
	return false;
}

static void open_tap(const char *name)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };

	if (pieces)
		request.ifr_flags |= IFF_NAPI | IFF_NAPI_FRAGS;

	port = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
	if (port < 0)
		die("/dev/net/tun");
	strncpy(request.ifr_name, name, IFNAMSIZ - 1);
	if (ioctl(port, TUNSETIFF, &request) < 0)
		die(name);
}

static void open_card(const char *name)
{
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = if_nametoindex(name),
	};
	int one = 1;

	port = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0);
	if (port < 0 || setsockopt(port, SOL_PACKET, VNET_HDR, &one, sizeof(one)) < 0 ||
	    bind(port, (struct sockaddr *)&address, sizeof(address)) < 0)
		die(name);
}

static void open_coverage(void)
{
	int fd = open("/sys/kernel/debug/kcov", O_RDWR);

	if (fd < 0)
		return;
	if (ioctl(fd, KCOV_INIT_TRACE, COVER_SIZE) < 0)
		die("kcov");
	cover = mmap(NULL, COVER_SIZE * sizeof(*cover), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (cover == MAP_FAILED || ioctl(fd, KCOV_ENABLE, KCOV_TRACE_PC) < 0)
		die("kcov");
}

int main(int argc, char **argv)
{
	uint64_t seed = 0, first = 0, count = 0, done = 0;
	unsigned int wrong = 0, known;
	static char line[2 * MAX_GENOME + 3];
	bool fresh, print = false;

	if (argc < 2)
		return 2;
	for (int i = 2; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : "";

		if (!strcmp(argv[i], "--chaos"))
			chaos = true;
		else if (!strcmp(argv[i], "--bridge"))
			bridge = true;
		else if (!strcmp(argv[i], "--pieces"))
			pieces = true;
		else if (!strcmp(argv[i], "--wire"))
			wire = true;
		else if (!strcmp(argv[i], "--tunnels"))
			tunnels = true;
		else if (!strcmp(argv[i], "--tracked"))
			tracked = true;
		else if (!strcmp(argv[i], "--no-device"))
			no_device = true;
		else if (!strcmp(argv[i], "--dump"))
			dump = true;
		else if (!strcmp(argv[i], "--dry"))
			dry = true;
		else if (!strcmp(argv[i], "--print"))
			print = true;
		else if (!strcmp(argv[i], "--seed"))
			seed = strtoull(value, NULL, 0), i++;
		else if (!strcmp(argv[i], "--first"))
			first = strtoull(value, NULL, 0), i++;
		else if (!strcmp(argv[i], "--count"))
			count = strtoull(value, NULL, 0), i++;
		else
			return 2;
	}
	while (genomes < MAX_GENOMES && fgets(line, sizeof(line), stdin)) {
		if (!read_genome(line, &corpus[genomes])) {
			fprintf(stderr, "genome %u is damaged\n", genomes + 1);
			return 2;
		}
		genomes++;
	}
	if (print) {
		struct genome g;

		for (; done < count; done++) {
			mutate(&g, seed, first + done);
			print_genome("case", &g);
			putchar('\n');
		}
		return 0;
	}
	number = atoi(argv[1] + strcspn(argv[1], "0123456789"));
	(wire ? open_card : open_tap)(argv[1]);
	open_coverage();

	for (known = 0; known < genomes && wrong < MAX_WRONG; known++) {
		wrong += !run(&corpus[known], &fresh);
		if (fresh || !cover) {
			print_genome("old", &corpus[known]);
			putchar('\n');
		}
	}
	for (; done < count && wrong < MAX_WRONG; done++) {
		struct genome g;

		mutate(&g, seed, first + done);
		wrong += !run(&g, &fresh);
		if (fresh && cover) {
			print_genome("new", &g);
			putchar('\n');
		}
	}
	printf("done %llu %lu %lu %u %u\n", (unsigned long long)done, frames_sent, replies_seen, place_count,
	       edge_count);
	return wrong ? 1 : 0;
}
