// SPDX-License-Identifier: GPL-2.0-only
/* 4.10: the device may be changed by who asks for it; RHEL 7 says it may not */
#include <linux/skbuff.h>
#include <linux/netfilter/x_tables.h>

static inline struct net_device *probe_xt_in(const struct xt_action_param *par)
{
	extern char xt_in_is_mutable[__builtin_types_compatible_p(
		typeof(xt_in(par)), struct net_device *) ? 1 : -1];

	return sizeof(xt_in_is_mutable) ? xt_in(par) : NULL;
}
