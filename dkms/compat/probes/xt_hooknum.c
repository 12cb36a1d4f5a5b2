// SPDX-License-Identifier: GPL-2.0-only
/* 4.10: struct xt_action_param points to the state of the hook */
#include <linux/skbuff.h>
#include <linux/netfilter/x_tables.h>

static inline unsigned int probe_xt_hooknum(const struct xt_action_param *par)
{
	return xt_hooknum(par);
}
