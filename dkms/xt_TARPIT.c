// SPDX-License-Identifier: GPL-2.0-only
/*
 * xt_TARPIT: answer TCP connections from within the firewall, and hold them.
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
 * Two hosts that both use this target must not keep each other busy. The
 * kinds of segment that are answered form a graph without a cycle: a SYN gets
 * a SYN+ACK, a SYN+ACK gets a RST, data gets an ACK without data, an ACK
 * without data gets one with window 0 at most, and that one and RSTs get
 * nothing (see tarpit_classify).
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt
#include <linux/etherdevice.h>
#include <linux/if_bridge.h>
#include <linux/if_vlan.h>
#include <linux/inetdevice.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/module.h>
#include <linux/netdevice.h>
#include <linux/netfilter_bridge.h>
#include <linux/netfilter_ipv4.h>
#include <linux/netfilter_ipv6.h>
#include <linux/netfilter/x_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <linux/random.h>
#include <linux/ratelimit.h>
#include <linux/security.h>
#include <linux/siphash.h>
#include <linux/skbuff.h>
#include <linux/tcp.h>
#include <net/dst.h>
#include <net/ip.h>
#include <net/ip6_checksum.h>
#include <net/ip6_route.h>
#include <net/ipv6.h>
#include <net/l3mdev.h>
#include <net/route.h>
#include <net/tcp.h>
#include <net/xfrm.h>

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

enum tarpit_reply {
	TARPIT_SILENCE,
	TARPIT_ACCEPT,	/* SYN+ACK */
	TARPIT_HOLD,	/* ACK of nothing, window 0; --stall: of what fits */
	TARPIT_CONSUME,	/* ACK of everything, window open */
	TARPIT_RESET,	/* RST, or RST+ACK where there is no ack to answer */
};

/* A reply: its header, and as many words of options as that has room for */
struct tarpit_segment {
	struct tcphdr th;
	__be32 options[2];
};

static siphash_key_t tarpit_key __read_mostly;
static atomic_t tarpit_has_key __read_mostly = ATOMIC_INIT(0);

/* Part of the kernel's image, we may be asked before there is any randomness.
 * A client asks again.
 */
static noinline bool tarpit_draw_key(void)
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

static bool tarpit_is_keyed(void)
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

/* The edge of --stall's window never moves, as that of a server whose program
 * never reads. So a client that has filled it probes with the number before
 * the edge, and one that has sent nothing keeps alive with the number before
 * its first byte. Any other number without data is either that of an ACK,
 * which asks for no answer, or of a keepalive in between: to acknowledge what
 * would be right for that one could begin an endless exchange of ACKs. A FIN
 * waits behind a shut window, where its sender may wait for ever.
 */
static bool tarpit_stall(struct tcphdr *tcph, const struct tcphdr *oth,
			 unsigned int payload, u32 isn)
{
	u32 begin = ntohl(oth->seq) - isn;	/* 1 is the first byte */
	u32 taken;

	if (payload || oth->fin)
		taken = min_t(u32, max_t(u32, begin + payload, 1) - 1,
			      TARPIT_WINDOW_HOST);
	else if (begin == 0 || begin == TARPIT_WINDOW_HOST)
		taken = begin;
	else
		return false;

	tcph->ack_seq = htonl(isn + 1 + taken);
	if (!oth->fin)
		tcph->window = htons(TARPIT_WINDOW_HOST - taken);
	return true;
}

/**
 * tarpit_build - fill in the TCP header of a reply
 * @tcph: the header to fill; its checksum is left at 0
 * @reply: kind of reply, not TARPIT_SILENCE
 * @variant: mode of the rule
 * @oth: header of the segment that is answered
 * @payload: number of bytes of data in that segment
 * @hash: keyed hash of the addresses and ports
 *
 * Return: whether there is a reply after all
 */
