// SPDX-License-Identifier: GPL-2.0-only
/* 2.6.20: types for checksums; skb->nfmark became skb->mark in the same release */
#include <linux/skbuff.h>
#include <net/checksum.h>

static inline unsigned int probe_csum_unfold(void)
{
	return (unsigned int)csum_unfold(0);
}
