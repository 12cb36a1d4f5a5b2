// SPDX-License-Identifier: GPL-2.0-only
/* 5.9: accessors of the conntrack entry of a packet */
#include <linux/skbuff.h>

static inline void probe_skb_set_nfct(struct sk_buff *skb)
{
	skb_set_nfct(skb, 0);
}
