/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What xt_TARPIT, the target, and tarpit, the device, have in common: which
 * answer a segment gets, and how it is written.
 *
 * Nothing is remembered about a connection. All that a later segment needs
 * is in the segment itself, because our initial sequence number is made from
 * the client's, by a permutation that a keyed hash of the addresses and ports
 * selects:
 *
 *	our ISN = P(client ISN)
 *
 * A client that acknowledges our SYN sends ack = our ISN + 1, from which its
 * own ISN follows. So the answer to a window probe or keepalive, which carry
 * a sequence number below SND.UNA, can acknowledge SND.UNA exactly, and the
 * client takes it as a sign of life.
 *
 * Two hosts that both answer like this must not keep each other busy. The
 * kinds of segment that are answered form a graph without a cycle: a SYN gets
 * a SYN+ACK, a SYN+ACK gets a RST, data gets an ACK without data, an ACK
 * without data gets one with window 0 at most, and that one and RSTs get
 * nothing (see tarpit_classify).
 */
#ifndef _TARPIT_CORE_H
#define _TARPIT_CORE_H

#include <linux/etherdevice.h>
#include <linux/inetdevice.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/netfilter_ipv4.h>
#include <linux/netfilter_ipv6.h>
#include <linux/random.h>
#include <linux/siphash.h>
#include <linux/skbuff.h>
#include <linux/tcp.h>
#include <net/addrconf.h>
#include <net/ip.h>
#include <net/ip6_checksum.h>
#include <net/ipv6.h>
#include <net/tcp.h>

#include "xt_TARPIT.h"
#include "compat/compat.h"

#ifndef TARPIT_VERSION
#define TARPIT_VERSION "1.0"
#endif

/* Enough for a client to take the connection for real, no more. */
#define TARPIT_WINDOW_OPEN	5
/* What a Linux host with an ordinary Ethernet MTU offers: 44 * 1460. For
 * --stall it is also how much is taken.
 */
#define TARPIT_WINDOW_HOST	64240
#define TARPIT_MSS4	(ETH_DATA_LEN - sizeof(struct iphdr) - \
			 sizeof(struct tcphdr))
#define TARPIT_MSS6	(ETH_DATA_LEN - sizeof(struct ipv6hdr) - \
			 sizeof(struct tcphdr))
/* How far beyond its ISN a client that we hold can possibly be. */
#define TARPIT_MAX_SENT		65536
/* Milliseconds. Keepalives come more rarely, answers to what we say do not. */
#define TARPIT_KEEPALIVE_MIN	500

/* What comes of a segment: a kind of answer, or the reason of silence */
enum tarpit_reply {
	TARPIT_ACCEPT,	/* SYN+ACK */
	TARPIT_HOLD,	/* ACK of nothing, window 0; --stall: of what fits */
	TARPIT_CONSUME,	/* ACK of everything, window open */
	TARPIT_RESET,	/* RST, or RST+ACK where there is no ack to answer */

	TARPIT_SILENCE,	/* such a segment wants no answer */
	TARPIT_MALFORMED,
	TARPIT_CHECKSUM,
	TARPIT_ADDRESS,	/* not from one host to another */
	TARPIT_NO_KEY,
	TARPIT_NO_ROUTE,
	TARPIT_NO_MEMORY,
	TARPIT_REPLIES
};

/* Their names where they are counted */
#define TARPIT_REPLY_NAMES \
	"synack", "hold", "ack", "rst", "ignored", "malformed", "checksum", \
	"address", "no_key", "no_route", "no_memory"

static bool tarpit_is_answer(enum tarpit_reply reply)
{
	return reply < TARPIT_SILENCE;
}

/* A reply: its header, and the options that it may have */
struct tarpit_segment {
	struct tcphdr th;
	__be32 options[4];
};

/* Options of a segment, as far as we care */
struct tarpit_options {
	bool mss;
	bool sack;
	bool stamps;
	__be32 value;	/* the sender's clock */
	u32 echo;	/* the last that it had of ours */
	u32 now;	/* ours */
};

#ifdef TARPIT_DEVICE
/* The target has the key, the device borrows it. */
extern siphash_key_t tarpit_key;
extern atomic_t tarpit_has_key;
bool tarpit_draw_key(void);
#endif

