// SPDX-License-Identifier: GPL-2.0-only
/*
 * tarpit: a network device that answers the TCP connections sent to it.
 *
 *	ip link add tarpit0 type tarpit
 *
 * A frame that comes in by an interface and is forwarded here before anybody
 * looked at it (nft fwd, tc mirred) is turned round and leaves by the same
 * interface: no route, no socket, no connection tracking. A packet that is
 * routed here gets its answer into the host's stack, as from a host behind
 * this device. Both are told apart by the route that only the latter has.
 */
#include <linux/ethtool.h>
#include <linux/if_arp.h>
#include <linux/if_vlan.h>
#include <linux/module.h>
#include <linux/netdevice.h>
#include <net/addrconf.h>
#include <net/dst_metadata.h>
#include <net/ndisc.h>
#include <net/rtnetlink.h>
#include <net/xfrm.h>

#define TARPIT_FOR_DEVICE
#include "tarpit_core.h"

/* As many tags as a frame may bear that hardware does not take off */
#define TARPIT_MAX_TAGS		2

/* What else comes of a frame */
enum {
	TARPIT_NEIGHBOUR = TARPIT_REPLIES,	/* answered with our address */
	TARPIT_OTHER,		/* neither TCP nor a question for an address */
	TARPIT_NOWHERE,		/* no interface to answer by */
	TARPIT_OUTCOMES
};

struct tarpit_counts {
	unsigned long outcomes[TARPIT_OUTCOMES];
	unsigned long tx_bytes;
	unsigned long rx_bytes;
};

struct tarpit_dev {
	struct tarpit_counts __percpu *counts;
	u8 variant;
};

/* A frame that was sent to us, its data from the network header on. Nobody
 * but inline functions sees it, so that it never is in memory.
 */
struct tarpit_frame {
	struct sk_buff *skb;	/* NULL if the reply was made of it */
	struct net_device *us;
	struct net_device *dev;	/* the interface that it came in by, or us */
	unsigned int hlen;	/* of what is before the network header */
	bool is_group;		/* sent to more than one */
};

static bool tarpit_is_answered(unsigned int outcome)
{
	return outcome < TARPIT_SILENCE || outcome == TARPIT_NEIGHBOUR;
}

static const struct net_device_ops tarpit_netdev_ops;

/* Solicitation and advertisement of a neighbour: RFC 4861, 4.3 and 4.4 */
struct tarpit_nd {
	struct icmp6hdr icmp6;
	struct in6_addr target;
};

struct tarpit_na {
	struct tarpit_nd nd;
	u8 type;
	u8 len;		/* in units of 8 bytes */
	u8 lladdr[ETH_ALEN];
};

/* RFC 826, between Ethernet and IPv4 */
struct tarpit_arp {
	struct arphdr hdr;
	u8 sha[ETH_ALEN];
	__be32 sip;
	u8 tha[ETH_ALEN];
	__be32 tip;
} __packed;

/* A new frame that leaves by the interface that this one came in by, with the
 * same tags; its data from the network header on.
 */
static noinline struct sk_buff *
tarpit_new(const struct sk_buff *skb, const struct net_device *dev,
	   unsigned int hlen, unsigned int len)
{
	struct sk_buff *nskb;

	nskb = tarpit_alloc(LL_RESERVED_SPACE(dev) + hlen, len);
	if (!nskb)
		return NULL;

	memcpy(nskb->data - hlen, skb->data - hlen, hlen);
	if (skb_vlan_tag_present(skb))
		__vlan_hwaccel_put_tag(nskb, skb->vlan_proto,
				       skb_vlan_tag_get(skb));
	return nskb;
}

/* The same, made of the frame itself if that is possible. Then that is gone. */
static __always_inline struct sk_buff *
tarpit_turn(struct tarpit_frame *frame, unsigned int len)
{
	struct sk_buff *skb = frame->skb;
	const bool is_tagged = skb_vlan_tag_present(skb);
	const __be16 proto = skb->vlan_proto;
	const u16 tci = skb_vlan_tag_get(skb);

	if (unlikely(!tarpit_can_recycle(skb, LL_RESERVED_SPACE(frame->dev),
					 len) ||
		     pskb_trim(skb, len)))
		return tarpit_new(skb, frame->dev, frame->hlen, len);

	tarpit_renew(skb);
	nf_reset_ct(skb);
	if (is_tagged)
		__vlan_hwaccel_put_tag(skb, proto, tci);
	frame->skb = NULL;
	return skb;
}

