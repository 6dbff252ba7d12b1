"""The transfer benchmarks of Lurz et al. 2021."""
