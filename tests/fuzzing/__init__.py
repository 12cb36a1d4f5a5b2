"""Tests of the fuzzer: what it makes, how it judges, and what becomes of findings."""
