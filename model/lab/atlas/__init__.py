"""What a model draws of each cancer type, and whether an encoder that never trained it agrees."""
