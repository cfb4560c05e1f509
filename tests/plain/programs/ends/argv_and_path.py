import sys; print(sys.argv[0], sys.path[0], __file__)
