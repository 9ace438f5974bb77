"""What a run came to: official scores, intervals, paired tests, where the defence fails, what it costs.

    metrics = measure(Path("runs/first"))        # reads records and judgments, asks nobody anything
    write(metrics, Path("runs/first"))           # metrics.json and outcomes.jsonl

`result` holds the shapes; one small file a benchmark holds its rules; docs/scores.md tells them in words.
"""
