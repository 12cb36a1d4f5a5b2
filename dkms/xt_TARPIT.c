// SPDX-License-Identifier: GPL-2.0-only
/*
 * xt_TARPIT: answer TCP connections from within the firewall, and hold them.
 *
 * Nothing is remembered about a connection. All that a later segment needs
 * is in the segment itself, because our initial sequence number is the
 * client's plus a keyed hash of the addresses and ports:
 *
 *	our ISN = client ISN + h
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
/* What a Linux host with an ordinary Ethernet MTU offers: 44 * 1460. */
#define TARPIT_WINDOW_HONEYPOT	64240
/* How far beyond its ISN a client that we hold can possibly be. */
#define TARPIT_MAX_SENT		65536

static siphash_key_t tarpit_key __read_mostly;

enum tarpit_reply {
	TARPIT_SILENCE,
	TARPIT_ACCEPT,	/* SYN+ACK */
	TARPIT_HOLD,	/* ACK of nothing, window 0 */
	TARPIT_CONSUME,	/* ACK of everything, window open */
	TARPIT_RESET,	/* RST, or RST+ACK where there is no ack to answer */
};

static enum tarpit_reply tarpit_classify(u8 variant, const struct tcphdr *th,
					 unsigned int payload)
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
		return TARPIT_SILENCE;
	case TCPHDR_FIN:
		if (variant == XT_TARPIT_RESET)
			return TARPIT_RESET;
		return TARPIT_SILENCE;
	default:
		return TARPIT_SILENCE;
	}
}

/**
 * tarpit_build - fill in the TCP header of a reply
 * @tcph: the header to fill; its checksum is left at 0
 * @reply: kind of reply, not TARPIT_SILENCE
 * @variant: mode of the rule
 * @oth: header of the segment that is answered
 * @payload: number of bytes of data in that segment
 * @hash: keyed hash of the addresses and ports
 */
static void tarpit_build(struct tcphdr *tcph, enum tarpit_reply reply,
			 u8 variant, const struct tcphdr *oth,
			 unsigned int payload, u32 hash)
{
	u32 seq = ntohl(oth->seq);
	u32 ack_seq = ntohl(oth->ack_seq);
	u32 isn;

	memset(tcph, 0, sizeof(*tcph));
	tcph->source = oth->dest;
	tcph->dest = oth->source;
	tcph->doff = sizeof(*tcph) / 4;

	switch (reply) {
	case TARPIT_ACCEPT:
		tcph->syn = 1;
		tcph->ack = 1;
		tcph->seq = htonl(seq + hash);
		tcph->ack_seq = htonl(seq + 1);
		tcph->window = htons(variant == XT_TARPIT_HONEYPOT ?
				     TARPIT_WINDOW_HONEYPOT :
				     TARPIT_WINDOW_OPEN);
		break;
	case TARPIT_HOLD:
		/* Of a connection that we did not accept, acknowledge what
		 * the sender presumably had acknowledged before.
		 */
		isn = ack_seq - 1 - hash;
		if (seq - isn <= TARPIT_MAX_SENT)
			seq = isn + 1;
		tcph->ack = 1;
		tcph->seq = oth->ack_seq;
		tcph->ack_seq = htonl(seq);
		break;
	case TARPIT_CONSUME:
		tcph->ack = 1;
		tcph->seq = oth->ack_seq;
		tcph->ack_seq = htonl(seq + payload + oth->fin);
		tcph->window = htons(TARPIT_WINDOW_HONEYPOT);
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
}

/* Find the TCP header and the length of what follows it, or NULL if the
 * segment is cut short or its header makes no sense.
 */
static const struct tcphdr *tarpit_tcphdr(const struct sk_buff *skb,
					  unsigned int thoff,
					  struct tcphdr *buf,
					  unsigned int *payload)
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
 * of something.
 */
static void tarpit_set_ct(struct sk_buff *skb, struct nf_conn *ct,
			  enum ip_conntrack_info ctinfo)
{
	if (!ct)
		nf_ct_set(skb, NULL, IP_CT_UNTRACKED);
	else if (CTINFO2DIR(ctinfo) == IP_CT_DIR_ORIGINAL)
		nf_ct_set(skb, ct, IP_CT_RELATED_REPLY);
	else
		nf_ct_set(skb, ct, IP_CT_RELATED);
}

/* Remove what the segment brought along, but for our reference to its
 * conntrack entry.
 */
static void tarpit_scrub(struct sk_buff *skb)
{
	enum ip_conntrack_info ctinfo;
	struct nf_conn *ct;

	ct = nf_ct_get(skb, &ctinfo);
	if (ct)
		nf_ct_set(skb, NULL, 0);
	skb_scrub_packet(skb, true);
	tarpit_set_ct(skb, ct, ctinfo);
}

static void tarpit_attach_ct(struct sk_buff *nskb, struct sk_buff *oldskb)
{
	enum ip_conntrack_info ctinfo;
	struct nf_conn *ct;

	ct = nf_ct_get(oldskb, &ctinfo);
	if (ct)
		nf_conntrack_get(&ct->ct_general);
	tarpit_set_ct(nskb, ct, ctinfo);
}
#else
static void tarpit_scrub(struct sk_buff *skb)
{
	skb_scrub_packet(skb, true);
}

static void tarpit_attach_ct(struct sk_buff *nskb, struct sk_buff *oldskb)
{
}
#endif

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

	skb_orphan(skb);
	tarpit_scrub(skb);

	skb->dev = NULL;
	skb->priority = 0;
	skb->ip_summed = CHECKSUM_NONE;
	skb_set_delivery_time(skb, 0, SKB_CLOCK_REALTIME);
	skb_clear_hash(skb);
	skb_init_secmark(skb);
	__vlan_hwaccel_clear_tag(skb);
	memset(skb->cb, 0, sizeof(skb->cb));
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
	unsigned int len = skb->len - thoff;

	if (skb->ip_summed != CHECKSUM_NONE)
		return !nf_ip_checksum(skb, hook, thoff, IPPROTO_TCP);

	return !tcp_v4_check(len, iph->saddr, iph->daddr,
			     skb_checksum(skb, thoff, len, 0));
}

