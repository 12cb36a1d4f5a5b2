// SPDX-License-Identifier: GPL-2.0-only
/* 5.0: what bridge netfilter knows is an extension of the packet */
#include <linux/skbuff.h>
#include <linux/netfilter_bridge.h>

#ifdef CONFIG_NETFILTER
static inline int probe_nf_bridge_info_exists(const struct sk_buff *skb)
{
	return nf_bridge_info_exists(skb);
}
#endif
