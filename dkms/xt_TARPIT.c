// SPDX-License-Identifier: GPL-2.0-only
/*
 * xt_TARPIT: answer TCP connections from within the firewall, and hold them.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt
#include <linux/if_bridge.h>
#include <linux/if_vlan.h>
#include <linux/module.h>
#include <linux/netdevice.h>
#include <linux/netfilter_bridge.h>
#include <linux/netfilter/x_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <linux/proc_fs.h>
#include <linux/ratelimit.h>
#include <linux/security.h>
#include <linux/seq_file_net.h>
#include <linux/skbuff.h>
#include <net/dst.h>
#include <net/ip.h>
#include <net/ip6_route.h>
#include <net/ipv6.h>
#include <net/l3mdev.h>
#include <net/net_namespace.h>
#include <net/netns/generic.h>
#include <net/route.h>
#include <net/xfrm.h>

#include "tarpit_core.h"

#ifdef TARPIT_DEVICE
EXPORT_SYMBOL_GPL(tarpit_key);
EXPORT_SYMBOL_GPL(tarpit_has_key);
EXPORT_SYMBOL_GPL(tarpit_draw_key);
#endif

#ifndef TARPIT_COMPAT_COUNTERS
/* Answers by kind, and silence by reason */
struct tarpit_counts {
	unsigned long replies[TARPIT_REPLIES];
};

struct tarpit_net {
	struct tarpit_counts __percpu *counts;
};

static unsigned int tarpit_net_id __read_mostly;

static void tarpit_count(const struct net *net, enum tarpit_reply reply)
{
	/* net_generic() would lock once more what every hook has locked. */
	const struct tarpit_net *tn =
		rcu_dereference(net->gen)->ptr[tarpit_net_id];

	this_cpu_inc(tn->counts->replies[reply]);
}

/* As lnstat reads it: a row for each processor, in hexadecimal. It takes the
 * first column for the number of things kept, of which there are none.
 */
static int __maybe_unused tarpit_show(struct seq_file *seq, void *unused)
{
	static const char * const names[] = { TARPIT_REPLY_NAMES };
	const struct tarpit_net *tn = net_generic(seq_file_single_net(seq),
						  tarpit_net_id);
	const struct tarpit_counts *counts;
	unsigned int i;
	int cpu;

	BUILD_BUG_ON(ARRAY_SIZE(names) != TARPIT_REPLIES);
	seq_puts(seq, "entries");
	for (i = 0; i < TARPIT_REPLIES; i++)
		seq_printf(seq, " %s", names[i]);
	seq_putc(seq, '\n');

	for_each_possible_cpu(cpu) {
		counts = per_cpu_ptr(tn->counts, cpu);
		seq_puts(seq, "00000000");
		for (i = 0; i < TARPIT_REPLIES; i++)
			seq_printf(seq, " %08lx",
				   READ_ONCE(counts->replies[i]));
		seq_putc(seq, '\n');
	}
	return 0;
}

static int __net_init tarpit_net_init(struct net *net)
{
	struct tarpit_net *tn = net_generic(net, tarpit_net_id);

	tn->counts = alloc_percpu(struct tarpit_counts);
	if (!tn->counts)
		return -ENOMEM;

	if (IS_ENABLED(CONFIG_PROC_FS) &&
	    !proc_create_net_single("xt_TARPIT", 0444, net->proc_net_stat,
				    tarpit_show, NULL)) {
		free_percpu(tn->counts);
		return -ENOMEM;
	}
	return 0;
}

static void __net_exit tarpit_net_exit(struct net *net)
{
	const struct tarpit_net *tn = net_generic(net, tarpit_net_id);

	remove_proc_entry("xt_TARPIT", net->proc_net_stat);
	free_percpu(tn->counts);
}

static struct pernet_operations tarpit_net_ops = {
	.init	= tarpit_net_init,
	.exit	= tarpit_net_exit,
	.id	= &tarpit_net_id,
	.size	= sizeof(struct tarpit_net),
};

static int __init tarpit_init_counters(void)
{
	return register_pernet_subsys(&tarpit_net_ops);
}

