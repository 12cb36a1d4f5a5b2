/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Make an older kernel look like the newest one, as far as xt_TARPIT.c goes.
 *
 * TARPIT_HAVE_x comes from the probe of that name in probes/, which says
 * since when there is such a thing. Oldest first, because the later blocks
 * use the earlier ones. What this file does as a whole function instead of
 * the module's own it announces as TARPIT_COMPAT_x, of which there are seven:
 *
 *	TARPIT_COMPAT_BRIDGE	before 5.14: tarpit_bridge_tag
 *	TARPIT_COMPAT_CLEAR	before 5.19: tarpit_clear
 *	TARPIT_COMPAT_CONNTRACK	before 4.12: tarpit_attach_ct
 *	TARPIT_COMPAT_COUNTERS	before 4.18: tarpit_count
 *	TARPIT_COMPAT_POLICY	before 5.16: tarpit_has_policy
 *	TARPIT_COMPAT_RECYCLE	before 4.12: tarpit_recycle
 *	TARPIT_COMPAT_ROUTE	before 2.6.39: tarpit_route4, tarpit_route6
 *
 * TARPIT_IPV6 is set where the kernel has IPv6, TARPIT_CONNTRACK where it has
 * connection tracking, and TARPIT_BRIDGE where bridge netfilter can be dealt
 * with (from 5.0).
 * Headers that do not exist in older kernels are in include/, searched last.
 * entry.h has the target's entry points for kernels before 2.6.35.
 */
#ifndef _TARPIT_COMPAT_H
#define _TARPIT_COMPAT_H

#include "tarpit-probes.h"

/* What the target has and the device needs as well */
#ifdef TARPIT_DEVICE
#define TARPIT_SHARED
#else
#define TARPIT_SHARED static
#endif

#if defined(CONFIG_IPV6) || defined(CONFIG_IPV6_MODULE)
#define TARPIT_IPV6 1
#endif

#if defined(CONFIG_NF_CONNTRACK) || defined(CONFIG_NF_CONNTRACK_MODULE)
/* Before 5.1, the header does not compile without. */
#include <net/netfilter/nf_conntrack.h>
#define TARPIT_CONNTRACK 1
#endif

#ifndef TARPIT_HAVE_CSUM_UNFOLD
#define mark nfmark
#define csum_partial(buf, len, sum) \
	csum_partial((const unsigned char *)(buf), len, sum)

typedef u32 __wsum;
#endif

#ifndef TARPIT_HAVE_TCP_V4_CHECK
#define tcp_v4_check(len, saddr, daddr, base) \
	csum_tcpudp_magic(saddr, daddr, len, IPPROTO_TCP, base)
#endif

#ifndef TARPIT_HAVE_IP_HDR
#define ip_hdr(skb) ((skb)->nh.iph)
#define ip_hdrlen(skb) ((skb)->nh.iph->ihl * 4)
#define ipv6_hdr(skb) ((skb)->nh.ipv6h)
#define tcp_hdr(skb) ((skb)->h.th)
#define skb_reset_network_header(skb) ((skb)->nh.raw = (skb)->data)
#define skb_set_transport_header(skb, offset) \
	((skb)->h.raw = (skb)->data + (offset))
#endif

#ifndef TARPIT_HAVE_INIT_NET
struct net;
#endif

/* Without network namespaces, or before targets were told theirs */
#ifndef TARPIT_HAVE_XT_TGCHK_PARAM
#ifdef TARPIT_HAVE_INIT_NET
#define xt_net(par) (&init_net)
#else
#define xt_net(par) ((struct net *)NULL)
#endif

struct xt_action_param {
	const struct net_device *in;
	unsigned int hooknum;
	const void *targinfo;
};

struct xt_tgchk_param {
	const char *table;
	const void *entryinfo;
	const struct xt_target *target;
	void *targinfo;
};
#elif !defined(TARPIT_HAVE_XT_ACTION_PARAM)
#define xt_action_param xt_target_param
#endif

/* Everything of 2.6.25 that netfilter renamed or had added for it */
#ifndef TARPIT_HAVE_NF_INET_LOCAL_IN
#define NF_INET_LOCAL_IN NF_IP_LOCAL_IN
#define NF_INET_FORWARD NF_IP_FORWARD

#define ipv4_is_multicast MULTICAST
#define ipv4_is_lbcast(addr) ((addr) == htonl(INADDR_BROADCAST))
#define ipv4_is_zeronet ZERONET

#define ip_local_out(net, sk, skb) tarpit_ip_local_out(skb)
static inline int tarpit_ip_local_out(struct sk_buff *skb)
{
	ip_send_check(ip_hdr(skb));
	return NF_HOOK(PF_INET, NF_IP_LOCAL_OUT, skb, NULL, skb->dst->dev,
		       dst_output);
}

