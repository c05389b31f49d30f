"""What a correction, a draft and a split are, and the errors shown to users. Knows nothing else of ours."""
