"""A benchmark's rows as the paper's figures, tables and findings."""
