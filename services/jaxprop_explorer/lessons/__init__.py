"""Lessons: every row of the article as a lesson, exercises, and a course in one sitting. Python computes everything."""

from collections.abc import Mapping

from jaxprop.errors import JaxpropError
from jaxprop_explorer.lessons import (
    chapter_1,
    chapter_2,
    chapter_3,
    chapter_4,
    chapter_5,
    chapter_6,
    chapter_7,
    chapter_8,
)
from jaxprop_explorer.lessons.parts import Lesson as Lesson

CHAPTERS = (chapter_1, chapter_2, chapter_3, chapter_4, chapter_5, chapter_6, chapter_7, chapter_8)
LESSONS: Mapping[int, Lesson] = {each.number: each for chapter in CHAPTERS for each in chapter.LESSONS}
"""The lessons by the number of their row, in the order of the chapters."""


def lesson(number: int) -> Lesson:
    """Return the lesson of a row."""
    if number not in LESSONS:
        raise JaxpropError(f"there are lessons 1 to {max(LESSONS)}, one for each row of the article; found {number}")
    return LESSONS[number]
