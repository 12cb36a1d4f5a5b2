// SPDX-License-Identifier: GPL-2.0-only
/* 5.18: skb->tstamp can be a delivery time, and says so in another field */
#include <linux/skbuff.h>

static inline void probe_skb_set_delivery_time(struct sk_buff *skb)
{
	skb_set_delivery_time(skb, 0, 0);
}
