# /// plain
# normalize = ["seconds"]
# ///
import unittest


class Test(unittest.TestCase):
    def test_one(self):
        print("printed")

    @unittest.expectedFailure
    def test_expected(self):
        self.fail()


unittest.main(verbosity=2, exit=False)
print("after")
