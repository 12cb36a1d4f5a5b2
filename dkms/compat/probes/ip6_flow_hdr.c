// SPDX-License-Identifier: GPL-2.0-only
/* 3.10 */
#include <linux/skbuff.h>
#include <net/ipv6.h>

static inline void probe_ip6_flow_hdr(struct ipv6hdr *ip6h)
{
	ip6_flow_hdr(ip6h, 0, 0);
}
