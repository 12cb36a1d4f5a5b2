/* 5.19: nftables does not look at a stolen packet when it traces (e34b9ed96ce3) */
#include <net/netfilter/nf_tables.h>

static inline int probe_nft_traceinfo(const struct nft_traceinfo *info)
{
	return info->nf_trace;
}