/* Send a frame, which is complete but for its data, to where another came
 * from.
 */
static __always_inline void
tarpit_send(struct net_device *us, struct net_device *dev,
	    struct sk_buff *nskb, unsigned int hlen)
{
	const struct tarpit_dev *td = netdev_priv(us);

	this_cpu_add(td->counts->rx_bytes, hlen + nskb->len);
	nskb->dev = dev;
	if (dev == us) {
		skb_set_mac_header(nskb, -(int)hlen);
		nskb->ip_summed = CHECKSUM_UNNECESSARY;
		netif_rx(nskb);
		return;
	}

	nskb->protocol = ((struct ethhdr *)__skb_push(nskb, hlen))->h_proto;
	dev_queue_xmit(nskb);
}

/* To who sent the frame, from whom he sent it to */
static __always_inline void tarpit_send_back(const struct tarpit_frame *frame,
					     struct sk_buff *nskb)
{
	struct ethhdr *eth = (struct ethhdr *)(nskb->data - frame->hlen);
	u8 was[ETH_ALEN];

	if (frame->dev != frame->us) {
		ether_addr_copy(was, eth->h_dest);
		ether_addr_copy(eth->h_dest, eth->h_source);
		ether_addr_copy(eth->h_source, was);
	}
	tarpit_send(frame->us, frame->dev, nskb, frame->hlen);
}

/* To who sent the frame, from the interface itself */
static void tarpit_send_own(struct net_device *us, struct net_device *dev,
			    struct sk_buff *nskb, unsigned int hlen)
{
	struct ethhdr *eth = (struct ethhdr *)(nskb->data - hlen);

	ether_addr_copy(eth->h_dest, eth->h_source);
	ether_addr_copy(eth->h_source, dev->dev_addr);
	tarpit_send(us, dev, nskb, hlen);
}

static __always_inline unsigned int
tarpit_ip4(struct tarpit_frame *frame, u8 variant)
{
	struct sk_buff *skb = frame->skb;
	struct tarpit_segment reply;
	const struct iphdr *iph;
	enum tarpit_reply kind;
	struct sk_buff *nskb;
	__be32 saddr, daddr;
	struct iphdr *niph;
	unsigned int len;

	if (unlikely(!pskb_may_pull(skb, sizeof(*iph))))
		return TARPIT_MALFORMED;
	iph = ip_hdr(skb);
	if (unlikely(iph->version != 4 || iph->ihl < 5 ||
		     !pskb_may_pull(skb, iph->ihl * 4)))
		return TARPIT_MALFORMED;

	/* Of segments that were put together, the length may not fit. */
	iph = ip_hdr(skb);
	len = ntohs(iph->tot_len);
	if (unlikely(!len && skb_is_gso(skb)))
		len = skb->len;
	if (unlikely(len < iph->ihl * 4 || len > skb->len ||
		     pskb_trim(skb, len)))
		return TARPIT_MALFORMED;

	iph = ip_hdr(skb);
	if (unlikely(ip_fast_csum((u8 *)iph, iph->ihl)))
		return TARPIT_CHECKSUM;
	if (unlikely(iph->protocol != IPPROTO_TCP))
		return TARPIT_OTHER;

	/* Nobody has routed it, so nobody has sorted these out. */
	saddr = iph->daddr;
	daddr = iph->saddr;
	if (unlikely(frame->is_group || saddr == daddr ||
		     ipv4_is_loopback(saddr) || ipv4_is_loopback(daddr) ||
		     tarpit_is_broadcast(frame->dev, saddr, daddr)))
		return TARPIT_ADDRESS;

	kind = tarpit_answer4(&reply, &len, variant, skb, iph,
			      NF_INET_PRE_ROUTING);
	if (unlikely(!tarpit_is_answer(kind)))
		return kind;

	nskb = tarpit_turn(frame, sizeof(*iph) + len);
	if (unlikely(!nskb))
		return TARPIT_NO_MEMORY;

	tarpit_put4(nskb, saddr, daddr,
		    READ_ONCE(dev_net(frame->dev)->ipv4.sysctl_ip_default_ttl),
		    &reply, len);
	niph = ip_hdr(nskb);
	niph->check = 0;
	niph->check = ip_fast_csum((u8 *)niph, sizeof(*niph) / 4);
	tarpit_send_back(frame, nskb);
	return kind;
}

