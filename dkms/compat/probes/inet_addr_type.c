// SPDX-License-Identifier: GPL-2.0-only
/* 2.6.25: it and ip_route_output_key() take the net namespace */
#include <linux/skbuff.h>
#include <net/route.h>

static inline unsigned int probe_inet_addr_type(struct net *net)
{
	return inet_addr_type(net, 0);
}
