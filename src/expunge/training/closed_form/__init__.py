"""Models with a formula: an integer Gram matrix is the truth, everything else is a cache with a checkable residual."""
