// SPDX-License-Identifier: GPL-2.0-only
/* 2.6.36: rt->u.dst became rt->dst */
#include <linux/skbuff.h>
#include <net/route.h>

static inline struct dst_entry *probe_rtable(struct rtable *rt)
{
	return &rt->dst;
}