#ifndef TARPIT_FOR_DEVICE
TARPIT_SHARED siphash_key_t tarpit_key __read_mostly;
TARPIT_SHARED atomic_t tarpit_has_key __read_mostly = ATOMIC_INIT(0);

/* Part of the kernel's image, we may be asked before there is any randomness.
 * A client asks again.
 */
TARPIT_SHARED noinline bool tarpit_draw_key(void)
{
	static DEFINE_SPINLOCK(lock);

	if (!rng_is_initialized())
		return false;

	spin_lock_bh(&lock);
	if (!atomic_read(&tarpit_has_key)) {
		get_random_bytes(&tarpit_key, sizeof(tarpit_key));
		smp_wmb();	/* the key before the word of it */
		atomic_set(&tarpit_has_key, 1);
	}
	spin_unlock_bh(&lock);
	return true;
}
#endif

static __always_inline bool tarpit_is_keyed(void)
{
	if (!atomic_read(&tarpit_has_key) && !tarpit_draw_key())
		return false;
	smp_rmb();	/* the other half of tarpit_draw_key()'s */
	return true;
}

/* Not a sum: whoever connects from the same port again would see the same
 * difference between his number and ours again.
 */
static u32 tarpit_isn(u32 client_isn, u64 hash)
{
	u32 isn = (client_isn + (u32)hash) * 0x9e3779b1U;

	isn = (isn ^ isn >> 16) * 0x85ebca6bU;
	return isn + (u32)(hash >> 32);
}

static u32 tarpit_client_isn(u32 isn, u64 hash)
{
	u32 client_isn = (isn - (u32)(hash >> 32)) * 0xa5cb9243U;

	client_isn = (client_isn ^ client_isn >> 16) * 0x0e8b2f51U;
	return client_isn - (u32)hash;
}

static __always_inline enum tarpit_reply
tarpit_classify(u8 variant, const struct tcphdr *th, unsigned int payload)
{
	switch (tcp_flag_byte(th) &
		(TCPHDR_SYN | TCPHDR_FIN | TCPHDR_RST | TCPHDR_ACK)) {
	case TCPHDR_SYN:
		if (variant == XT_TARPIT_RESET)
			return TARPIT_RESET;
		return TARPIT_ACCEPT;
	case TCPHDR_SYN | TCPHDR_ACK:
		return TARPIT_RESET;
	case TCPHDR_ACK:
		if (variant == XT_TARPIT_RESET)
			return TARPIT_RESET;
		if (variant == XT_TARPIT_HONEYPOT)
			return payload ? TARPIT_CONSUME : TARPIT_SILENCE;
		return payload || th->window ? TARPIT_HOLD : TARPIT_SILENCE;
	case TCPHDR_FIN | TCPHDR_ACK:
		if (variant == XT_TARPIT_RESET)
			return TARPIT_RESET;
		if (variant == XT_TARPIT_HONEYPOT)
			return TARPIT_CONSUME;
		return TARPIT_HOLD;
	case TCPHDR_FIN:
		if (variant == XT_TARPIT_RESET)
			return TARPIT_RESET;
		return TARPIT_SILENCE;
	default:
		return TARPIT_SILENCE;
	}
}

/* Options that are short of the length they claim end the list. */
static noinline void
tarpit_parse(struct tarpit_options *opts, const struct sk_buff *skb,
	     unsigned int thoff)
{
	const struct tcphdr *th;
	const u8 *option, *end;
	__be32 buf[15];

	memset(opts, 0, sizeof(*opts));
	th = skb_header_pointer(skb, thoff, sizeof(*th), buf);
	if (!th)
		return;
	option = skb_header_pointer(skb, thoff, th->doff * 4, buf);
	if (!option)
		return;

	end = option + th->doff * 4;
	for (option += sizeof(*th); option < end && *option != TCPOPT_EOL;) {
		if (*option == TCPOPT_NOP) {
			option++;
			continue;
		}
		if (end - option < 2 || option[1] < 2 ||
		    option[1] > end - option)
			break;
		if (option[0] == TCPOPT_MSS && option[1] == TCPOLEN_MSS)
			opts->mss = true;
		if (option[0] == TCPOPT_SACK_PERM &&
		    option[1] == TCPOLEN_SACK_PERM)
			opts->sack = true;
		if (option[0] == TCPOPT_TIMESTAMP &&
		    option[1] == TCPOLEN_TIMESTAMP) {
			__be32 echo;

			opts->stamps = true;
			memcpy(&opts->value, option + 2, sizeof(opts->value));
			memcpy(&echo, option + 6, sizeof(echo));
			opts->echo = ntohl(echo);
		}
		option += option[1];
	}
}

