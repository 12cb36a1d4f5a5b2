// SPDX-License-Identifier: GPL-2.0-only
/* 6.11: skb_set_delivery_time() takes a clock instead of a flag */
#include <linux/skbuff.h>

static inline int probe_SKB_CLOCK_REALTIME(void)
{
	return SKB_CLOCK_REALTIME;
}
