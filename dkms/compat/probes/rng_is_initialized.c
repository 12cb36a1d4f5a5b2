// SPDX-License-Identifier: GPL-2.0-only
/* 4.19: tells modules whether there is randomness yet */
#include <linux/skbuff.h>
#include <linux/random.h>

static inline bool probe_rng_is_initialized(void)
{
	return rng_is_initialized();
}
