// SPDX-License-Identifier: GPL-2.0-only
/* 6.17: dst->dev is read through dst_dev() */
#include <linux/skbuff.h>
#include <net/dst.h>

static inline struct net_device *probe_dst_dev(const struct dst_entry *dst)
{
	return dst_dev(dst);
}
