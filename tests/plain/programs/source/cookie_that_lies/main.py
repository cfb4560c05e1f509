#!/usr/bin/python
# coding: utf-8
# é
