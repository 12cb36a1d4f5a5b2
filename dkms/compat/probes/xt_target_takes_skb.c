// SPDX-License-Identifier: GPL-2.0-only
/* 2.6.24: a target gets the packet, not the address of its pointer */
#include <linux/skbuff.h>
#include <linux/netfilter/x_tables.h>

extern char xt_target_takes_skb[__builtin_types_compatible_p(
	typeof(((struct xt_target *)0)->target),
	unsigned int (*)(struct sk_buff **, const struct net_device *,
			 const struct net_device *, unsigned int,
			 const struct xt_target *, const void *)) ? -1 : 1];
