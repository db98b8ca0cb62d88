"""The go-live checklist, as measurements: fourteen items with their figures, by the real daemon at the venue."""