static u32 tarpit_hash4(const struct iphdr *iph, const struct tcphdr *th)
{
	return siphash_3u32((__force u32)iph->saddr, (__force u32)iph->daddr,
			    (__force u32)th->source << 16 |
			    (__force u32)th->dest, &tarpit_key);
}

#ifndef TARPIT_COMPAT_ROUTE
static struct dst_entry *tarpit_route4(struct net *net, struct sk_buff *skb,
				       struct net_device *in,
				       const struct tcphdr *tcph, u32 mark)
{
	const struct iphdr *oiph = ip_hdr(skb);
	struct flowi4 fl4 = {
		.flowi4_l3mdev = l3mdev_master_ifindex(in),
		.flowi4_mark = mark,
		.flowi4_proto = IPPROTO_TCP,
		.flowi4_flags = FLOWI_FLAG_ANYSRC,
		.saddr = oiph->daddr,
		.daddr = oiph->saddr,
		.fl4_sport = tcph->source,
		.fl4_dport = tcph->dest,
	};
	struct rtable *rt;

	security_skb_classify_flow(skb, flowi4_to_flowi_common(&fl4));
	rt = ip_route_output_key(net, &fl4);
	if (IS_ERR(rt))
		return NULL;

	if (rt->rt_flags & (RTCF_BROADCAST | RTCF_MULTICAST)) {
		ip_rt_put(rt);
		return NULL;
	}
	return &rt->dst;
}
#endif

