// SPDX-License-Identifier: GPL-2.0-only
/* 6.3: conntrack is told of a reset */
#include <linux/skbuff.h>
#include <linux/netfilter.h>

static inline void probe_nf_ct_set_closing(struct nf_conntrack *nfct)
{
	nf_ct_set_closing(nfct);
}
