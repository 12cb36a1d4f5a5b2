// SPDX-License-Identifier: GPL-2.0-only
/* 6.8 and stable releases: looks the device up in a net namespace */
#include <linux/skbuff.h>
#include <linux/netfilter_bridge.h>

#if defined(CONFIG_BRIDGE_NETFILTER) || \
	defined(CONFIG_BRIDGE_NETFILTER_MODULE)
static inline struct net_device *
probe_nf_bridge_get_physindev(const struct sk_buff *skb, struct net *net)
{
	return nf_bridge_get_physindev(skb, net);
}
#endif
