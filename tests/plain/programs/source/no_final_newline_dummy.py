print("ends here"); x = 1
