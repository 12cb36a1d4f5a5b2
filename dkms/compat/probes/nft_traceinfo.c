// SPDX-License-Identifier: GPL-2.0-only
/* 5.19: nftables, when it traces, leaves stolen packets alone */
#include <linux/skbuff.h>
#include <net/netfilter/nf_tables.h>

static inline int probe_nft_traceinfo(const struct nft_traceinfo *info)
{
	return info->nf_trace;
}
