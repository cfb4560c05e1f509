# /// plain
# normalize = ["seconds"]
# sample = true
# ///
import unittest


class Test(unittest.TestCase):
    def test_passes(self):
        self.assertTrue(True)

    def test_fails(self):
        self.assertEqual({"a": 1}, {"a": 2})

    def test_errors(self):
        raise ValueError("an error")

    def test_subtests(self):
        for n in range(3):
            with self.subTest(n=n):
                self.assertNotEqual(n, 1)


if __name__ == "__main__":
    unittest.main()
