// SPDX-License-Identifier: GPL-2.0-only
/* 5.4: drops all extensions */
#include <linux/skbuff.h>

static inline void probe_skb_ext_reset(struct sk_buff *skb)
{
	skb_ext_reset(skb);
}
