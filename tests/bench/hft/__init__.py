"""Our matching engine held against hftbacktest's, on one stream with one rule. See docs/HFTBACKTEST.md."""
