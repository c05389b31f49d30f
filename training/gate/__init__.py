"""Whether a candidate may replace a champion: evaluations in, a verdict out."""