/* Milliseconds since a moment that is any, for each pair of hosts; even */
static u32 tarpit_clock(u64 hash)
{
	return (jiffies_to_msecs(jiffies) + (u32)hash) & ~1U;
}

/* Our own timestamp tells the client's next segment, which echoes it, whether
 * we have acknowledged an even number of bytes or an odd one. It never goes
 * back, and time passes in it as it does elsewhere.
 */
static void tarpit_stamp(struct tarpit_segment *reply,
			 const struct tarpit_options *opts, __be32 lead,
			 u32 value)
{
	__be32 *word = &reply->options[reply->th.doff - sizeof(reply->th) / 4];

	word[0] = lead | htonl(TCPOPT_TIMESTAMP << 8 | TCPOLEN_TIMESTAMP);
	word[1] = htonl(value);
	word[2] = opts->value;
	reply->th.doff += 3;
}

/* The edge of --stall's window never moves, as that of a server whose program
 * never reads. So a client that has filled it probes with the number before
 * the edge, and one that has sent nothing keeps alive with the number before
 * its first byte. Any other number without data is either that of an ACK,
 * which asks for no answer, or of a keepalive in between: to acknowledge what
 * would be right for that one could begin an endless exchange of ACKs. They
 * differ by one, so timestamps tell them apart; and should a client that has
 * not heard all that we said be mistaken, there is no exchange that is faster
 * than keepalives are. A FIN waits behind a shut window, where its sender may
 * wait for ever. If he knows all our numbers already, as he has been told that
 * his data arrived, one of them must grow, or Linux as of 6.1 does not believe
 * that the window shrank (tcp_may_update_window()).
 */
static bool tarpit_stall(struct tarpit_segment *reply, const struct tcphdr *oth,
			 unsigned int payload, u32 isn,
			 const struct tarpit_options *opts)
{
	u32 begin = ntohl(oth->seq) - isn;	/* 1 is the first byte */
	u32 taken, value;

	if (payload || oth->fin)
		taken = min_t(u32, max_t(u32, begin + payload, 1) - 1,
			      TARPIT_WINDOW_HOST);
	else if (begin == 0 || begin == TARPIT_WINDOW_HOST)
		taken = begin;
	else if (opts->stamps && begin < TARPIT_WINDOW_HOST &&
		 !((opts->echo ^ begin) & 1) &&
		 (s32)(opts->now + begin - opts->echo) >= TARPIT_KEEPALIVE_MIN)
		taken = begin;
	else
		return false;

	reply->th.ack_seq = htonl(isn + 1 + taken);
	if (!oth->fin)
		reply->th.window = htons(TARPIT_WINDOW_HOST - taken);
	else if (!payload && taken)
		reply->th.seq = htonl(ntohl(oth->ack_seq) + 1);
	if (opts->stamps) {
		value = opts->now + taken;
		if ((s32)(opts->echo - value) > 0)
			value = opts->echo + ((opts->echo ^ taken) & 1);
		tarpit_stamp(reply, opts,
			     htonl(TCPOPT_NOP << 24 | TCPOPT_NOP << 16), value);
	}
	return true;
}

/* Give a SYN+ACK those of the SYN's options that need no memory, so that it
 * cannot be longer than the SYN. A window scale would have to be known of when
 * the next segment comes.
 */
static void tarpit_offer(struct tarpit_segment *reply, u8 variant,
			 const struct tarpit_options *opts, u16 mss)
{
	__be32 lead = htonl(TCPOPT_NOP << 24 | TCPOPT_NOP << 16);

	if (opts->mss) {
		reply->options[0] = htonl(TCPOPT_MSS << 24 |
					  TCPOLEN_MSS << 16 | mss);
		reply->th.doff++;
	}
	if (variant != XT_TARPIT_STALL)
		return;

	if (opts->stamps) {
		if (opts->sack)
			lead = htonl(TCPOPT_SACK_PERM << 24 |
				     TCPOLEN_SACK_PERM << 16);
		tarpit_stamp(reply, opts, lead, opts->now);
	} else if (opts->sack) {
		reply->options[reply->th.doff - sizeof(reply->th) / 4] =
			lead | htonl(TCPOPT_SACK_PERM << 8 | TCPOLEN_SACK_PERM);
		reply->th.doff++;
	}
}