static void tarpit_put4(struct sk_buff *nskb, __be32 saddr, __be32 daddr,
			int ttl, const struct tcphdr *tcph)
{
	struct iphdr *iph = ip_hdr(nskb);

	iph->version = 4;
	iph->ihl = sizeof(*iph) / 4;
	iph->tos = 0;
	iph->tot_len = htons(sizeof(*iph) + sizeof(*tcph));
	iph->id = 0;
	iph->frag_off = htons(IP_DF);
	iph->ttl = ttl;
	iph->protocol = IPPROTO_TCP;
	iph->saddr = saddr;
	iph->daddr = daddr;
	nskb->protocol = htons(ETH_P_IP);

	skb_set_transport_header(nskb, sizeof(*iph));
	memcpy(tcp_hdr(nskb), tcph, sizeof(*tcph));
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
	if (nf_bridge_info_get(oldskb)->orig_proto != BRNF_PROTO_UNCHANGED)
		goto free_nskb;

	__vlan_hwaccel_copy_tag(nskb, oldskb);
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

static void tarpit_bridge4(struct net *net, const struct sk_buff *oldskb,
			   const struct net_device *bridge,
			   const struct tcphdr *tcph)
{
	const struct iphdr *oiph = ip_hdr(oldskb);
	struct sk_buff *nskb;

	if (tarpit_is_broadcast(bridge, oiph->daddr) ||
	    tarpit_is_broadcast(bridge, oiph->saddr))
		return;

	nskb = tarpit_alloc(LL_MAX_HEADER,
			    sizeof(struct iphdr) + sizeof(*tcph));
	if (!nskb)
		return;

	tarpit_put4(nskb, oiph->daddr, oiph->saddr,
		    READ_ONCE(net->ipv4.sysctl_ip_default_ttl), tcph);
	ip_send_check(ip_hdr(nskb));
	tarpit_bridge_xmit(net, nskb, oldskb);
}
#else
static bool tarpit_is_bridged(const struct sk_buff *skb)
{
	return false;
}

static void tarpit_bridge4(struct net *net, const struct sk_buff *oldskb,
			   const struct net_device *bridge,
			   const struct tcphdr *tcph)
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
	enum tarpit_reply reply;
	struct tcphdr _th, tcph;
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

	reply = tarpit_classify(info->variant, th, payload);
	if (reply == TARPIT_SILENCE ||
	    !tarpit_csum4_ok(skb, xt_hooknum(par)))
		return NF_DROP;

	tarpit_build(&tcph, reply, info->variant, th, payload,
		     tarpit_hash4(iph, th));
	tcph.check = tcp_v4_check(sizeof(tcph), saddr, daddr,
				  csum_partial(&tcph, sizeof(tcph), 0));

	if (tarpit_is_bridged(skb)) {
		tarpit_bridge4(net, skb, xt_in(par), &tcph);
		return NF_DROP;
	}

	rt = skb_rtable(skb);
	if (!rt || (rt->rt_type != RTN_LOCAL && rt->rt_type != RTN_UNICAST))
		return NF_DROP;

	mark = IP4_REPLY_MARK(net, skb->mark);
	dst = tarpit_route4(net, skb, xt_in(par), &tcph, mark);
	if (!dst)
		return NF_DROP;

	nskb = tarpit_skb(skb, dst, mark, sizeof(*iph) + sizeof(tcph));
	if (!nskb)
		return NF_DROP;

	verdict = nskb == skb ? NF_STOLEN : NF_DROP;
	tarpit_put4(nskb, saddr, daddr, ip4_dst_hoplimit(dst), &tcph);
	ip_local_out(net, NULL, nskb);
	return verdict;
}

#ifdef TARPIT_IPV6
static bool tarpit_csum6_ok(struct sk_buff *skb, unsigned int hook,
			    unsigned int thoff)
{
	const struct ipv6hdr *ip6h = ipv6_hdr(skb);
	unsigned int len = skb->len - thoff;

	if (skb->ip_summed != CHECKSUM_NONE)
		return !nf_ip6_checksum(skb, hook, thoff, IPPROTO_TCP);

	return !tcp_v6_check(len, &ip6h->saddr, &ip6h->daddr,
			     skb_checksum(skb, thoff, len, 0));
}

static u32 tarpit_hash6(const struct ipv6hdr *ip6h, const struct tcphdr *th)
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
static struct dst_entry *tarpit_route6(struct net *net, struct sk_buff *skb,
				       struct net_device *in,
				       const struct tcphdr *tcph, u32 mark)
{
	const struct ipv6hdr *oip6h = ipv6_hdr(skb);
	struct flowi6 fl6 = {
		.flowi6_l3mdev = l3mdev_master_ifindex(in),
		.flowi6_mark = mark,
		.flowi6_proto = IPPROTO_TCP,
		.saddr = oip6h->daddr,
		.daddr = oip6h->saddr,
		.fl6_sport = tcph->source,
		.fl6_dport = tcph->dest,
	};
	struct dst_entry *dst;

	/* Such an address means nothing without its interface, and that is
	 * not the VRF which may have taken its place.
	 */
	if (ipv6_addr_type(&fl6.daddr) & IPV6_ADDR_LINKLOCAL)
		fl6.flowi6_oif = IP6CB(skb)->iif;

	security_skb_classify_flow(skb, flowi6_to_flowi_common(&fl6));
	dst = ip6_route_output(net, NULL, &fl6);
	if (dst->error) {
		dst_release(dst);
		return NULL;
	}

	dst = xfrm_lookup(net, dst, flowi6_to_flowi(&fl6), NULL, 0);
	return IS_ERR(dst) ? NULL : dst;
}
#endif

