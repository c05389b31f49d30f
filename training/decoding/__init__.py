"""From a decoder's probabilities to captions."""