static noinline unsigned int
tarpit_arp(struct net_device *us, struct net_device *dev,
	   const struct sk_buff *skb, unsigned int hlen)
{
	const struct ethhdr *eth = eth_hdr(skb);
	const struct tarpit_arp *arp;
	struct tarpit_arp _arp, *narp;
	struct sk_buff *nskb;

	arp = skb_header_pointer(skb, 0, sizeof(_arp), &_arp);
	if (!arp || arp->hdr.ar_hrd != htons(ARPHRD_ETHER) ||
	    arp->hdr.ar_pro != htons(ETH_P_IP) ||
	    arp->hdr.ar_hln != ETH_ALEN || arp->hdr.ar_pln != sizeof(__be32))
		return TARPIT_MALFORMED;
	if (arp->hdr.ar_op != htons(ARPOP_REQUEST))
		return TARPIT_OTHER;

	/* Whoever asks before he takes the address, or tells that he has it,
	 * is to have it: RFC 5227.
	 */
	if (!tarpit_is_unicast4(arp->sip) || !tarpit_is_unicast4(arp->tip) ||
	    ipv4_is_loopback(arp->sip) || ipv4_is_loopback(arp->tip) ||
	    arp->sip == arp->tip || !ether_addr_equal(arp->sha, eth->h_source))
		return TARPIT_ADDRESS;

	nskb = tarpit_new(skb, dev, hlen, sizeof(*narp));
	if (!nskb)
		return TARPIT_NO_MEMORY;

	narp = (struct tarpit_arp *)nskb->data;
	narp->hdr = arp->hdr;
	narp->hdr.ar_op = htons(ARPOP_REPLY);
	memcpy(narp->sha, dev->dev_addr, ETH_ALEN);
	narp->sip = arp->tip;
	memcpy(narp->tha, arp->sha, ETH_ALEN);
	narp->tip = arp->sip;
	tarpit_send_own(us, dev, nskb, hlen);
	return TARPIT_NEIGHBOUR;
}

#ifdef TARPIT_IPV6
/* RFC 4861, 7.1.1 */
static bool tarpit_is_solicitation(const struct sk_buff *skb,
				   const struct tarpit_nd *nd)
{
	const struct ipv6hdr *ip6h = ipv6_hdr(skb);
	unsigned int len = skb->len - sizeof(*ip6h);
	unsigned int offset = sizeof(*ip6h) + sizeof(*nd);
	struct nd_opt_hdr _opt, *opt;

	if (ip6h->hop_limit != 255 || nd->icmp6.icmp6_code)
		return false;

	for (; offset < skb->len; offset += opt->nd_opt_len * 8) {
		opt = skb_header_pointer(skb, offset, sizeof(_opt), &_opt);
		if (!opt || !opt->nd_opt_len)
			return false;
	}

	return skb_csum_unnecessary(skb) ||
	       !csum_ipv6_magic(&ip6h->saddr, &ip6h->daddr, len, IPPROTO_ICMPV6,
				skb_checksum(skb, sizeof(*ip6h), len, 0));
}

