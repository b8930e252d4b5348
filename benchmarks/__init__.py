"""What flowcore costs, as ratios beside a floor measured in the same run. ``python -m benchmarks`` prints one table."""
