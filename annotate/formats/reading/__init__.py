"""Reading preference data: files into records, records into rows that one project can hold.

``opening`` tells what kind of file it is and gives its records one by one; ``catalogue`` lists the formats and
recognises them; the other modules each turn the records of some formats into rows. No module here knows the
database. A file that cannot be read on raises :class:`~annotate.formats.reading.problems.Unreadable`; a record that
is wrong is yielded with the reason, so that one report can name them all.
"""