static noinline unsigned int
tarpit_neighbour(struct net_device *us, struct net_device *dev,
		 const struct sk_buff *skb, unsigned int hlen)
{
	const struct ipv6hdr *oip6h = ipv6_hdr(skb);
	struct tarpit_nd _nd;
	const struct tarpit_nd *nd;
	struct in6_addr group;
	struct ipv6hdr *ip6h;
	struct sk_buff *nskb;
	struct tarpit_na *na;

	nd = skb_header_pointer(skb, sizeof(*oip6h), sizeof(_nd), &_nd);
	if (!nd)
		return TARPIT_MALFORMED;
	if (nd->icmp6.icmp6_type != NDISC_NEIGHBOUR_SOLICITATION)
		return TARPIT_OTHER;
	if (!tarpit_is_solicitation(skb, nd))
		return TARPIT_MALFORMED;

	/* Without a source it asks before it takes the address for itself. */
	addrconf_addr_solict_mult(&nd->target, &group);
	if (!tarpit_is_unicast6(&oip6h->saddr) ||
	    !tarpit_is_unicast6(&nd->target) ||
	    ipv6_addr_loopback(&nd->target) ||
	    (!ipv6_addr_equal(&oip6h->daddr, &nd->target) &&
	     !ipv6_addr_equal(&oip6h->daddr, &group)))
		return TARPIT_ADDRESS;

	nskb = tarpit_new(skb, dev, hlen, sizeof(*ip6h) + sizeof(*na));
	if (!nskb)
		return TARPIT_NO_MEMORY;

	ip6h = ipv6_hdr(nskb);
	ip6_flow_hdr(ip6h, 0, 0);
	ip6h->payload_len = htons(sizeof(*na));
	ip6h->nexthdr = IPPROTO_ICMPV6;
	ip6h->hop_limit = 255;
	ip6h->saddr = nd->target;
	ip6h->daddr = oip6h->saddr;

	na = (struct tarpit_na *)(ip6h + 1);
	memset(na, 0, sizeof(*na));
	na->nd.icmp6.icmp6_type = NDISC_NEIGHBOUR_ADVERTISEMENT;
	na->nd.icmp6.icmp6_solicited = 1;
	na->nd.icmp6.icmp6_override = 1;
	na->nd.target = nd->target;
	na->type = ND_OPT_TARGET_LL_ADDR;
	na->len = 1;
	memcpy(na->lladdr, dev->dev_addr, ETH_ALEN);
	na->nd.icmp6.icmp6_cksum =
		csum_ipv6_magic(&ip6h->saddr, &ip6h->daddr, sizeof(*na),
				IPPROTO_ICMPV6,
				csum_partial(na, sizeof(*na), 0));
	tarpit_send_own(us, dev, nskb, hlen);
	return TARPIT_NEIGHBOUR;
}

/* What there is behind the extension headers, or -1 */
static int tarpit_protocol6(const struct sk_buff *skb)
{
	u8 nexthdr = ipv6_hdr(skb)->nexthdr;
	__be16 frag_off;

	if (nexthdr == IPPROTO_TCP)
		return nexthdr;
	if (ipv6_skip_exthdr(skb, sizeof(struct ipv6hdr), &nexthdr,
			     &frag_off) < 0)
		return -1;
	return nexthdr;
}

static __always_inline unsigned int
tarpit_ip6(struct tarpit_frame *frame, u8 variant)
{
	struct sk_buff *skb = frame->skb;
	struct in6_addr saddr, daddr;
	struct tarpit_segment reply;
	const struct ipv6hdr *ip6h;
	enum tarpit_reply kind;
	struct sk_buff *nskb;
	unsigned int len;

	if (unlikely(!pskb_may_pull(skb, sizeof(*ip6h))))
		return TARPIT_MALFORMED;
	ip6h = ipv6_hdr(skb);
	len = sizeof(*ip6h) + ntohs(ip6h->payload_len);
	if (unlikely(!ip6h->payload_len && skb_is_gso(skb)))
		len = skb->len;
	if (unlikely(ip6h->version != 6 || len > skb->len ||
		     pskb_trim(skb, len)))
		return TARPIT_MALFORMED;

	ip6h = ipv6_hdr(skb);
	if (unlikely(ip6h->nexthdr == IPPROTO_ICMPV6)) {
		if (frame->dev == frame->us)
			return TARPIT_OTHER;
		return tarpit_neighbour(frame->us, frame->dev, skb,
					frame->hlen);
	}

	switch (tarpit_protocol6(skb)) {
	case -1:
		return TARPIT_MALFORMED;
	case IPPROTO_TCP:
		break;
	default:
		return TARPIT_OTHER;
	}

	saddr = ip6h->daddr;
	daddr = ip6h->saddr;
	if (unlikely(frame->is_group || ipv6_addr_equal(&saddr, &daddr) ||
		     ipv6_addr_loopback(&saddr) || ipv6_addr_loopback(&daddr)))
		return TARPIT_ADDRESS;

	kind = tarpit_answer6(&reply, &len, variant, skb, ip6h,
			      NF_INET_PRE_ROUTING);
	if (unlikely(!tarpit_is_answer(kind)))
		return kind;

	nskb = tarpit_turn(frame, sizeof(*ip6h) + len);
	if (unlikely(!nskb))
		return TARPIT_NO_MEMORY;

	tarpit_put6(nskb, &saddr, &daddr,
		    READ_ONCE(dev_net(frame->dev)->ipv6.devconf_all->hop_limit),
		    &reply, len);
	tarpit_send_back(frame, nskb);
	return kind;
}
#else
static unsigned int tarpit_ip6(struct tarpit_frame *frame, u8 variant)
{
	return TARPIT_OTHER;
}
#endif

