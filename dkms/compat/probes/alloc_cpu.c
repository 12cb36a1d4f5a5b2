// SPDX-License-Identifier: GPL-2.0-only
/* 5.19: a buffer knows the processor that allocated it */
#include <linux/skbuff.h>

static inline int probe_alloc_cpu(const struct sk_buff *skb)
{
	return skb->alloc_cpu;
}
