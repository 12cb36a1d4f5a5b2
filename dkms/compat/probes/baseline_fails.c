// SPDX-License-Identifier: GPL-2.0-only
/* Must not compile: if it does, errors go unnoticed. */
static inline int probe_baseline_fails(void)
{
	return baseline_fails();
}