/* The interface to answer by. Not another of us: such a pair would be a loop
 * with no link in it. Nor where a packet was about to leave by another
 * interface, with a header that is meant for a neighbour there.
 */
static struct net_device *tarpit_origin(const struct sk_buff *skb,
					struct net_device *dev)
{
	struct net_device *in;

	if (unlikely(skb_valid_dst(skb)))
		return dst_dev(skb_dst(skb)) == dev ? dev : NULL;

	in = dev_get_by_index_rcu(dev_net(dev), skb->skb_iif);
	if (unlikely(!in || in->type != ARPHRD_ETHER ||
		     in->netdev_ops == &tarpit_netdev_ops))
		return NULL;
	return in;
}

/* What there is behind a header of that length, which ends with it */
static __be16 tarpit_proto(const struct sk_buff *skb, unsigned int hlen)
{
	return *(__be16 *)(skb->data + hlen - sizeof(__be16));
}

/* Length of a header that has tags; 0 if it is longer than we or the frame
 * can have it
 */
static noinline unsigned int tarpit_tagged(struct sk_buff *skb)
{
	unsigned int hlen = ETH_HLEN;

	while (eth_type_vlan(tarpit_proto(skb, hlen))) {
		hlen += VLAN_HLEN;
		if (hlen > ETH_HLEN + TARPIT_MAX_TAGS * VLAN_HLEN ||
		    !pskb_may_pull(skb, hlen))
			return 0;
	}
	return hlen;
}

static __always_inline unsigned int
tarpit_handle(struct tarpit_frame *frame, u8 variant)
{
	struct sk_buff *skb = frame->skb;
	const struct ethhdr *eth;
	bool is_routed;
	__be16 proto;

	if (unlikely(!pskb_may_pull(skb, ETH_HLEN)))
		return TARPIT_MALFORMED;
	frame->dev = tarpit_origin(skb, frame->us);
	if (unlikely(!frame->dev))
		return TARPIT_NOWHERE;
	is_routed = frame->dev == frame->us;

	skb_reset_mac_header(skb);
	eth = eth_hdr(skb);
	if (unlikely(!is_routed && !is_valid_ether_addr(eth->h_source)))
		return TARPIT_ADDRESS;
	frame->is_group = !is_routed && is_multicast_ether_addr(eth->h_dest);

	proto = eth->h_proto;
	frame->hlen = ETH_HLEN;
	if (unlikely(eth_type_vlan(proto))) {
		frame->hlen = tarpit_tagged(skb);
		if (!frame->hlen)
			return TARPIT_MALFORMED;
		proto = tarpit_proto(skb, frame->hlen);
	}
	__skb_pull(skb, frame->hlen);
	skb_reset_network_header(skb);

	/* The checksum of all that was received covers more, or less. */
	if (skb->ip_summed == CHECKSUM_COMPLETE)
		skb->ip_summed = CHECKSUM_NONE;

	switch (proto) {
	case htons(ETH_P_IP):
		return tarpit_ip4(frame, variant);
	case htons(ETH_P_IPV6):
		return tarpit_ip6(frame, variant);
	case htons(ETH_P_ARP):
		if (is_routed)
			return TARPIT_OTHER;
		return tarpit_arp(frame->us, frame->dev, skb, frame->hlen);
	default:
		return TARPIT_OTHER;
	}
}

