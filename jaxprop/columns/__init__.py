"""What the columns of a table are, and how they become numbers: numbers, categories, booleans and dates.

A `Table` describes the columns of x. It is chosen from training rows alone, it is saved inside the model as plain JSON,
and `encode` is a pure function of it: the same rows give the same features in training, in `jaxprop predict` and on a
server. This room knows numpy, and no layer.
"""

from jaxprop.columns.boolean import Boolean as Boolean
from jaxprop.columns.category import Category as Category
from jaxprop.columns.date import Date as Date
from jaxprop.columns.number import Number as Number
from jaxprop.columns.table import Table as Table
