"""The neural networks: encoders, backbones, decoders."""
