WHO = "own"
