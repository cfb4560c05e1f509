'''I am the docstring.'''
print(__doc__)