static u64 tarpit_hash4(const struct iphdr *iph, const struct tcphdr *th)
{
	return siphash_3u32((__force u32)iph->saddr, (__force u32)iph->daddr,
			    (__force u32)th->source << 16 |
			    (__force u32)th->dest, &tarpit_key);
}

#ifdef TARPIT_IPV6
static u64 tarpit_hash6(const struct ipv6hdr *ip6h, const struct tcphdr *th)
{
	const struct {
		struct in6_addr saddr;
		struct in6_addr daddr;
		__be16 source;
		__be16 dest;
	} __aligned(SIPHASH_ALIGNMENT) tuple = {
		.saddr = ip6h->saddr,
		.daddr = ip6h->daddr,
		.source = th->source,
		.dest = th->dest,
	};

	return siphash(&tuple, offsetofend(typeof(tuple), dest), &tarpit_key);
}
#endif

/* Our clock for the two hosts of a packet, whatever their ports */
static u32 tarpit_now(const struct sk_buff *skb)
{
	static const struct tcphdr nowhere;

#ifdef TARPIT_IPV6
	if (ip_hdr(skb)->version == 6)
		return tarpit_clock(tarpit_hash6(ipv6_hdr(skb), &nowhere));
#endif
	return tarpit_clock(tarpit_hash4(ip_hdr(skb), &nowhere));
}

/* Finish a reply that depends on the options of the segment, or has some.
 * Its length, or 0 if there is no reply after all.
 */
static noinline unsigned int
tarpit_refine(struct tarpit_segment *segment, enum tarpit_reply reply,
	      u8 variant, const struct sk_buff *skb, unsigned int thoff,
	      unsigned int payload, u32 isn, u16 mss)
{
	const struct tcphdr *oth = (struct tcphdr *)(skb->data + thoff);
	struct tarpit_options opts;

	tarpit_parse(&opts, skb, thoff);
	if (opts.stamps)
		opts.now = tarpit_now(skb);
	if (reply == TARPIT_ACCEPT)
		tarpit_offer(segment, variant, &opts, mss);
	else if (!tarpit_stall(segment, oth, payload, isn, &opts))
		return 0;
	return segment->th.doff * 4;
}

/**
 * tarpit_build - fill in the TCP header of a reply, and its options
 * @segment: the reply to fill in; its checksum is left at 0
 * @reply: kind of reply, not TARPIT_SILENCE
 * @variant: mode of the rule
 * @skb: the segment that is answered
 * @thoff: where its TCP header is, which is linear
 * @payload: number of bytes of data in it
 * @hash: keyed hash of the addresses and ports
 * @mss: the largest segment that we pretend to take
 *
 * Return: the length of the reply; 0 if there is none after all.
 */
static __always_inline unsigned int
tarpit_build(struct tarpit_segment *segment, enum tarpit_reply reply,
	     u8 variant, const struct sk_buff *skb, unsigned int thoff,
	     unsigned int payload, u64 hash, u16 mss)
{
	const struct tcphdr *oth = (struct tcphdr *)(skb->data + thoff);
	const bool is_plain = variant == XT_TARPIT_TARPIT;
	__be32 seq = oth->ack_seq, ack_seq = 0, flags = TCP_FLAG_ACK;
	struct tcphdr *tcph = &segment->th;
	u32 oseq = ntohl(oth->seq), isn = 0;
	bool is_ours = false;
	u16 window = 0;

	switch (reply) {
	case TARPIT_ACCEPT:
		flags |= TCP_FLAG_SYN;
		seq = htonl(tarpit_isn(oseq, hash));
		ack_seq = htonl(oseq + 1);
		window = is_plain ? TARPIT_WINDOW_OPEN : TARPIT_WINDOW_HOST;
		break;
	case TARPIT_HOLD:
		/* Of a connection that we did not accept, acknowledge what
		 * the sender presumably had acknowledged before.
		 */
		isn = tarpit_client_isn(ntohl(oth->ack_seq) - 1, hash);
		is_ours = oseq - isn <= TARPIT_MAX_SENT;
		ack_seq = is_ours ? htonl(isn + 1) : oth->seq;
		break;
	case TARPIT_CONSUME:
		ack_seq = htonl(oseq + payload + oth->fin);
		window = TARPIT_WINDOW_HOST;
		break;
	default:
		/* RFC 9293, 3.5.2: reset generation, group 1 */
		flags = TCP_FLAG_RST;
		if (oth->ack)
			break;
		flags |= TCP_FLAG_ACK;
		seq = 0;
		ack_seq = htonl(oseq + payload + oth->syn + oth->fin);
		break;
	}

	tcph->source = oth->dest;
	tcph->dest = oth->source;
	tcph->seq = seq;
	tcph->ack_seq = ack_seq;
	tcp_flag_word(tcph) = flags | htonl(sizeof(*tcph) << 26 | window);
	tcph->check = 0;
	tcph->urg_ptr = 0;
	if (!is_plain && (reply == TARPIT_ACCEPT ||
			  (variant == XT_TARPIT_STALL && is_ours)))
		return tarpit_refine(segment, reply, variant, skb, thoff,
				     payload, isn, mss);
	return sizeof(*tcph);
}

