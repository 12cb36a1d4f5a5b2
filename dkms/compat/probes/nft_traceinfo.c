// SPDX-License-Identifier: GPL-2.0-only
/* 5.19: nftables, when it traces, leaves stolen packets alone; as if there is none */
#include <linux/skbuff.h>
#if defined(CONFIG_NF_TABLES) || defined(CONFIG_NF_TABLES_MODULE)
#include <net/netfilter/nf_tables.h>

static inline int probe_nft_traceinfo(const struct nft_traceinfo *info)
{
	return info->nf_trace;
}
#endif
