"""The documentation site: notebooks as they were run, how-tos, theorems with all that hangs on them, API.

from projsym.book import build_book
build_book(Path("."), Path("build/book"))   # what `projsym book` does
"""

from projsym.book.build import build_book

__all__ = ["build_book"]
