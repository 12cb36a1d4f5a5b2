// SPDX-License-Identifier: GPL-2.0-only
/* 2.6.38: the default TTL is not copied to every route */
#include <linux/skbuff.h>
#include <net/route.h>

static inline int probe_ip4_dst_hoplimit(struct dst_entry *dst)
{
	return ip4_dst_hoplimit(dst);
}
