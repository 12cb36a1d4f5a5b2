/* SPDX-License-Identifier: GPL-2.0-only */
/* From 2.6.26; before that there is nothing to include for printk(). */