static netdev_tx_t tarpit_xmit(struct sk_buff *skb, struct net_device *dev)
{
	const struct tarpit_dev *td = netdev_priv(dev);
	struct tarpit_frame frame = { .skb = skb, .us = dev };
	unsigned int outcome;

	this_cpu_add(td->counts->tx_bytes, skb->len);
	outcome = tarpit_handle(&frame, READ_ONCE(td->variant));
	this_cpu_inc(td->counts->outcomes[outcome]);
	if (!frame.skb)
		return NETDEV_TX_OK;

	if (tarpit_is_answered(outcome))
		consume_skb(frame.skb);
	else
		kfree_skb(frame.skb);
	return NETDEV_TX_OK;
}

static int tarpit_dev_init(struct net_device *dev)
{
	struct tarpit_dev *td = netdev_priv(dev);

	td->counts = alloc_percpu(struct tarpit_counts);
	return td->counts ? 0 : -ENOMEM;
}

static void tarpit_dev_uninit(struct net_device *dev)
{
	const struct tarpit_dev *td = netdev_priv(dev);

	free_percpu(td->counts);
}

static unsigned long tarpit_total(const struct net_device *dev,
				  unsigned int outcome)
{
	const struct tarpit_dev *td = netdev_priv(dev);
	unsigned long total = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		total += READ_ONCE(per_cpu_ptr(td->counts, cpu)->outcomes[outcome]);
	return total;
}

/* What is sent to us is transmitted, what we answer is received. */
static void tarpit_get_stats64(struct net_device *dev,
			       struct rtnl_link_stats64 *stats)
{
	const struct tarpit_dev *td = netdev_priv(dev);
	const struct tarpit_counts *counts;
	unsigned int outcome;
	unsigned long total;
	int cpu;

	for (outcome = 0; outcome < TARPIT_OUTCOMES; outcome++) {
		total = tarpit_total(dev, outcome);
		stats->tx_packets += total;
		if (tarpit_is_answered(outcome))
			stats->rx_packets += total;
		else
			stats->tx_dropped += total;
	}

	for_each_possible_cpu(cpu) {
		counts = per_cpu_ptr(td->counts, cpu);
		stats->tx_bytes += READ_ONCE(counts->tx_bytes);
		stats->rx_bytes += READ_ONCE(counts->rx_bytes);
	}
}

static const struct net_device_ops tarpit_netdev_ops = {
	.ndo_init		= tarpit_dev_init,
	.ndo_uninit		= tarpit_dev_uninit,
	.ndo_start_xmit		= tarpit_xmit,
	.ndo_get_stats64	= tarpit_get_stats64,
	.ndo_set_mac_address	= eth_mac_addr,
	.ndo_validate_addr	= eth_validate_addr,
};

static const char tarpit_outcomes[][ETH_GSTRING_LEN] = {
	TARPIT_REPLY_NAMES, "neighbour", "other", "nowhere"
};

/* In the order of XT_TARPIT_x */
static const char tarpit_modes[][ETH_GSTRING_LEN] = {
	"tarpit", "honeypot", "reset", "stall"
};

static void tarpit_get_drvinfo(struct net_device *dev,
			       struct ethtool_drvinfo *info)
{
	strscpy(info->driver, KBUILD_MODNAME, sizeof(info->driver));
	strscpy(info->version, TARPIT_VERSION, sizeof(info->version));
}

static int tarpit_get_sset_count(struct net_device *dev, int set)
{
	switch (set) {
	case ETH_SS_STATS:
		return ARRAY_SIZE(tarpit_outcomes);
	case ETH_SS_PRIV_FLAGS:
		return ARRAY_SIZE(tarpit_modes);
	default:
		return -EOPNOTSUPP;
	}
}

