"""Tests of the proof: does it see what is there, and does it see what is wrong?"""
