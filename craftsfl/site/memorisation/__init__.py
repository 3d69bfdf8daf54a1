"""`craftsfl site memorisation`: has a released generator learnt this site's tiles by heart?"""
