// SPDX-License-Identifier: GPL-2.0-only
/* 2.6.26: takes the net namespace */
#include <linux/skbuff.h>
#include <net/ip6_route.h>

static inline struct dst_entry *probe_ip6_route_output(struct net *net)
{
	return ip6_route_output(net, NULL, NULL);
}
