import xml.no_such
