import collections

collections.dequee
