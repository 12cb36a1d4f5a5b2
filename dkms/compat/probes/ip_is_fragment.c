// SPDX-License-Identifier: GPL-2.0-only
/* 3.0 */
#include <linux/skbuff.h>
#include <net/ip.h>

static inline int probe_ip_is_fragment(const struct iphdr *iph)
{
	return ip_is_fragment(iph);
}
