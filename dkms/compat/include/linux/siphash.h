/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * SipHash-2-4 with the kernel's interface, for kernels before 4.11.
 *
 * After J.-P. Aumasson and D. J. Bernstein, "SipHash: a fast short-input
 * PRF", 2012. The data is aligned to SIPHASH_ALIGNMENT.
 */
#ifndef _TARPIT_LINUX_SIPHASH_H
#define _TARPIT_LINUX_SIPHASH_H

#include <linux/string.h>
#include <linux/types.h>
#include <asm/byteorder.h>

#define SIPHASH_ALIGNMENT 8

typedef struct {
	u64 key[2];
} siphash_key_t;

static inline u64 siphash_rol(u64 word, int bits)
{
	return word << bits | word >> (64 - bits);
}

static inline void siphash_rounds(u64 v[4], int rounds)
{
	while (rounds--) {
		v[0] += v[1];
		v[2] += v[3];
		v[1] = siphash_rol(v[1], 13) ^ v[0];
		v[3] = siphash_rol(v[3], 16) ^ v[2];
		v[0] = siphash_rol(v[0], 32);
		v[2] += v[1];
		v[0] += v[3];
		v[1] = siphash_rol(v[1], 17) ^ v[2];
		v[3] = siphash_rol(v[3], 21) ^ v[0];
		v[2] = siphash_rol(v[2], 32);
	}
}

static inline void siphash_word(u64 v[4], u64 word)
{
	v[3] ^= word;
	siphash_rounds(v, 2);
	v[0] ^= word;
}

static inline u64 siphash(const void *data, size_t len,
			  const siphash_key_t *key)
{
	u64 v[4] = {
		key->key[0] ^ 0x736f6d6570736575ULL,
		key->key[1] ^ 0x646f72616e646f6dULL,
		key->key[0] ^ 0x6c7967656e657261ULL,
		key->key[1] ^ 0x7465646279746573ULL,
	};
	u64 last = (u64)len << 56;
	const u8 *bytes = data;
	size_t left;

	for (left = len; left >= 8; left -= 8, bytes += 8)
		siphash_word(v, le64_to_cpup((const __le64 *)bytes));
	while (left--)
		last |= (u64)bytes[left] << left * 8;
	siphash_word(v, last);

	v[2] ^= 0xff;
	siphash_rounds(v, 4);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static inline u64 siphash_3u32(u32 first, u32 second, u32 third,
			       const siphash_key_t *key)
{
	__le32 words[3] __attribute__((aligned(SIPHASH_ALIGNMENT))) = {
		cpu_to_le32(first), cpu_to_le32(second), cpu_to_le32(third),
	};

	return siphash(words, sizeof(words), key);
}

#endif /* _TARPIT_LINUX_SIPHASH_H */