#define ip6_local_out(net, sk, skb) tarpit_ip6_local_out(skb)
static inline int tarpit_ip6_local_out(struct sk_buff *skb)
{
	return NF_HOOK(PF_INET6, NF_IP6_LOCAL_OUT, skb, NULL, skb->dst->dev,
		       dst_output);
}
#endif

/* 2.6.25 */
#ifndef __aligned
#define __aligned(x) __attribute__((aligned(x)))
#endif

#ifndef TARPIT_HAVE_NFPROTO_IPV4
#define NFPROTO_IPV4 AF_INET
#define NFPROTO_IPV6 AF_INET6
#endif

#ifndef TARPIT_HAVE_SKB_DST
#define skb_rtable(skb) ((struct rtable *)(skb)->dst)
#define skb_dst_set(skb, entry) ((skb)->dst = (entry))
#endif

#ifndef TCPHDR_FIN
#define TCPHDR_FIN 0x01
#define TCPHDR_SYN 0x02
#define TCPHDR_RST 0x04
#define TCPHDR_ACK 0x10
#endif

/* 2.6.36 */
#ifndef tcp_flag_byte
#define tcp_flag_byte(th) (((const u8 *)(th))[13])
#endif

#ifndef TARPIT_HAVE_FLOWI4
#define TARPIT_COMPAT_ROUTE 1

/* A source address that is not ours is allowed only if it is not part of
 * the question.
 */
static inline struct dst_entry *tarpit_route4(struct net *net,
					      struct sk_buff *skb,
					      struct net_device *in,
					      const struct tcphdr *tcph,
					      u32 mark)
{
	const struct iphdr *oiph = ip_hdr(skb);
	struct flowi fl = {
		.nl_u = { .ip4_u = { .daddr = oiph->saddr } },
		.proto = IPPROTO_TCP,
		.uli_u = { .ports = {
			.sport = tcph->source,
			.dport = tcph->dest,
		} },
	};
	struct rtable *rt;

#ifdef TARPIT_HAVE_INET_ADDR_TYPE
	if (inet_addr_type(net, oiph->daddr) == RTN_LOCAL)
		fl.fl4_src = oiph->daddr;
	if (ip_route_output_key(net, &rt, &fl))
		return NULL;
#else
	if (inet_addr_type(oiph->daddr) == RTN_LOCAL)
		fl.fl4_src = oiph->daddr;
	if (ip_route_output_key(&rt, &fl))
		return NULL;
#endif

	if (rt->rt_flags & (RTCF_BROADCAST | RTCF_MULTICAST)) {
		ip_rt_put(rt);
		return NULL;
	}
#ifdef TARPIT_HAVE_RTABLE
	return &rt->dst;
#else
	return &rt->u.dst;
#endif
}

#ifdef TARPIT_IPV6
/* Not exported before 2.6.38. Every device that has routes has settings. */
#define ip6_dst_hoplimit(dst) tarpit_ip6_hoplimit(dst)
static inline int tarpit_ip6_hoplimit(struct dst_entry *dst)
{
	int hoplimit = dst_metric(dst, RTAX_HOPLIMIT);
	const struct inet6_dev *idev;

	if (hoplimit > 0)
		return hoplimit;
	idev = __in6_dev_get(dst->dev);
	return idev ? idev->cnf.hop_limit : IPV6_DEFAULT_HOPLIMIT;
}

static inline struct dst_entry *tarpit_route6(struct net *net,
					      struct sk_buff *skb,
					      struct net_device *in,
					      const struct tcphdr *tcph,
					      u32 mark)
{
	const struct ipv6hdr *oip6h = ipv6_hdr(skb);
	struct flowi fl = {
		.nl_u = { .ip6_u = {
			.daddr = oip6h->saddr,
			.saddr = oip6h->daddr,
		} },
		.proto = IPPROTO_TCP,
		.uli_u = { .ports = {
			.sport = tcph->source,
			.dport = tcph->dest,
		} },
	};
	struct dst_entry *dst;

	if (ipv6_addr_type(&oip6h->saddr) & IPV6_ADDR_LINKLOCAL)
		fl.oif = IP6CB(skb)->iif;

#ifdef TARPIT_HAVE_IP6_ROUTE_OUTPUT
	dst = ip6_route_output(net, NULL, &fl);
#else
	dst = ip6_route_output(NULL, &fl);
#endif
	if (dst->error) {
		dst_release(dst);
		return NULL;
	}

#ifdef TARPIT_HAVE_XFRM_LOOKUP
	if (xfrm_lookup(net, &dst, &fl, NULL, 0))
		return NULL;
#else
	if (xfrm_lookup(&dst, &fl, NULL, 0))
		return NULL;
#endif
	return dst;
}
#endif
#endif