static bool tarpit_build(struct tcphdr *tcph, enum tarpit_reply reply,
			 u8 variant, const struct tcphdr *oth,
			 unsigned int payload, u64 hash)
{
	u32 seq = ntohl(oth->seq);
	u32 isn;

	memset(tcph, 0, sizeof(*tcph));
	tcph->source = oth->dest;
	tcph->dest = oth->source;
	tcph->doff = sizeof(*tcph) / 4;

	switch (reply) {
	case TARPIT_ACCEPT:
		tcph->syn = 1;
		tcph->ack = 1;
		tcph->seq = htonl(tarpit_isn(seq, hash));
		tcph->ack_seq = htonl(seq + 1);
		tcph->window = htons(variant == XT_TARPIT_TARPIT ?
				     TARPIT_WINDOW_OPEN : TARPIT_WINDOW_HOST);
		break;
	case TARPIT_HOLD:
		tcph->ack = 1;
		tcph->seq = oth->ack_seq;
		isn = tarpit_client_isn(ntohl(oth->ack_seq) - 1, hash);
		if (seq - isn > TARPIT_MAX_SENT) {
			/* Of a connection that we did not accept, acknowledge
			 * what the sender presumably had acknowledged before.
			 */
			tcph->ack_seq = oth->seq;
			break;
		}
		if (variant == XT_TARPIT_STALL)
			return tarpit_stall(tcph, oth, payload, isn);
		tcph->ack_seq = htonl(isn + 1);
		break;
	case TARPIT_CONSUME:
		tcph->ack = 1;
		tcph->seq = oth->ack_seq;
		tcph->ack_seq = htonl(seq + payload + oth->fin);
		tcph->window = htons(TARPIT_WINDOW_HOST);
		break;
	default:
		/* RFC 9293, 3.5.2: reset generation, group 1 */
		tcph->rst = 1;
		if (oth->ack) {
			tcph->seq = oth->ack_seq;
		} else {
			tcph->ack = 1;
			tcph->ack_seq = htonl(seq + payload + oth->syn +
					      oth->fin);
		}
		break;
	}
	return true;
}

/**
 * tarpit_add_options - give a SYN+ACK the options that need no memory
 * @reply: the SYN+ACK
 * @variant: mode of the rule
 * @skb: the SYN
 * @thoff: where its TCP header is
 * @mss: the largest segment that we pretend to take
 *
 * Only options that the client offered, so that the reply cannot be longer
 * than its SYN. A window scale or timestamps would have to be known of when
 * the next segment comes.
 */
static noinline void
tarpit_add_options(struct tarpit_segment *reply, u8 variant,
		   const struct sk_buff *skb, unsigned int thoff, u16 mss)
{
	const struct tcphdr *th;
	bool offers_mss = false;
	bool offers_sack = false;
	const u8 *option, *end;
	unsigned int count = 0;
	__be32 buf[15];

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
			offers_mss = true;
		if (option[0] == TCPOPT_SACK_PERM &&
		    option[1] == TCPOLEN_SACK_PERM)
			offers_sack = true;
		option += option[1];
	}

	if (offers_mss)
		reply->options[count++] = htonl(TCPOPT_MSS << 24 |
						TCPOLEN_MSS << 16 | mss);
	if (offers_sack && variant == XT_TARPIT_STALL)
		reply->options[count++] = htonl(TCPOPT_NOP << 24 |
						TCPOPT_NOP << 16 |
						TCPOPT_SACK_PERM << 8 |
						TCPOLEN_SACK_PERM);
	reply->th.doff += count;
}

/* Does the SYN+ACK have to look like that of a host? */
static bool tarpit_has_options(enum tarpit_reply reply, u8 variant)
{
	return variant != XT_TARPIT_TARPIT && reply == TARPIT_ACCEPT;
}

static unsigned int tarpit_len(const struct tarpit_segment *reply)
{
	return reply->th.doff * 4;
}

