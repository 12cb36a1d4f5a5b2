// SPDX-License-Identifier: GPL-2.0-only
/* 2.6.25: hooks have the same names in all families */
#include <linux/skbuff.h>
#include <linux/netfilter.h>

static inline int probe_NF_INET_LOCAL_IN(void)
{
	return NF_INET_LOCAL_IN;
}
