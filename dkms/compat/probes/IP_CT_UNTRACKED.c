// SPDX-License-Identifier: GPL-2.0-only
/* 4.12: untracked is a state, not an entry */
#include <linux/skbuff.h>
#include <linux/netfilter/nf_conntrack_common.h>

static inline int probe_IP_CT_UNTRACKED(void)
{
	return IP_CT_UNTRACKED;
}
