// SPDX-License-Identifier: GPL-2.0-only
/* Must compile: if it does not, neither would anything else. */
#include <linux/skbuff.h>

static inline unsigned int probe_baseline_passes(const struct sk_buff *skb)
{
	return skb->len;
}
