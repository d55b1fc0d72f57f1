"""What a teacher makes of the notebooks: a site, slides, a handbook, and a clean copy for a class.

The notebooks stay as they are. What belongs to a lesson alone, minutes and notes, stands beside them in
notebooks/teaching.csv.
"""