static void tarpit_get_strings(struct net_device *dev, u32 set, u8 *data)
{
	switch (set) {
	case ETH_SS_STATS:
		memcpy(data, tarpit_outcomes, sizeof(tarpit_outcomes));
		break;
	case ETH_SS_PRIV_FLAGS:
		memcpy(data, tarpit_modes, sizeof(tarpit_modes));
		break;
	}
}

static void tarpit_get_ethtool_stats(struct net_device *dev,
				     struct ethtool_stats *stats, u64 *data)
{
	unsigned int outcome;

	BUILD_BUG_ON(ARRAY_SIZE(tarpit_outcomes) != TARPIT_OUTCOMES);
	for (outcome = 0; outcome < TARPIT_OUTCOMES; outcome++)
		data[outcome] = tarpit_total(dev, outcome);
}

static u32 tarpit_get_priv_flags(struct net_device *dev)
{
	const struct tarpit_dev *td = netdev_priv(dev);

	return 1U << td->variant;
}

/* There is always one mode. Another that is turned on takes its place, and
 * turned off it makes way for the first.
 */
static int tarpit_set_priv_flags(struct net_device *dev, u32 flags)
{
	struct tarpit_dev *td = netdev_priv(dev);
	u32 added = flags & ~tarpit_get_priv_flags(dev);

	if (flags >> ARRAY_SIZE(tarpit_modes) || added & (added - 1))
		return -EINVAL;
	if (added)
		WRITE_ONCE(td->variant, __ffs(added));
	else if (!flags)
		WRITE_ONCE(td->variant, XT_TARPIT_TARPIT);
	return 0;
}

static const struct ethtool_ops tarpit_ethtool_ops = {
	.get_drvinfo		= tarpit_get_drvinfo,
	.get_link		= ethtool_op_get_link,
	.get_sset_count		= tarpit_get_sset_count,
	.get_strings		= tarpit_get_strings,
	.get_ethtool_stats	= tarpit_get_ethtool_stats,
	.get_priv_flags		= tarpit_get_priv_flags,
	.set_priv_flags		= tarpit_set_priv_flags,
};

static void tarpit_setup(struct net_device *dev)
{
	ether_setup(dev);
	dev->netdev_ops = &tarpit_netdev_ops;
	dev->ethtool_ops = &tarpit_ethtool_ops;
	dev->needs_free_netdev = true;
	dev->max_mtu = ETH_MAX_MTU;

	/* No neighbours, no groups, no queue: whatever comes is dealt with. */
	dev->flags |= IFF_NOARP;
	dev->flags &= ~IFF_MULTICAST;
	dev->priv_flags |= IFF_NO_QUEUE | IFF_LIVE_ADDR_CHANGE;
	dev->priv_flags &= ~IFF_TX_SKB_SHARING;
	tarpit_set_lltx(dev);
	netif_keep_dst(dev);

	/* Nothing has to be made ready for us, nor cut to size. */
	dev->features |= NETIF_F_SG | NETIF_F_FRAGLIST | NETIF_F_HIGHDMA |
			 NETIF_F_HW_CSUM | NETIF_F_GSO_SOFTWARE |
			 NETIF_F_HW_VLAN_CTAG_TX | NETIF_F_HW_VLAN_STAG_TX;
	eth_hw_addr_random(dev);
}

static struct rtnl_link_ops tarpit_link_ops __read_mostly = {
	.kind		= "tarpit",
	.priv_size	= sizeof(struct tarpit_dev),
	.setup		= tarpit_setup,
};

static int __init tarpit_init(void)
{
	return rtnl_link_register(&tarpit_link_ops);
}

static void __exit tarpit_exit(void)
{
	rtnl_link_unregister(&tarpit_link_ops);
}

module_init(tarpit_init);
module_exit(tarpit_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The tarpit-builder authors");
MODULE_DESCRIPTION("Network device that accepts TCP connections and holds them");
MODULE_VERSION(TARPIT_VERSION);
MODULE_ALIAS_RTNL_LINK("tarpit");