static void tarpit_exit_counters(void)
{
	unregister_pernet_subsys(&tarpit_net_ops);
}
#endif

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

#ifndef TARPIT_COMPAT_RECYCLE
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

	tarpit_renew(skb);
	tarpit_attach_ct(skb, skb);
	return skb;
}
#endif

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

#ifndef TARPIT_COMPAT_ROUTE
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

	/* Whoever sees that it is there sees all of it; pairs with below. */
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
			/* pairs with the acquire above */
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

static bool tarpit_bridge_xmit(struct net *net, struct sk_buff *nskb,
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
	return true;

free_nskb:
	kfree_skb(nskb);
	return false;
}

static noinline enum tarpit_reply
tarpit_bridge4(struct net *net, const struct sk_buff *oldskb,
	       const struct net_device *bridge, enum tarpit_reply kind,
	       const struct tarpit_segment *reply, unsigned int len)
{
	const struct iphdr *oiph = ip_hdr(oldskb);
	struct sk_buff *nskb;

	if (tarpit_is_broadcast(bridge, oiph->saddr, oiph->daddr))
		return TARPIT_ADDRESS;

	nskb = tarpit_alloc(LL_MAX_HEADER, sizeof(struct iphdr) + len);
	if (!nskb)
		return TARPIT_NO_MEMORY;

	tarpit_put4(nskb, oiph->daddr, oiph->saddr,
		    READ_ONCE(net->ipv4.sysctl_ip_default_ttl), reply, len);
	ip_send_check(ip_hdr(nskb));
	return tarpit_bridge_xmit(net, nskb, oldskb) ? kind : TARPIT_NO_ROUTE;
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

static enum tarpit_reply
tarpit_bridge4(struct net *net, const struct sk_buff *oldskb,
	       const struct net_device *bridge, enum tarpit_reply kind,
	       const struct tarpit_segment *reply, unsigned int len)
{
	return kind;
}
#endif

static unsigned int
tarpit_tg4(struct sk_buff *skb, const struct xt_action_param *par)
{
	const struct xt_tarpit_tginfo *info = par->targinfo;
	const struct iphdr *iph = ip_hdr(skb);
	__be32 saddr = iph->daddr, daddr = iph->saddr;
	struct net *net = xt_net(par);
	unsigned int verdict = NF_DROP;
	struct tarpit_segment reply;
	const struct rtable *rt;
	enum tarpit_reply kind;
	struct dst_entry *dst;
	struct sk_buff *nskb;
	unsigned int len;
	u32 mark;

	if (unlikely(skb->pkt_type != PACKET_HOST)) {
		kind = TARPIT_ADDRESS;
		goto out;
	}

	kind = tarpit_answer4(&reply, &len, info->variant, skb, iph,
			      xt_hooknum(par));
	if (unlikely(!tarpit_is_answer(kind)))
		goto out;

	if (kind == TARPIT_RESET)
		nf_ct_set_closing(skb_nfct(skb));

	if (unlikely(tarpit_is_bridged(skb))) {
		kind = tarpit_bridge4(net, skb, xt_in(par), kind, &reply, len);
		goto out;
	}

	rt = skb_rtable(skb);
	if (unlikely(!rt || (rt->rt_type != RTN_LOCAL &&
			     rt->rt_type != RTN_UNICAST))) {
		kind = TARPIT_ADDRESS;
		goto out;
	}

	mark = IP4_REPLY_MARK(net, skb->mark);
	dst = tarpit_route4(net, skb, xt_in(par), &reply.th, mark);
	if (unlikely(!dst)) {
		kind = TARPIT_NO_ROUTE;
		goto out;
	}

	nskb = tarpit_skb(skb, dst, mark, sizeof(*iph) + len);
	if (unlikely(!nskb)) {
		kind = TARPIT_NO_MEMORY;
		goto out;
	}

	if (nskb == skb)
		verdict = NF_STOLEN;
	tarpit_put4(nskb, saddr, daddr, ip4_dst_hoplimit(dst), &reply,
		    len);
	ip_local_out(net, NULL, nskb);
out:
	tarpit_count(net, kind);
	return verdict;
}

#ifdef TARPIT_IPV6
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

#ifdef TARPIT_BRIDGE
static noinline enum tarpit_reply
tarpit_bridge6(struct net *net, const struct sk_buff *oldskb,
	       enum tarpit_reply kind, const struct tarpit_segment *reply,
	       unsigned int len)
{
	const struct ipv6hdr *oip6h = ipv6_hdr(oldskb);
	struct sk_buff *nskb;

	nskb = tarpit_alloc(LL_MAX_HEADER, sizeof(struct ipv6hdr) + len);
	if (!nskb)
		return TARPIT_NO_MEMORY;

	tarpit_put6(nskb, &oip6h->daddr, &oip6h->saddr,
		    READ_ONCE(net->ipv6.devconf_all->hop_limit), reply, len);
	return tarpit_bridge_xmit(net, nskb, oldskb) ? kind : TARPIT_NO_ROUTE;
}
#else
static enum tarpit_reply
tarpit_bridge6(struct net *net, const struct sk_buff *oldskb,
	       enum tarpit_reply kind, const struct tarpit_segment *reply,
	       unsigned int len)
{
	return kind;
}
#endif

static unsigned int
tarpit_tg6(struct sk_buff *skb, const struct xt_action_param *par)
{
	const struct xt_tarpit_tginfo *info = par->targinfo;
	const struct ipv6hdr *ip6h = ipv6_hdr(skb);
	struct in6_addr saddr = ip6h->daddr, daddr = ip6h->saddr;
	struct net *net = xt_net(par);
	unsigned int verdict = NF_DROP;
	struct tarpit_segment reply;
	enum tarpit_reply kind;
	struct dst_entry *dst;
	struct sk_buff *nskb;
	unsigned int len;
	u32 mark;

	if (unlikely(skb->pkt_type != PACKET_HOST)) {
		kind = TARPIT_ADDRESS;
		goto out;
	}

	kind = tarpit_answer6(&reply, &len, info->variant, skb, ip6h,
			      xt_hooknum(par));
	if (unlikely(!tarpit_is_answer(kind)))
		goto out;

	if (kind == TARPIT_RESET)
		nf_ct_set_closing(skb_nfct(skb));

	if (unlikely(tarpit_is_bridged(skb))) {
		kind = tarpit_bridge6(net, skb, kind, &reply, len);
		goto out;
	}

	mark = IP6_REPLY_MARK(net, skb->mark);
	dst = tarpit_route6(net, skb, xt_in(par), &reply.th, mark);
	if (unlikely(!dst)) {
		kind = TARPIT_NO_ROUTE;
		goto out;
	}

	nskb = tarpit_skb(skb, dst, mark, sizeof(*ip6h) + len);
	if (unlikely(!nskb)) {
		kind = TARPIT_NO_MEMORY;
		goto out;
	}

	if (nskb == skb)
		verdict = NF_STOLEN;
	tarpit_put6(nskb, &saddr, &daddr, ip6_dst_hoplimit(dst), &reply,
		    len);
	ip6_local_out(net, NULL, nskb);
out:
	tarpit_count(net, kind);
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
	int err;

	err = tarpit_init_counters();
	if (err)
		return err;

	err = xt_register_targets(tarpit_tg_reg, ARRAY_SIZE(tarpit_tg_reg));
	if (err)
		tarpit_exit_counters();
	return err;
}

static void __exit tarpit_tg_exit(void)
{
	xt_unregister_targets(tarpit_tg_reg, ARRAY_SIZE(tarpit_tg_reg));
	tarpit_put_bridge();
	tarpit_exit_counters();
}

module_init(tarpit_tg_init);
module_exit(tarpit_tg_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The tarpit-builder authors");
MODULE_DESCRIPTION("Xtables: accept TCP connections and hold them (TARPIT)");
MODULE_VERSION(TARPIT_VERSION);
MODULE_ALIAS("ipt_TARPIT");
MODULE_ALIAS("ip6t_TARPIT");
