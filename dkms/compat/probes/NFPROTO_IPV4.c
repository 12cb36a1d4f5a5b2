// SPDX-License-Identifier: GPL-2.0-only
/* 2.6.28 */
#include <linux/skbuff.h>
#include <linux/netfilter.h>

static inline int probe_NFPROTO_IPV4(void)
{
	return NFPROTO_IPV4;
}