/* Sum of a reply; the last word of the header is 0 until then. */
static __always_inline __wsum tarpit_sum(const struct tarpit_segment *reply,
					 unsigned int len)
{
	const __wsum *word = (const __wsum *)reply;
	__wsum sum = csum_add(csum_add(word[0], word[1]),
			      csum_add(word[2], word[3]));

	if (unlikely(len > sizeof(reply->th)))
		sum = csum_partial(reply->options, len - sizeof(reply->th),
				   sum);
	return sum;
}

/* Of data from an offset on. skb_checksum() does not know of the one piece
 * that there nearly always is.
 */
static __wsum tarpit_skb_sum(const struct sk_buff *skb, unsigned int offset)
{
	unsigned int len = skb->len - offset;

	if (skb_is_nonlinear(skb))
		return skb_checksum(skb, offset, len, 0);
	return csum_partial(skb->data + offset, len, 0);
}

static __always_inline void
tarpit_put_tcp(struct sk_buff *nskb, struct tcphdr *tcph,
	       const struct tarpit_segment *reply, unsigned int len)
{
	skb_set_transport_header(nskb, (u8 *)tcph - nskb->data);
	memcpy(tcph, &reply->th, sizeof(*tcph));
	if (unlikely(len > sizeof(*tcph)))
		memcpy(tcph + 1, reply->options, len - sizeof(*tcph));
}

/* Length of what follows the TCP header, or -1 if the segment is cut short or
 * its header makes no sense. Headers may move, and this one is linear then.
 */
static __always_inline int tarpit_payload(struct sk_buff *skb,
					  unsigned int thoff)
{
	unsigned int hlen;

	if (unlikely(!pskb_may_pull(skb, thoff + sizeof(struct tcphdr))))
		return -1;

	hlen = ((struct tcphdr *)(skb->data + thoff))->doff * 4;
	if (unlikely(hlen < sizeof(struct tcphdr)))
		return -1;
	return max_t(int, skb->len - thoff - hlen, -1);
}

#ifndef TARPIT_COMPAT_RECYCLE
/* What is short, rep stos takes longer to begin with than to do. */
static __always_inline void tarpit_zero(void *data, unsigned int len)
{
	for (; len > 32; data += 32, len -= 32)
		memset(data, 0, 32);
	memset(data, 0, len);
}
#endif

#ifndef TARPIT_COMPAT_CLEAR
/* All that the kernel notes about a packet, now and in times to come, is in
 * this group. The processor belongs to the memory.
 */
static __always_inline void tarpit_clear(struct sk_buff *skb)
{
	const int cpu = skb->alloc_cpu;

	tarpit_zero(&skb->headers, sizeof(skb->headers));
	skb->alloc_cpu = cpu;
}
#endif

#ifndef TARPIT_COMPAT_RECYCLE
/* May the reply be written over the segment that it answers? Only if nobody
 * else can see the data, and if the lower layers would not have to move it.
 */
static __always_inline bool
tarpit_can_recycle(const struct sk_buff *skb, unsigned int headroom,
		   unsigned int len)
{
	return !skb_shared(skb) && !skb_cloned(skb) && !skb_is_gso(skb) &&
	       !skb_has_frag_list(skb) && skb_headlen(skb) >= len &&
	       skb_headroom(skb) >= headroom;
}

