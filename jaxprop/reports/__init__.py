"""A report of a training run: one HTML file that holds everything it shows, without a script and without any request.

writing.py    `report`: what it takes, and the file       answers.py    how good the answers are, and the worst of them
health.py     how large errors and gradients are          page.py       the sections, as HTML
pictures.py   pictures inside of the page
"""

from jaxprop.reports.writing import Subject as Subject, report as report, write as write
