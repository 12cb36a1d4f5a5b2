"""The contract, line by line: one module for each group of checks."""
