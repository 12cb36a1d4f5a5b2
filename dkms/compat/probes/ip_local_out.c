// SPDX-License-Identifier: GPL-2.0-only
/* 4.4: sending takes the net namespace and the socket */
#include <linux/skbuff.h>
#include <net/ip.h>

static inline int probe_ip_local_out(struct net *net, struct sk_buff *skb)
{
	return ip_local_out(net, NULL, skb);
}
