// SPDX-License-Identifier: GPL-2.0-only
/* 2.6.31: skb->dst became a number with flags */
#include <linux/skbuff.h>

static inline struct dst_entry *probe_skb_dst(const struct sk_buff *skb)
{
	return skb_dst(skb);
}
