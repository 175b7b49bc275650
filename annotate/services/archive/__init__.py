"""An archive: all that is known of how a project's data came to be, in one file, from which it is restored elsewhere.

An archive is a zip file with a member of JSON Lines for each kind of row and a manifest::

    manifest.json          form of the archive, the project, rows, bytes and SHA-256 of every other member
    rows/prompts.jsonl     one row a line, in the order of their numbers
    weights/0/…            files of model folders, where they were asked for

What is in it is the table in :mod:`annotate.services.archive.kinds`. Rows keep the numbers that they had where the
project was made (:mod:`annotate.services.numbering`), however often it was restored, so an archive of the restored
project is equal byte by byte. Nothing in it tells when or where it was made.
"""