/* As if it had just been allocated */
static __always_inline void tarpit_renew(struct sk_buff *skb)
{
	skb_orphan(skb);
	skb_dst_drop(skb);
	skb_ext_reset(skb);
	tarpit_clear(skb);
	skb->mac_header = (typeof(skb->mac_header))~0U;
	skb_reset_network_header(skb);
	skb->dev = NULL;
	skb->tstamp = ns_to_ktime(0);
	tarpit_zero(skb->cb, sizeof(skb->cb));
}
#endif

static struct sk_buff *tarpit_alloc(unsigned int headroom, unsigned int len)
{
	struct sk_buff *nskb = alloc_skb(headroom + len, GFP_ATOMIC);

	if (nskb) {
		skb_reserve(nskb, headroom);
		skb_put(nskb, len);
		skb_reset_network_header(nskb);
	}
	return nskb;
}

static bool tarpit_is_unicast4(__be32 addr)
{
	return !ipv4_is_multicast(addr) && !ipv4_is_lbcast(addr) &&
	       !ipv4_is_zeronet(addr);
}

/* nf_ip_checksum() would sum up the headers as well, once or twice. */
static __always_inline bool
tarpit_csum4_ok(struct sk_buff *skb, unsigned int hook,
		const struct iphdr *iph, unsigned int thoff)
{
	if (skb->ip_summed != CHECKSUM_NONE)
		return !nf_ip_checksum(skb, hook, thoff, IPPROTO_TCP);

	return !tcp_v4_check(skb->len - thoff, iph->saddr, iph->daddr,
			     tarpit_skb_sum(skb, thoff));
}

/**
 * tarpit_answer4 - what an IPv4 packet gets for an answer
 * @reply: where to put it, its TCP header with options
 * @len: its length
 * @variant: mode
 * @skb: the packet, its data from the network header on; headers may move
 * @iph: that header
 * @hook: where the target met it
 *
 * Return: its kind, or why there is none.
 */
static __always_inline enum tarpit_reply
tarpit_answer4(struct tarpit_segment *reply, unsigned int *len, u8 variant,
	       struct sk_buff *skb, const struct iphdr *iph, unsigned int hook)
{
	const unsigned int thoff = iph->ihl * 4;
	const struct tcphdr *th;
	enum tarpit_reply kind;
	int payload;

	if (unlikely(iph->protocol != IPPROTO_TCP || ip_is_fragment(iph)))
		return TARPIT_MALFORMED;
	if (unlikely(!tarpit_is_unicast4(iph->saddr) ||
		     !tarpit_is_unicast4(iph->daddr)))
		return TARPIT_ADDRESS;

	payload = tarpit_payload(skb, thoff);
	if (unlikely(payload < 0))
		return TARPIT_MALFORMED;

	th = (struct tcphdr *)(skb->data + thoff);
	kind = tarpit_classify(variant, th, payload);
	if (unlikely(!tarpit_is_answer(kind)))
		return kind;
	if (unlikely(!tarpit_is_keyed()))
		return TARPIT_NO_KEY;
	iph = ip_hdr(skb);
	if (unlikely(!tarpit_csum4_ok(skb, hook, iph, thoff)))
		return TARPIT_CHECKSUM;

	*len = tarpit_build(reply, kind, variant, skb, thoff, payload,
			    tarpit_hash4(iph, th), TARPIT_MSS4);
	if (unlikely(!*len))
		return TARPIT_SILENCE;
	reply->th.check = tcp_v4_check(*len, iph->daddr, iph->saddr,
				       tarpit_sum(reply, *len));
	return kind;
}

static __always_inline void
tarpit_put4(struct sk_buff *nskb, __be32 saddr, __be32 daddr, int ttl,
	    const struct tarpit_segment *reply, unsigned int len)
{
	struct iphdr *iph = ip_hdr(nskb);

	iph->version = 4;
	iph->ihl = sizeof(*iph) / 4;
	iph->tos = 0;
	iph->tot_len = htons(sizeof(*iph) + len);
	iph->id = 0;
	iph->frag_off = htons(IP_DF);
	iph->ttl = ttl;
	iph->protocol = IPPROTO_TCP;
	iph->saddr = saddr;
	iph->daddr = daddr;
	nskb->protocol = htons(ETH_P_IP);

	tarpit_put_tcp(nskb, (struct tcphdr *)(iph + 1), reply, len);
}

/* Is one of two addresses everybody's on a link? The routing table would know,
 * but not everybody who answers has a route.
 */
