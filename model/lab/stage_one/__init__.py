"""Stage one of a real base: a whole UNet, and the text encoder if wanted, on public pictures.

NOT private: nothing is clipped or noised, and the base that comes out may remember any picture.
Hospitals' tiles belong to stage two alone.
"""
