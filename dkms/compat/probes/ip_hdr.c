// SPDX-License-Identifier: GPL-2.0-only
/* 2.6.22: accessors of the headers in a packet */
#include <linux/skbuff.h>
#include <linux/ip.h>

static inline struct iphdr *probe_ip_hdr(const struct sk_buff *skb)
{
	return ip_hdr(skb);
}
