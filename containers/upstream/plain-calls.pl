#!/usr/bin/perl
# SPDX-License-Identifier: GPL-2.0-only
#
# plain-calls.pl MODULE: mark calls the way that every module loader knows.
#
# Since binutils 2.31 the assembler marks them R_X86_64_PLT32 (4).  Without a procedure linkage
# table, and modules have none, that means the same as R_X86_64_PC32 (2), which it wrote before.
use strict;
use warnings;

use constant { ELF64_LITTLE => "\x7fELF\x02\x01", SHT_RELA => 4, PC32 => 2, PLT32 => 4 };

my ($path) = @ARGV;
open my $file, '+<:raw', $path or die "$path: $!\n";
my $image = do { local $/; <$file> };
die "$path is no object file of 64 bits\n" unless substr($image, 0, 6) eq ELF64_LITTLE;

my ($sections) = unpack 'x40 Q<', $image;
my ($size, $count) = unpack 'x58 v v', $image;
for my $number (0 .. $count - 1) {
	my ($type, $offset, $length) =
		unpack 'x4 V x16 Q< Q<', substr $image, $sections + $number * $size, $size;
	next unless $type == SHT_RELA;
	for (my $entry = $offset; $entry < $offset + $length; $entry += 24) {
		substr($image, $entry + 8, 4) = pack 'V', PC32
			if unpack('V', substr $image, $entry + 8, 4) == PLT32;
	}
}
seek $file, 0, 0;
print {$file} $image;
close $file or die "$path: $!\n";
