"""Stage one of a real base: a whole UNet, and the text encoder if wanted, on public pictures.

NOT private: nothing is clipped or noised, and the resulting base may remember any picture.
Hospitals' tiles belong only to stage two.
"""