/* Sum of a reply; the last word of the header is 0 until then. */
static __always_inline __wsum tarpit_sum(const struct tarpit_segment *reply)
{
	const __wsum *word = (const __wsum *)reply;
	__wsum sum = csum_add(csum_add(word[0], word[1]),
			      csum_add(word[2], word[3]));

	if (unlikely(tarpit_len(reply) > sizeof(reply->th)))
		sum = csum_partial(reply->options,
				   tarpit_len(reply) - sizeof(reply->th), sum);
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
tarpit_put_tcp(struct sk_buff *nskb, unsigned int offset,
	       const struct tarpit_segment *reply)
{
	skb_set_transport_header(nskb, offset);
	memcpy(tcp_hdr(nskb), &reply->th, sizeof(reply->th));
	if (unlikely(tarpit_len(reply) > sizeof(reply->th)))
		memcpy(tcp_hdr(nskb) + 1, reply->options,
		       tarpit_len(reply) - sizeof(reply->th));
}

/* Find the TCP header and the length of what follows it, or NULL if the
 * segment is cut short or its header makes no sense.
 */
static __always_inline const struct tcphdr *
tarpit_tcphdr(const struct sk_buff *skb, unsigned int thoff,
	      struct tcphdr *buf, unsigned int *payload)
{
	const struct tcphdr *th;
	unsigned int hlen;

	th = skb_header_pointer(skb, thoff, sizeof(*buf), buf);
	if (!th)
		return NULL;

	hlen = th->doff * 4;
	if (hlen < sizeof(*th) || skb->len - thoff < hlen)
		return NULL;

	*payload = skb->len - thoff - hlen;
	return th;
}

#ifndef TARPIT_COMPAT_CONNTRACK
#ifdef TARPIT_CONNTRACK
/* A reply belongs to the connection of the segment it answers. Where that
 * one is not tracked, conntrack must not take the reply for the beginning
 * of something. A buffer that becomes the reply keeps its reference.
 */
static __always_inline void
tarpit_attach_ct(struct sk_buff *nskb, struct sk_buff *oldskb)
{
	enum ip_conntrack_info ctinfo;
	struct nf_conn *ct;

	ct = nf_ct_get(oldskb, &ctinfo);
	if (!ct) {
		nf_ct_set(nskb, NULL, IP_CT_UNTRACKED);
		return;
	}
	if (nskb != oldskb)
		nf_conntrack_get(&ct->ct_general);
	nf_ct_set(nskb, ct, CTINFO2DIR(ctinfo) == IP_CT_DIR_ORIGINAL ?
			    IP_CT_RELATED_REPLY : IP_CT_RELATED);
}
#else
static void tarpit_attach_ct(struct sk_buff *nskb, struct sk_buff *oldskb)
{
}
#endif
#endif

#ifndef TARPIT_COMPAT_CLEAR
/* All that the kernel notes about a packet, now and in times to come, is in
 * this group. The processor belongs to the memory.
 */
static void tarpit_clear(struct sk_buff *skb)
{
	const int cpu = skb->alloc_cpu;

	memset(&skb->headers, 0, sizeof(skb->headers));
	skb->alloc_cpu = cpu;
}
#endif

#ifndef TARPIT_COMPAT_RECYCLE
/* May the reply be written over the segment that it answers? Only if nobody
 * else can see the data, and if the lower layers would not have to move it.
 */
static bool tarpit_can_recycle(const struct sk_buff *skb, unsigned int headroom,
			       unsigned int len)
{
	return !skb_shared(skb) && !skb_cloned(skb) && !skb_is_gso(skb) &&
	       !skb_has_frag_list(skb) && skb_headlen(skb) >= len &&
	       skb_headroom(skb) >= headroom;
}

/* Turn the segment into the reply, if possible. Where it must stay with the
 * caller, a clone will do: the caller only frees it.
 */
static struct sk_buff *tarpit_recycle(struct sk_buff *skb,
				      unsigned int headroom, unsigned int len)
{
	if (!tarpit_can_recycle(skb, headroom, len) || pskb_trim(skb, len))
		return NULL;

	skb = tarpit_steal(skb);
	if (!skb)
		return NULL;

	/* As if it had just been allocated */
	skb_orphan(skb);
	skb_dst_drop(skb);
	skb_ext_reset(skb);
	tarpit_clear(skb);
	skb->mac_header = (typeof(skb->mac_header))~0U;
	skb_reset_network_header(skb);
	skb->dev = NULL;
	skb->tstamp = ns_to_ktime(0);
	memset(skb->cb, 0, sizeof(skb->cb));

	tarpit_attach_ct(skb, skb);
	return skb;
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

/**
 * tarpit_skb - get a buffer for a reply that is routed
 * @oldskb: the segment that is answered
 * @dst: route of the reply; its reference goes to the buffer
 * @mark: mark of the reply
 * @len: length of the reply from the network header on
 *
 * Return: @oldskb itself, which then is no longer the caller's, or another
 * buffer, or NULL (then @dst is released).
 */
static struct sk_buff *tarpit_skb(struct sk_buff *oldskb,
				  struct dst_entry *dst, u32 mark,
				  unsigned int len)
{
	unsigned int headroom = LL_RESERVED_SPACE(dst_dev(dst)) +
				dst->header_len;
	struct sk_buff *nskb;

	nskb = tarpit_recycle(oldskb, headroom, len);
	if (!nskb) {
		nskb = tarpit_alloc(headroom, len);
		if (!nskb) {
			dst_release(dst);
			return NULL;
		}
		tarpit_attach_ct(nskb, oldskb);
	}

	skb_dst_set(nskb, dst);
	nskb->mark = mark;
	return nskb;
}

static bool tarpit_is_unicast4(__be32 addr)
{
	return !ipv4_is_multicast(addr) && !ipv4_is_lbcast(addr) &&
	       !ipv4_is_zeronet(addr);
}

/* nf_ip_checksum() would sum up the headers as well, once or twice. */
static bool tarpit_csum4_ok(struct sk_buff *skb, unsigned int hook)
{
	const struct iphdr *iph = ip_hdr(skb);
	unsigned int thoff = ip_hdrlen(skb);

	if (skb->ip_summed != CHECKSUM_NONE)
		return !nf_ip_checksum(skb, hook, thoff, IPPROTO_TCP);

	return !tcp_v4_check(skb->len - thoff, iph->saddr, iph->daddr,
			     tarpit_skb_sum(skb, thoff));
}

static u64 tarpit_hash4(const struct iphdr *iph, const struct tcphdr *th)
{
	return siphash_3u32((__force u32)iph->saddr, (__force u32)iph->daddr,
			    (__force u32)th->source << 16 |
			    (__force u32)th->dest, &tarpit_key);
}

#ifndef TARPIT_COMPAT_POLICY
/* Without a policy, IPsec is not asked, nor what label it should look for. */
static bool tarpit_has_policy(const struct net *net)
{
#ifdef CONFIG_XFRM
	return net->xfrm.policy_count[XFRM_POLICY_OUT] ||
	       net->xfrm.policy_default[XFRM_POLICY_OUT] ==
	       XFRM_USERPOLICY_BLOCK;
#else
	return false;
#endif
}
#endif

#ifndef TARPIT_COMPAT_ROUTE
static __always_inline struct dst_entry *
tarpit_route4(struct net *net, struct sk_buff *skb, struct net_device *in,
	      const struct tcphdr *tcph, u32 mark)
{
	const struct iphdr *oiph = ip_hdr(skb);
	struct flowi4 fl4 = {
		.flowi4_l3mdev = l3mdev_master_ifindex_rcu(in),
		.flowi4_mark = mark,
		.flowi4_proto = IPPROTO_TCP,
		.flowi4_flags = FLOWI_FLAG_ANYSRC,
		.saddr = oiph->daddr,
		.daddr = oiph->saddr,
		.fl4_sport = tcph->source,
		.fl4_dport = tcph->dest,
	};
	struct rtable *rt;

	if (tarpit_has_policy(net)) {
		security_skb_classify_flow(skb, flowi4_to_flowi_common(&fl4));
		rt = ip_route_output_key(net, &fl4);
	} else {
		rt = __ip_route_output_key(net, &fl4);
	}
	if (IS_ERR(rt))
		return NULL;

	if (rt->rt_flags & (RTCF_BROADCAST | RTCF_MULTICAST)) {
		ip_rt_put(rt);
		return NULL;
	}
	return &rt->dst;
}
#endif

static __always_inline void
tarpit_put4(struct sk_buff *nskb, __be32 saddr, __be32 daddr, int ttl,
	    const struct tarpit_segment *reply)
{
	struct iphdr *iph = ip_hdr(nskb);

	iph->version = 4;
	iph->ihl = sizeof(*iph) / 4;
	iph->tos = 0;
	iph->tot_len = htons(sizeof(*iph) + tarpit_len(reply));
	iph->id = 0;
	iph->frag_off = htons(IP_DF);
	iph->ttl = ttl;
	iph->protocol = IPPROTO_TCP;
	iph->saddr = saddr;
	iph->daddr = daddr;
	nskb->protocol = htons(ETH_P_IP);

	tarpit_put_tcp(nskb, sizeof(*iph), reply);
}

#ifdef TARPIT_BRIDGE
/* Bridge netfilter shows us frames on their way through a bridge. They have
 * no route, and the answer has to look as if the other end had sent it.
 */
static bool tarpit_is_bridged(const struct sk_buff *skb)
{
	const struct dst_entry *dst = skb_dst(skb);

	return nf_bridge_info_exists(skb) &&
	       (!dst || dst->flags & DST_FAKE_RTABLE);
}

#ifndef TARPIT_COMPAT_BRIDGE
#ifdef CONFIG_BRIDGE_VLAN_FILTERING
/* The bridge is mostly a module, which we must not need. It is there when the
 * first bridged segment comes, and stays until we go.
 */
static struct {
	typeof(br_vlan_enabled) *enabled;
	typeof(br_vlan_get_info_rcu) *info;
	typeof(br_vlan_get_proto) *proto;
	typeof(br_vlan_get_pvid_rcu) *pvid;
} tarpit_bridge;
static bool tarpit_has_bridge __read_mostly;

static void tarpit_put_bridge(void)
{
	if (tarpit_bridge.enabled)
		symbol_put(br_vlan_enabled);
	if (tarpit_bridge.info)
		symbol_put(br_vlan_get_info_rcu);
	if (tarpit_bridge.proto)
		symbol_put(br_vlan_get_proto);
	if (tarpit_bridge.pvid)
		symbol_put(br_vlan_get_pvid_rcu);
	memset(&tarpit_bridge, 0, sizeof(tarpit_bridge));
}

static bool tarpit_get_bridge(void)
{
	static DEFINE_SPINLOCK(lock);

	if (smp_load_acquire(&tarpit_has_bridge))
		return true;

	spin_lock_bh(&lock);
	if (!tarpit_has_bridge) {
		tarpit_bridge.enabled = symbol_get(br_vlan_enabled);
		tarpit_bridge.info = symbol_get(br_vlan_get_info_rcu);
		tarpit_bridge.proto = symbol_get(br_vlan_get_proto);
		tarpit_bridge.pvid = symbol_get(br_vlan_get_pvid_rcu);
		if (tarpit_bridge.enabled && tarpit_bridge.info &&
		    tarpit_bridge.proto && tarpit_bridge.pvid)
			smp_store_release(&tarpit_has_bridge, true);
		else
			tarpit_put_bridge();
	}
	spin_unlock_bh(&lock);
	return tarpit_has_bridge;
}

/* Give the reply the tag with which it leaves by the port that the segment
 * came by. A bridge that filters VLANs has made the segment's tag into what
 * the port has that it was to leave by; so would the other end's answer be
 * tagged, and in that VLAN it would go back.
 */
static bool tarpit_bridge_tag(struct sk_buff *nskb,
			      const struct sk_buff *oldskb)
{
	struct net_device *bridge = netdev_master_upper_dev_get_rcu(nskb->dev);
	const struct net_device *out = nf_bridge_get_physoutdev(oldskb);
	struct bridge_vlan_info info;
	u16 vid, proto;

	if (!bridge || !tarpit_get_bridge())
		return false;

	if (!tarpit_bridge.enabled(bridge)) {
		__vlan_hwaccel_copy_tag(nskb, oldskb);
		return true;
	}
	if (tarpit_bridge.proto(bridge, &proto))
		return false;
	if (skb_vlan_tag_present(oldskb))
		vid = skb_vlan_tag_get_id(oldskb);
	else if (!out || tarpit_bridge.pvid(out, &vid))
		return false;
	if (tarpit_bridge.info(nskb->dev, vid, &info))
		return false;

	if (!(info.flags & BRIDGE_VLAN_INFO_UNTAGGED))
		__vlan_hwaccel_put_tag(nskb, htons(proto), vid);
	return true;
}
#else
static void tarpit_put_bridge(void)
{
}

static bool tarpit_bridge_tag(struct sk_buff *nskb,
			      const struct sk_buff *oldskb)
{
	__vlan_hwaccel_copy_tag(nskb, oldskb);
	return true;
}
#endif
#endif

static void tarpit_bridge_xmit(struct net *net, struct sk_buff *nskb,
			       const struct sk_buff *oldskb)
{
	const struct ethhdr *oeth = eth_hdr(oldskb);

	nskb->dev = nf_bridge_get_physindev(oldskb, net);
	if (!nskb->dev)
		goto free_nskb;

	/* A header between Ethernet and IP that was hidden from us could
	 * not be put back.
	 */
	if (nf_bridge_info_get(oldskb)->orig_proto != BRNF_PROTO_UNCHANGED ||
	    !tarpit_bridge_tag(nskb, oldskb))
		goto free_nskb;

	if (dev_hard_header(nskb, nskb->dev, ntohs(nskb->protocol),
			    oeth->h_source, oeth->h_dest, nskb->len) < 0)
		goto free_nskb;
	dev_queue_xmit(nskb);
	return;

free_nskb:
	kfree_skb(nskb);
}

/* The routing table would know, but a bridge need not have one. */
static bool tarpit_is_broadcast(const struct net_device *bridge, __be32 addr)
{
	const struct in_device *in_dev = __in_dev_get_rcu(bridge);
	const struct in_ifaddr *ifa;

	if (!in_dev)
		return false;

	in_dev_for_each_ifa_rcu(ifa, in_dev)
		if (ifa->ifa_prefixlen < 31 &&
		    addr == (ifa->ifa_address | ~ifa->ifa_mask))
			return true;
	return false;
}

static noinline void
tarpit_bridge4(struct net *net, const struct sk_buff *oldskb,
	       const struct net_device *bridge,
	       const struct tarpit_segment *reply)
{
	const struct iphdr *oiph = ip_hdr(oldskb);
	struct sk_buff *nskb;

	if (tarpit_is_broadcast(bridge, oiph->daddr) ||
	    tarpit_is_broadcast(bridge, oiph->saddr))
		return;

	nskb = tarpit_alloc(LL_MAX_HEADER,
			    sizeof(struct iphdr) + tarpit_len(reply));
	if (!nskb)
		return;

	tarpit_put4(nskb, oiph->daddr, oiph->saddr,
		    READ_ONCE(net->ipv4.sysctl_ip_default_ttl), reply);
	ip_send_check(ip_hdr(nskb));
	tarpit_bridge_xmit(net, nskb, oldskb);
}
#else
#ifndef TARPIT_COMPAT_BRIDGE
static void tarpit_put_bridge(void)
{
}
#endif

static bool tarpit_is_bridged(const struct sk_buff *skb)
{
	return false;
}

static void tarpit_bridge4(struct net *net, const struct sk_buff *oldskb,
			   const struct net_device *bridge,
			   const struct tarpit_segment *reply)
{
}
#endif

static unsigned int
tarpit_tg4(struct sk_buff *skb, const struct xt_action_param *par)
{
	const struct xt_tarpit_tginfo *info = par->targinfo;
	const struct iphdr *iph = ip_hdr(skb);
	__be32 saddr = iph->daddr, daddr = iph->saddr;
	struct net *net = xt_net(par);
	const struct rtable *rt;
	const struct tcphdr *th;
	struct tarpit_segment reply;
	enum tarpit_reply kind;
	struct tcphdr _th;
	struct dst_entry *dst;
	struct sk_buff *nskb;
	unsigned int payload;
	unsigned int verdict;
	u32 mark;

	if (skb->pkt_type != PACKET_HOST || iph->protocol != IPPROTO_TCP ||
	    ip_is_fragment(iph) ||
	    !tarpit_is_unicast4(saddr) || !tarpit_is_unicast4(daddr))
		return NF_DROP;

	th = tarpit_tcphdr(skb, ip_hdrlen(skb), &_th, &payload);
	if (!th)
		return NF_DROP;

	kind = tarpit_classify(info->variant, th, payload);
	if (kind == TARPIT_SILENCE || !tarpit_is_keyed() ||
	    !tarpit_csum4_ok(skb, xt_hooknum(par)))
		return NF_DROP;

	if (!tarpit_build(&reply.th, kind, info->variant, th, payload,
			  tarpit_hash4(iph, th)))
		return NF_DROP;
	if (tarpit_has_options(kind, info->variant))
		tarpit_add_options(&reply, info->variant, skb, ip_hdrlen(skb),
				   TARPIT_MSS4);
	reply.th.check = tcp_v4_check(tarpit_len(&reply), saddr, daddr,
				      tarpit_sum(&reply));

	if (kind == TARPIT_RESET)
		nf_ct_set_closing(skb_nfct(skb));

	if (tarpit_is_bridged(skb)) {
		tarpit_bridge4(net, skb, xt_in(par), &reply);
		return NF_DROP;
	}

	rt = skb_rtable(skb);
	if (!rt || (rt->rt_type != RTN_LOCAL && rt->rt_type != RTN_UNICAST))
		return NF_DROP;

	mark = IP4_REPLY_MARK(net, skb->mark);
	dst = tarpit_route4(net, skb, xt_in(par), &reply.th, mark);
	if (!dst)
		return NF_DROP;

	nskb = tarpit_skb(skb, dst, mark, sizeof(*iph) + tarpit_len(&reply));
	if (!nskb)
		return NF_DROP;

	verdict = nskb == skb ? NF_STOLEN : NF_DROP;
	tarpit_put4(nskb, saddr, daddr, ip4_dst_hoplimit(dst), &reply);
	ip_local_out(net, NULL, nskb);
	return verdict;
}

#ifdef TARPIT_IPV6
static bool tarpit_is_unicast6(const struct in6_addr *addr)
{
	const __be32 *word = addr->s6_addr32;

	/* Addresses of IPv4, ::ffff:0:0/96, are not seen on the wire. */
	return !ipv6_addr_is_multicast(addr) && !ipv6_addr_any(addr) &&
	       (word[0] || word[1] || word[2] != htonl(0xffff));
}

static bool tarpit_csum6_ok(struct sk_buff *skb, unsigned int hook,
			    unsigned int thoff)
{
	const struct ipv6hdr *ip6h = ipv6_hdr(skb);

	if (skb->ip_summed != CHECKSUM_NONE)
		return !nf_ip6_checksum(skb, hook, thoff, IPPROTO_TCP);

	return !tcp_v6_check(skb->len - thoff, &ip6h->saddr, &ip6h->daddr,
			     tarpit_skb_sum(skb, thoff));
}

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

#ifndef TARPIT_COMPAT_ROUTE
static bool tarpit_is_linklocal6(const struct in6_addr *addr)
{
	return (addr->s6_addr32[0] & htonl(0xffc00000)) == htonl(0xfe800000);
}

static __always_inline struct dst_entry *
tarpit_route6(struct net *net, struct sk_buff *skb, struct net_device *in,
	      const struct tcphdr *tcph, u32 mark)
{
	const struct ipv6hdr *oip6h = ipv6_hdr(skb);
	struct flowi6 fl6 = {
		.flowi6_l3mdev = l3mdev_master_ifindex_rcu(in),
		.flowi6_mark = mark,
		.flowi6_proto = IPPROTO_TCP,
		.saddr = oip6h->daddr,
		.daddr = oip6h->saddr,
		.fl6_sport = tcph->source,
		.fl6_dport = tcph->dest,
	};
	const bool has_policy = tarpit_has_policy(net);
	struct dst_entry *dst;

	/* Such an address means nothing without its interface, and that is
	 * not the VRF which may have taken its place.
	 */
	if (tarpit_is_linklocal6(&fl6.daddr))
		fl6.flowi6_oif = IP6CB(skb)->iif;

	if (has_policy)
		security_skb_classify_flow(skb, flowi6_to_flowi_common(&fl6));
	dst = ip6_route_output(net, NULL, &fl6);
	if (dst->error) {
		dst_release(dst);
		return NULL;
	}
	if (!has_policy)
		return dst;

	dst = xfrm_lookup(net, dst, flowi6_to_flowi(&fl6), NULL, 0);
	return IS_ERR(dst) ? NULL : dst;
}
#endif

static __always_inline void
tarpit_put6(struct sk_buff *nskb, const struct in6_addr *saddr,
	    const struct in6_addr *daddr, int hoplimit,
	    const struct tarpit_segment *reply)
{
	struct ipv6hdr *ip6h = ipv6_hdr(nskb);

	ip6_flow_hdr(ip6h, 0, 0);
	ip6h->payload_len = htons(tarpit_len(reply));
	ip6h->nexthdr = IPPROTO_TCP;
	ip6h->hop_limit = hoplimit;
	ip6h->saddr = *saddr;
	ip6h->daddr = *daddr;
	nskb->protocol = htons(ETH_P_IPV6);

	tarpit_put_tcp(nskb, sizeof(*ip6h), reply);
}

#ifdef TARPIT_BRIDGE
static noinline void
tarpit_bridge6(struct net *net, const struct sk_buff *oldskb,
	       const struct tarpit_segment *reply)
{
	const struct ipv6hdr *oip6h = ipv6_hdr(oldskb);
	struct sk_buff *nskb;

	nskb = tarpit_alloc(LL_MAX_HEADER,
			    sizeof(struct ipv6hdr) + tarpit_len(reply));
	if (!nskb)
		return;

	tarpit_put6(nskb, &oip6h->daddr, &oip6h->saddr,
		    READ_ONCE(net->ipv6.devconf_all->hop_limit), reply);
	tarpit_bridge_xmit(net, nskb, oldskb);
}
#else
static void tarpit_bridge6(struct net *net, const struct sk_buff *oldskb,
			   const struct tarpit_segment *reply)
{
}
#endif

static unsigned int
tarpit_tg6(struct sk_buff *skb, const struct xt_action_param *par)
{
	const struct xt_tarpit_tginfo *info = par->targinfo;
	const struct ipv6hdr *ip6h = ipv6_hdr(skb);
	struct in6_addr saddr = ip6h->daddr, daddr = ip6h->saddr;
	struct net *net = xt_net(par);
	const struct tcphdr *th;
	struct tarpit_segment reply;
	enum tarpit_reply kind;
	struct tcphdr _th;
	struct dst_entry *dst;
	struct sk_buff *nskb;
	unsigned int payload;
	unsigned int verdict;
	__be16 frag_off;
	u8 nexthdr;
	int thoff;
	u32 mark;

	if (skb->pkt_type != PACKET_HOST ||
	    !tarpit_is_unicast6(&saddr) || !tarpit_is_unicast6(&daddr))
		return NF_DROP;

	thoff = sizeof(*ip6h);
	nexthdr = ip6h->nexthdr;
	if (nexthdr != IPPROTO_TCP) {
		thoff = ipv6_skip_exthdr(skb, thoff, &nexthdr, &frag_off);
		if (thoff < 0 || nexthdr != IPPROTO_TCP || frag_off)
			return NF_DROP;
	}

	th = tarpit_tcphdr(skb, thoff, &_th, &payload);
	if (!th)
		return NF_DROP;

	kind = tarpit_classify(info->variant, th, payload);
	if (kind == TARPIT_SILENCE || !tarpit_is_keyed() ||
	    !tarpit_csum6_ok(skb, xt_hooknum(par), thoff))
		return NF_DROP;

	if (!tarpit_build(&reply.th, kind, info->variant, th, payload,
			  tarpit_hash6(ip6h, th)))
		return NF_DROP;
	if (tarpit_has_options(kind, info->variant))
		tarpit_add_options(&reply, info->variant, skb, thoff,
				   TARPIT_MSS6);
	reply.th.check = tcp_v6_check(tarpit_len(&reply), &saddr, &daddr,
				      tarpit_sum(&reply));

	if (kind == TARPIT_RESET)
		nf_ct_set_closing(skb_nfct(skb));

	if (tarpit_is_bridged(skb)) {
		tarpit_bridge6(net, skb, &reply);
		return NF_DROP;
	}

	mark = IP6_REPLY_MARK(net, skb->mark);
	dst = tarpit_route6(net, skb, xt_in(par), &reply.th, mark);
	if (!dst)
		return NF_DROP;

	nskb = tarpit_skb(skb, dst, mark, sizeof(*ip6h) + tarpit_len(&reply));
	if (!nskb)
		return NF_DROP;

	verdict = nskb == skb ? NF_STOLEN : NF_DROP;
	tarpit_put6(nskb, &saddr, &daddr, ip6_dst_hoplimit(dst), &reply);
	ip6_local_out(net, NULL, nskb);
	return verdict;
}
#endif

static int tarpit_check(const struct xt_tgchk_param *par)
{
	const u8 last = par->target->revision ? XT_TARPIT_STALL :
						XT_TARPIT_RESET;
	static const struct xt_tarpit_tginfo_v1 nothing;
	const struct xt_tarpit_tginfo_v1 *v1 = par->targinfo;
	const struct xt_tarpit_tginfo *info = par->targinfo;

	/* raw comes before defragmentation and routing, and nat sees only
	 * the first packet of a connection.
	 */
	if (strcmp(par->table, "filter") && strcmp(par->table, "mangle") &&
	    strcmp(par->table, "security")) {
		pr_info_ratelimited("only valid in the filter, mangle and security tables, not in %s\n",
				    par->table);
		return -EINVAL;
	}
	if (info->variant > last) {
		pr_info_ratelimited("unknown variant %u\n", info->variant);
		return -EINVAL;
	}
	if (par->target->revision &&
	    memcmp(v1->reserved, nothing.reserved, sizeof(nothing.reserved))) {
		pr_info_ratelimited("unknown settings\n");
		return -EINVAL;
	}
	tarpit_note_caller(par);
	return 0;
}

#ifdef TARPIT_IPV6
static int tarpit_check6(const struct xt_tgchk_param *par)
{
	const struct ip6t_entry *e = par->entryinfo;

	/* Without the flag, the rule matches any protocol. */
	if (!(e->ipv6.flags & IP6T_F_PROTO)) {
		pr_info_ratelimited("only valid for protocol 6\n");
		return -EINVAL;
	}
	return tarpit_check(par);
}
#endif

#include "compat/entry.h"

static struct xt_target tarpit_tg_reg[] __read_mostly = {
	{
		.name		= "TARPIT",
		.revision	= 0,
		.family		= NFPROTO_IPV4,
		.proto		= IPPROTO_TCP,
		.hooks		= 1 << NF_INET_LOCAL_IN | 1 << NF_INET_FORWARD,
		.target		= tarpit_tg4,
		.targetsize	= sizeof(struct xt_tarpit_tginfo),
		.checkentry	= tarpit_check,
		.me		= THIS_MODULE,
	},
	{
		.name		= "TARPIT",
		.revision	= 1,
		.family		= NFPROTO_IPV4,
		.proto		= IPPROTO_TCP,
		.hooks		= 1 << NF_INET_LOCAL_IN | 1 << NF_INET_FORWARD,
		.target		= tarpit_tg4,
		.targetsize	= sizeof(struct xt_tarpit_tginfo_v1),
		.checkentry	= tarpit_check,
		.me		= THIS_MODULE,
	},
#ifdef TARPIT_IPV6
	{
		.name		= "TARPIT",
		.revision	= 0,
		.family		= NFPROTO_IPV6,
		.proto		= IPPROTO_TCP,
		.hooks		= 1 << NF_INET_LOCAL_IN | 1 << NF_INET_FORWARD,
		.target		= tarpit_tg6,
		.targetsize	= sizeof(struct xt_tarpit_tginfo),
		.checkentry	= tarpit_check6,
		.me		= THIS_MODULE,
	},
	{
		.name		= "TARPIT",
		.revision	= 1,
		.family		= NFPROTO_IPV6,
		.proto		= IPPROTO_TCP,
		.hooks		= 1 << NF_INET_LOCAL_IN | 1 << NF_INET_FORWARD,
		.target		= tarpit_tg6,
		.targetsize	= sizeof(struct xt_tarpit_tginfo_v1),
		.checkentry	= tarpit_check6,
		.me		= THIS_MODULE,
	},
#endif
};

static int __init tarpit_tg_init(void)
{
	return xt_register_targets(tarpit_tg_reg, ARRAY_SIZE(tarpit_tg_reg));
}

static void __exit tarpit_tg_exit(void)
{
	xt_unregister_targets(tarpit_tg_reg, ARRAY_SIZE(tarpit_tg_reg));
	tarpit_put_bridge();
}

module_init(tarpit_tg_init);
module_exit(tarpit_tg_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The tarpit-builder authors");
MODULE_DESCRIPTION("Xtables: accept TCP connections and hold them (TARPIT)");
MODULE_VERSION(TARPIT_VERSION);
MODULE_ALIAS("ipt_TARPIT");
MODULE_ALIAS("ip6t_TARPIT");
