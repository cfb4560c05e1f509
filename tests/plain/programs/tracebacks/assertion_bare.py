assert not [1, 2]
