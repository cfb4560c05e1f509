import csv
import sys

writer = csv.DictWriter(sys.stdout, ["a", "b"])
writer.writeheader()
writer.writerow({"a": 'x"y', "b": "1,2"})
print(list(csv.reader(['1,"2,3"', "4"])))