static void tarpit_put6(struct sk_buff *nskb, const struct in6_addr *saddr,
			const struct in6_addr *daddr, int hoplimit,
			const struct tcphdr *tcph)
{
	struct ipv6hdr *ip6h = ipv6_hdr(nskb);

	ip6_flow_hdr(ip6h, 0, 0);
	ip6h->payload_len = htons(sizeof(*tcph));
	ip6h->nexthdr = IPPROTO_TCP;
	ip6h->hop_limit = hoplimit;
	ip6h->saddr = *saddr;
	ip6h->daddr = *daddr;
	nskb->protocol = htons(ETH_P_IPV6);

	skb_set_transport_header(nskb, sizeof(*ip6h));
	memcpy(tcp_hdr(nskb), tcph, sizeof(*tcph));
}

#ifdef TARPIT_BRIDGE
static void tarpit_bridge6(struct net *net, const struct sk_buff *oldskb,
			   const struct tcphdr *tcph)
{
	const struct ipv6hdr *oip6h = ipv6_hdr(oldskb);
	struct sk_buff *nskb;

	nskb = tarpit_alloc(LL_MAX_HEADER,
			    sizeof(struct ipv6hdr) + sizeof(*tcph));
	if (!nskb)
		return;

	tarpit_put6(nskb, &oip6h->daddr, &oip6h->saddr,
		    READ_ONCE(net->ipv6.devconf_all->hop_limit), tcph);
	tarpit_bridge_xmit(net, nskb, oldskb);
}
#else
static void tarpit_bridge6(struct net *net, const struct sk_buff *oldskb,
			   const struct tcphdr *tcph)
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
	enum tarpit_reply reply;
	struct tcphdr _th, tcph;
	struct dst_entry *dst;
	struct sk_buff *nskb;
	unsigned int payload;
	unsigned int verdict;
	__be16 frag_off;
	u8 nexthdr;
	int thoff;
	u32 mark;

	if (skb->pkt_type != PACKET_HOST ||
	    !(ipv6_addr_type(&saddr) & IPV6_ADDR_UNICAST) ||
	    !(ipv6_addr_type(&daddr) & IPV6_ADDR_UNICAST))
		return NF_DROP;

	nexthdr = ip6h->nexthdr;
	thoff = ipv6_skip_exthdr(skb, sizeof(*ip6h), &nexthdr, &frag_off);
	if (thoff < 0 || nexthdr != IPPROTO_TCP || frag_off)
		return NF_DROP;

	th = tarpit_tcphdr(skb, thoff, &_th, &payload);
	if (!th)
		return NF_DROP;

	reply = tarpit_classify(info->variant, th, payload);
	if (reply == TARPIT_SILENCE ||
	    !tarpit_csum6_ok(skb, xt_hooknum(par), thoff))
		return NF_DROP;

	tarpit_build(&tcph, reply, info->variant, th, payload,
		     tarpit_hash6(ip6h, th));
	tcph.check = tcp_v6_check(sizeof(tcph), &saddr, &daddr,
				  csum_partial(&tcph, sizeof(tcph), 0));

	if (tarpit_is_bridged(skb)) {
		tarpit_bridge6(net, skb, &tcph);
		return NF_DROP;
	}

	mark = IP6_REPLY_MARK(net, skb->mark);
	dst = tarpit_route6(net, skb, xt_in(par), &tcph, mark);
	if (!dst)
		return NF_DROP;

	nskb = tarpit_skb(skb, dst, mark, sizeof(*ip6h) + sizeof(tcph));
	if (!nskb)
		return NF_DROP;

	verdict = nskb == skb ? NF_STOLEN : NF_DROP;
	tarpit_put6(nskb, &saddr, &daddr, ip6_dst_hoplimit(dst), &tcph);
	ip6_local_out(net, NULL, nskb);
	return verdict;
}
#endif

static int tarpit_check(const struct xt_tgchk_param *par)
{
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
	if (info->variant > XT_TARPIT_RESET) {
		pr_info_ratelimited("unknown variant %u\n", info->variant);
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
#endif
};

static int __init tarpit_tg_init(void)
{
	get_random_bytes(&tarpit_key, sizeof(tarpit_key));
	return xt_register_targets(tarpit_tg_reg, ARRAY_SIZE(tarpit_tg_reg));
}

static void __exit tarpit_tg_exit(void)
{
	xt_unregister_targets(tarpit_tg_reg, ARRAY_SIZE(tarpit_tg_reg));
}

module_init(tarpit_tg_init);
module_exit(tarpit_tg_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The tarpit-builder authors");
MODULE_DESCRIPTION("Xtables: accept TCP connections and hold them (TARPIT)");
MODULE_VERSION(TARPIT_VERSION);
MODULE_ALIAS("ipt_TARPIT");
MODULE_ALIAS("ip6t_TARPIT");
