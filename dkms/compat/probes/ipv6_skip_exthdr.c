// SPDX-License-Identifier: GPL-2.0-only
/* 3.3: tells about fragments */
#include <linux/skbuff.h>
#include <net/ipv6.h>

static inline int probe_ipv6_skip_exthdr(const struct sk_buff *skb,
					 u8 *nexthdr, __be16 *frag_off)
{
	return ipv6_skip_exthdr(skb, 40, nexthdr, frag_off);
}