#ifndef TARPIT_HAVE_IP4_DST_HOPLIMIT
static inline int ip4_dst_hoplimit(struct dst_entry *dst)
{
	return dst_metric(dst, RTAX_HOPLIMIT);
}
#endif

/* 2.6.37 */
#ifndef pr_info_ratelimited
#define pr_info_ratelimited(fmt, ...) \
	printk(KERN_INFO "xt_TARPIT: " fmt, ##__VA_ARGS__)
#endif

#ifndef TARPIT_HAVE_IP_IS_FRAGMENT
static inline bool ip_is_fragment(const struct iphdr *iph)
{
	return (iph->frag_off & htons(IP_MF | IP_OFFSET)) != 0;
}
#endif

/* Of a fragment, the checksum cannot be right. */
#ifndef TARPIT_HAVE_IPV6_SKIP_EXTHDR
#define ipv6_skip_exthdr(skb, start, nexthdr, frag_off) \
	(*(frag_off) = 0, ipv6_skip_exthdr(skb, start, nexthdr))
#endif

#ifndef TARPIT_HAVE_TCP_V6_CHECK
#define tcp_v6_check(len, saddr, daddr, base) \
	csum_ipv6_magic((struct in6_addr *)(saddr), \
			(struct in6_addr *)(daddr), len, IPPROTO_TCP, base)
#endif

#ifndef TARPIT_HAVE_IP6_FLOW_HDR
static inline void ip6_flow_hdr(struct ipv6hdr *ip6h, unsigned int tclass,
				__be32 flowlabel)
{
	*(__be32 *)ip6h = htonl(0x60000000 | tclass << 20) | flowlabel;
}
#endif

/* 3.16: the fwmark_reflect sysctl */
#ifndef IP4_REPLY_MARK
#define IP4_REPLY_MARK(net, mark) 0
#define IP6_REPLY_MARK(net, mark) 0
#endif

/* 4.1 */
#ifndef offsetofend
#define offsetofend(type, member) \
	(offsetof(type, member) + sizeof(((type *)0)->member))
#endif

#if !defined(TARPIT_HAVE_IP_LOCAL_OUT) && defined(TARPIT_HAVE_NF_INET_LOCAL_IN)
#define ip_local_out(net, sk, skb) ip_local_out(skb)
#define ip6_local_out(net, sk, skb) ip6_local_out(skb)
#endif

#ifndef TARPIT_HAVE_XT_HOOKNUM
#define xt_hooknum(par) ((par)->hooknum)
#define xt_in(par) ((struct net_device *)(par)->in)
#ifndef xt_net
#define xt_net(par) dev_net((par)->in)
#endif
#elif !defined(TARPIT_HAVE_XT_IN)
#define xt_in(par) ((struct net_device *)xt_in(par))
#endif

/* An untracked packet has an entry here, which can be attached like any
 * other. A packet without one gets a reply without one.
 */
#ifndef TARPIT_HAVE_IP_CT_UNTRACKED
#define TARPIT_COMPAT_CONNTRACK 1
#define TARPIT_COMPAT_RECYCLE 1
#define tarpit_note_caller(par) do { } while (0)

static inline struct sk_buff *tarpit_recycle(struct sk_buff *skb,
					     unsigned int headroom,
					     unsigned int len)
{
	return NULL;
}

static inline void tarpit_attach_ct(struct sk_buff *nskb,
				    struct sk_buff *oldskb)
{
	nf_ct_attach(nskb, oldskb);
}
#endif

#if defined(TARPIT_HAVE_NF_BRIDGE_INFO_EXISTS) && !defined(TARPIT_FOR_DEVICE)
#if defined(CONFIG_BRIDGE_NETFILTER) || \
	defined(CONFIG_BRIDGE_NETFILTER_MODULE)
#define TARPIT_BRIDGE 1
#endif
#endif

/* A bridge that filters VLANs cannot be asked for a port's. */
#ifndef TARPIT_HAVE_BR_VLAN_GET_INFO_RCU
#define TARPIT_COMPAT_BRIDGE 1
#define tarpit_put_bridge() do { } while (0)

#ifdef TARPIT_BRIDGE
static inline bool tarpit_bridge_tag(struct sk_buff *nskb,
				     const struct sk_buff *oldskb)
{
#ifdef CONFIG_BRIDGE_VLAN_FILTERING
	struct net_device *bridge = netdev_master_upper_dev_get_rcu(nskb->dev);
	typeof(br_vlan_enabled) *enabled = symbol_get(br_vlan_enabled);
	bool filters = true;

	if (enabled) {
		filters = !bridge || enabled(bridge);
		symbol_put(br_vlan_enabled);
	}
	if (filters)
		return false;
#endif
	__vlan_hwaccel_copy_tag(nskb, oldskb);
	return true;
}
#endif
#endif

/* 4.18 */
#ifndef TARPIT_HAVE_PROC_CREATE_NET_SINGLE
#define TARPIT_COMPAT_COUNTERS 1
#define tarpit_count(net, reply) do { } while (0)
#define tarpit_init_counters() 0
#define tarpit_exit_counters() do { } while (0)
#endif

/* 4.19: whether the random number generator has been seeded */
#ifndef TARPIT_HAVE_RNG_IS_INITIALIZED
#define rng_is_initialized() true
#endif

/* 5.3 */
#ifndef in_dev_for_each_ifa_rcu
#define in_dev_for_each_ifa_rcu(ifa, in_dev) \
	for (ifa = (in_dev)->ifa_list; ifa; ifa = ifa->ifa_next)
#endif

#ifndef TARPIT_HAVE_FLOWI4_TO_FLOWI_COMMON
#define flowi4_to_flowi_common flowi4_to_flowi
#define flowi6_to_flowi_common flowi6_to_flowi
#endif

/* 5.4 */
#if !defined(TARPIT_HAVE_SKB_EXT_RESET) && !defined(TARPIT_COMPAT_RECYCLE)
static inline void skb_ext_reset(struct sk_buff *skb)
{
#ifdef CONFIG_SKB_EXTENSIONS
	skb_ext_put(skb);
	skb->active_extensions = 0;
#else
	secpath_reset(skb);
#if defined(CONFIG_BRIDGE_NETFILTER) || defined(CONFIG_BRIDGE_NETFILTER_MODULE)
	nf_bridge_put(skb->nf_bridge);
	skb->nf_bridge = NULL;
#endif
#endif
}
#endif

/* Whatever there is, IPsec is asked. */
#ifndef TARPIT_HAVE_XFRM_POLICY_DEFAULT
#define TARPIT_COMPAT_POLICY 1
static inline bool tarpit_has_policy(const struct net *net)
{
	return true;
}
#endif

/* The group of headers had no name before 5.16. In earlier ones is a bit that
 * belongs to the memory.
 */
#ifndef TARPIT_HAVE_ALLOC_CPU
#define TARPIT_COMPAT_CLEAR 1
#ifndef TARPIT_COMPAT_RECYCLE
static inline void tarpit_clear(struct sk_buff *skb)
{
#ifdef TARPIT_HAVE_HEADERS_START
	const bool pfmemalloc = skb->pfmemalloc;

	memset(skb->headers_start, 0, offsetof(struct sk_buff, headers_end) -
				      offsetof(struct sk_buff, headers_start));
	skb->pfmemalloc = pfmemalloc;
#else
	memset(&skb->headers, 0, sizeof(skb->headers));
#endif
}
#endif
#endif

/* Before, REJECT did not tell conntrack either. */
#ifndef TARPIT_HAVE_NF_CT_SET_CLOSING
#define nf_ct_set_closing(nfct) do { } while (0)
#endif

/* Older nftables, when it traces, looks at a packet once more after the
 * verdict, stolen or not. Rules of iptables-legacy are safe.
 */
#ifdef TARPIT_FOR_DEVICE
/* has no verdict */
#elif defined(TARPIT_HAVE_NFT_TRACEINFO)
#define tarpit_steal(skb) (skb)
#define tarpit_note_caller(par) do { } while (0)
#elif defined(TARPIT_HAVE_IP_CT_UNTRACKED)
static bool tarpit_under_nft __read_mostly;

static inline struct sk_buff *tarpit_steal(struct sk_buff *skb)
{
	return READ_ONCE(tarpit_under_nft) ? skb_clone(skb, GFP_ATOMIC) : skb;
}

static inline void tarpit_note_caller(const struct xt_tgchk_param *par)
{
	if (par->nft_compat)
		WRITE_ONCE(tarpit_under_nft, true);
}
#endif

#ifndef TARPIT_HAVE_FLOWI4_L3MDEV
#define flowi4_l3mdev flowi4_oif
#define flowi6_l3mdev flowi6_oif
#endif

#ifndef TARPIT_HAVE_NF_BRIDGE_GET_PHYSINDEV
#define nf_bridge_get_physindev(skb, net) nf_bridge_get_physindev(skb)
#endif

/* For the device only */
#ifdef TARPIT_DEVICE
#ifndef TARPIT_HAVE_NF_RESET_CT
#define nf_reset_ct(skb) nf_reset(skb)
#endif

/* 6.12 */
#ifdef TARPIT_HAVE_LLTX
#define tarpit_set_lltx(dev) ((dev)->lltx = true)
#else
#define tarpit_set_lltx(dev) ((dev)->features |= NETIF_F_LLTX)
#endif
#endif

#ifndef TARPIT_HAVE_DST_DEV
static inline struct net_device *dst_dev(const struct dst_entry *dst)
{
	return dst->dev;
}
#endif

#endif /* _TARPIT_COMPAT_H */