static inline bool tarpit_is_broadcast(const struct net_device *dev, __be32 one,
				       __be32 other)
{
	const struct in_device *in_dev = __in_dev_get_rcu(dev);
	const struct in_ifaddr *ifa;
	__be32 everybody;

	if (!in_dev)
		return false;

	in_dev_for_each_ifa_rcu(ifa, in_dev) {
		everybody = ifa->ifa_address | ~ifa->ifa_mask;
		if ((everybody == one || everybody == other) &&
		    ifa->ifa_prefixlen < 31)
			return true;
	}
	return false;
}

#ifdef TARPIT_IPV6
static __always_inline bool tarpit_is_unicast6(const struct in6_addr *addr)
{
	const __be32 *word = addr->s6_addr32;

	/* Addresses of IPv4, ::ffff:0:0/96, are not seen on the wire. */
	return !ipv6_addr_is_multicast(addr) && !ipv6_addr_any(addr) &&
	       (word[0] || word[1] || word[2] != htonl(0xffff));
}

static __always_inline bool
tarpit_csum6_ok(struct sk_buff *skb, unsigned int hook,
		const struct ipv6hdr *ip6h, unsigned int thoff)
{
	if (skb->ip_summed != CHECKSUM_NONE)
		return !nf_ip6_checksum(skb, hook, thoff, IPPROTO_TCP);

	return !tcp_v6_check(skb->len - thoff, &ip6h->saddr, &ip6h->daddr,
			     tarpit_skb_sum(skb, thoff));
}

/* The same for IPv6 */
static __always_inline enum tarpit_reply
tarpit_answer6(struct tarpit_segment *reply, unsigned int *len, u8 variant,
	       struct sk_buff *skb, const struct ipv6hdr *ip6h,
	       unsigned int hook)
{
	const struct tcphdr *th;
	enum tarpit_reply kind;
	int payload;
	__be16 frag_off;
	u8 nexthdr;
	int thoff;

	if (unlikely(!tarpit_is_unicast6(&ip6h->saddr) ||
		     !tarpit_is_unicast6(&ip6h->daddr)))
		return TARPIT_ADDRESS;

	thoff = sizeof(*ip6h);
	nexthdr = ip6h->nexthdr;
	if (nexthdr != IPPROTO_TCP) {
		thoff = ipv6_skip_exthdr(skb, thoff, &nexthdr, &frag_off);
		if (thoff < 0 || nexthdr != IPPROTO_TCP || frag_off)
			return TARPIT_MALFORMED;
	}

	payload = tarpit_payload(skb, thoff);
	if (unlikely(payload < 0))
		return TARPIT_MALFORMED;

	th = (struct tcphdr *)(skb->data + thoff);
	kind = tarpit_classify(variant, th, payload);
	if (unlikely(!tarpit_is_answer(kind)))
		return kind;
	if (unlikely(!tarpit_is_keyed()))
		return TARPIT_NO_KEY;
	ip6h = ipv6_hdr(skb);
	if (unlikely(!tarpit_csum6_ok(skb, hook, ip6h, thoff)))
		return TARPIT_CHECKSUM;

	*len = tarpit_build(reply, kind, variant, skb, thoff, payload,
			    tarpit_hash6(ip6h, th), TARPIT_MSS6);
	if (unlikely(!*len))
		return TARPIT_SILENCE;
	reply->th.check = tcp_v6_check(*len, &ip6h->daddr, &ip6h->saddr,
				       tarpit_sum(reply, *len));
	return kind;
}

static __always_inline void
tarpit_put6(struct sk_buff *nskb, const struct in6_addr *saddr,
	    const struct in6_addr *daddr, int hoplimit,
	    const struct tarpit_segment *reply, unsigned int len)
{
	struct ipv6hdr *ip6h = ipv6_hdr(nskb);

	ip6_flow_hdr(ip6h, 0, 0);
	ip6h->payload_len = htons(len);
	ip6h->nexthdr = IPPROTO_TCP;
	ip6h->hop_limit = hoplimit;
	ip6h->saddr = *saddr;
	ip6h->daddr = *daddr;
	nskb->protocol = htons(ETH_P_IPV6);

	tarpit_put_tcp(nskb, (struct tcphdr *)(ip6h + 1), reply, len);
}
#endif

#endif /* _TARPIT_CORE_H */
